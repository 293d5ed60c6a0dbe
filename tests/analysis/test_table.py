import math
import warnings

import pandas as pd
import pytest

from analysis.claims import COLUMNS
from analysis.table import curves, load, with_best_lr
from parrots.measurement import Measurement

from ..conftest import BOOK, MOE, PATH
from ..test_record import record
from .tables import described_models


def done(trial, results, loss: float, score: float = 0.5, **changes) -> str:
    measured = [
        Measurement("loss", 10, loss + 1, math.nan, 1),
        Measurement("loss", 20, loss, math.nan, 1),
        Measurement("exact_match", 20, score, 0.05, 100),
    ]
    record(trial, measurements=measured, **changes).write(results)
    return trial.id


def test_a_row_has_declared_fields_counts_and_final_metrics(make_trial, tmp_path):
    trial = make_trial(MOE, seed=3)
    frame = load(tmp_path, [done(trial, tmp_path, 2.0)])
    (row,) = frame.to_dict("records")
    assert (row["kind"], row["n_experts"], row["top_k"], row["seed"], row["lr"]) == ("MoE", 4, 2, 3, 0.01)
    assert row.keys() >= set(COLUMNS)
    assert (row["N_total"], row["N_active"]) == (trial.total.N, trial.active.N)
    assert (row["loss"], row["exact_match"], row["exact_match.stderr"], row["exact_match.n"]) == (2.0, 0.5, 0.05, 100)


def test_a_failed_trial_is_there_with_its_reason_and_without_a_score(make_trial, tmp_path):
    good, bad, unrun = make_trial(seed=0), make_trial(seed=1), make_trial(seed=2)
    done(good, tmp_path, 2.0)
    record(bad, "failed", [], reason="first").write(tmp_path)
    record(bad, "oom", [], reason="out of memory", attempt=12).write(tmp_path)
    record(bad, "failed", [], reason="second", attempt=2).write(tmp_path)
    frame = load(tmp_path, [bad.id, good.id, unrun.id])
    assert list(frame.index) == [bad.id, good.id]
    assert (frame.loc[bad.id, "status"], frame.loc[bad.id, "reason"]) == ("oom", "out of memory")
    assert math.isnan(frame.loc[bad.id, "exact_match"])


def test_a_trial_that_succeeded_in_the_end_is_done(make_trial, tmp_path):
    trial = make_trial()
    record(trial, "failed", [], reason="first").write(tmp_path)
    done(trial, tmp_path, 2.0)
    assert list(load(tmp_path, [trial.id])["status"]) == ["done"]


def test_seeds_and_learning_rates_are_of_one_configuration(make_trial, tmp_path):
    trials = [make_trial(seed=0), make_trial(seed=1), make_trial(lr=0.5), make_trial(MOE)]
    frame = load(tmp_path, [done(t, tmp_path, 2.0) for t in trials])
    assert frame["configuration"].nunique() == 2
    assert frame["label"].tolist() == ["d16-f32", "d16-f32", "d16-f32", "d16-E4k2"]


def test_the_learning_rate_is_chosen_by_mean_training_loss_and_the_score_has_no_say(make_trial, tmp_path):
    losses = {0.1: [2.0, 2.2], 0.2: [1.9, 2.5]}  # 0.2 has the best single seed, and below the best scores
    ids = [
        done(make_trial(lr=lr, seed=s), tmp_path, loss, score=lr)
        for lr, seeds in losses.items()
        for s, loss in enumerate(seeds)
    ]
    chosen = with_best_lr(load(tmp_path, ids))
    assert chosen["lr"].tolist() == [0.1, 0.1]


def test_a_task_with_a_validation_loss_is_chosen_by_it_and_one_without_by_the_training_loss(make_trial, tmp_path):
    ids = []
    for task in (PATH, BOOK):
        for lr, validation, training in ((0.1, 1.0, 3.0), (0.2, 2.0, 1.0)):
            trial = make_trial(task=task, lr=lr)
            measured = [Measurement("loss", 20, training, 0.1, 5)]
            measured += [Measurement("validation_loss", 20, validation, 0.1, 5)] if task is PATH else []
            record(trial, measurements=measured).write(tmp_path)
            ids.append(trial.id)
    chosen = with_best_lr(load(tmp_path, ids))
    assert dict(zip(chosen["task"], chosen["lr"], strict=True)) == {"length2_path": 0.1, "phonebook": 0.2}


def test_a_table_without_losses_may_have_a_learning_rate_but_no_choice_of_them():
    runs = described_models(seeds=2).drop(columns="validation_loss").assign(lr=0.1)
    assert len(with_best_lr(runs)) == len(runs)
    with pytest.raises(ValueError, match="no run has a loss to choose by"):
        with_best_lr(runs.assign(lr=runs["seed"] + 1.0))


def test_a_diverged_trial_loses_the_choice_and_all_diverged_leave_none(make_trial, tmp_path):
    ids = [done(make_trial(lr=0.1), tmp_path, 3.0)]
    ids += [done(make_trial(lr=0.2), tmp_path, 1.0, status="diverged")]
    ids += [done(make_trial(MOE), tmp_path, 1.0, status="diverged")]
    chosen = with_best_lr(load(tmp_path, ids))
    assert chosen.index.tolist() == ids[:1]


def test_a_failed_trial_does_not_decide_for_the_other_seed(make_trial, tmp_path):
    """Missing is not divergence: the learning rate is chosen on the seeds that ran."""
    ids = [done(make_trial(lr=0.1, seed=s), tmp_path, 3.0) for s in (0, 1)]
    ids.append(done(make_trial(lr=0.2, seed=0), tmp_path, 2.0))
    record(make_trial(lr=0.2, seed=1), "failed", [], reason="x").write(tmp_path)
    ids.append(make_trial(lr=0.2, seed=1).id)
    chosen = with_best_lr(load(tmp_path, ids))
    assert chosen.index.tolist() == [ids[2]]


def test_curves_hold_the_loss_along_the_way(make_trial, tmp_path):
    trial = make_trial()
    done(trial, tmp_path, 2.0)
    assert curves(tmp_path, [trial.id, "absent"])[["step", "value"]].to_numpy().tolist() == [[10, 3.0], [20, 2.0]]


def test_many_metrics_leave_a_frame_that_takes_another_column_without_a_warning(make_trial, tmp_path):
    trial = make_trial()
    measured = [Measurement(f"metric_{i}", 20, i / 60, 0.05, 100) for i in range(60)]
    record(trial, measurements=measured).write(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.PerformanceWarning)
        frame = load(tmp_path, [trial.id]).assign(another=1.0)
    assert frame.loc[trial.id, "metric_30"] == 0.5


def test_no_trials_are_an_empty_frame(tmp_path):
    assert len(load(tmp_path, ["absent"])) == 0


@pytest.mark.parametrize("junk", [b"", b"PAR1"])
def test_a_torn_record_is_named(make_trial, tmp_path, junk):
    trial = make_trial()
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / f"{trial.id}.parquet").write_bytes(junk)
    with pytest.raises(ValueError, match=trial.id):
        load(tmp_path, [trial.id])


def test_models_that_differ_in_depth_or_router_have_names_that_do(make_trial, tmp_path):
    deep, hashed = make_trial().model_dump(), make_trial({**MOE, "router": "hash"})
    deep["model"]["n_layers"] = 3
    trials = [make_trial(), type(hashed).model_validate(deep), make_trial(MOE), hashed]
    for trial in trials:
        record(trial).write(tmp_path)
    labels = list(load(tmp_path, [trial.id for trial in trials])["label"])
    assert labels == ["d16-f32-L2", "d16-f32-L3", "d16-E4k2-L2", "d16-E4k2-hash-L2"]
    alone = load(tmp_path, [trial.id for trial in trials[2:]])
    assert list(alone["label"]) == ["d16-E4k2", "d16-E4k2-hash"]
