import itertools

import numpy as np
import pytest
import torch

from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.run import run_trial
from parrots.tasks.store import load
from parrots.training import trainer
from parrots.training.optim import lr_at
from parrots.training.trainer import batches, divergence, train

from ..conftest import MOE, PATH

# Mean training loss of steps 1, 10 and 20 on one CPU thread. They change when training changes meaning: then bump
# SEMANTICS, and show why in the commit.
GOLDEN = {
    ("phonebook", "dense"): [4.088263, 3.327205, 3.145336],
    ("phonebook", "moe"): [3.961268, 3.159575, 2.892296],
    ("length2_path", "moe"): [4.414866, 2.549813, 2.113723],
}


@pytest.fixture
def place(tmp_path):
    return Placement(tmp_path)


def losses(trial, place) -> list[float]:
    return [m.value for m in run_trial(trial, place).measurements if m.metric == "loss"]


@pytest.mark.parametrize(("task", "ffn"), GOLDEN)
def test_losses_are_the_golden_ones(make_trial, place, task, ffn):
    trial = make_trial(ffn=MOE if ffn == "moe" else None, task=PATH if task == "length2_path" else None)
    curve = losses(trial, place)
    assert [curve[i] for i in (0, 9, 19)] == pytest.approx(GOLDEN[task, ffn], abs=1e-4)


def test_a_trial_gives_the_same_losses_twice(make_trial, place):
    assert losses(make_trial(MOE), place) == losses(make_trial(MOE), place)


def test_seeds_differ_in_weights_and_in_order(make_trial, place):
    assert losses(make_trial(seed=0), place)[0] != losses(make_trial(seed=1), place)[0]


def test_the_backend_changes_nothing_beyond_rounding(make_trial, tmp_path):
    fast, reference = (losses(make_trial(MOE), Placement(tmp_path, backend=b)) for b in ("grouped", "loop"))
    assert fast == pytest.approx(reference, abs=2e-5)


def test_workers_share_out_each_global_batch(make_trial, tmp_path):
    trial = make_trial(batch_size=20, steps=7)
    examples = load(trial.task, "train", tmp_path)
    alone = list(batches(trial, examples, Placement(tmp_path)))
    shares = [list(batches(trial, examples, Placement(tmp_path, rank=r, world=4))) for r in range(4)]
    for whole, *parts in zip(alone, *shares, strict=True):
        assert torch.equal(torch.cat([part.inputs_BS for part in parts]), whole.inputs_BS)
        assert torch.equal(torch.cat([part.targets_C for part in parts]), whole.targets_C)
        assert {part.counted for part in parts} == {whole.counted}


def test_an_epoch_ends_within_a_batch_and_every_example_is_met_equally_often(make_trial, tmp_path):
    trial = make_trial(batch_size=25, steps=12)  # 300 = 5 x 60 entries
    examples = load(trial.task, "train", tmp_path)
    met = np.concatenate([batch.inputs_BS.numpy() for batch in batches(trial, examples, Placement(tmp_path))])
    _, times = np.unique(met, axis=0, return_counts=True)
    assert times.tolist() == [5] * 60


def test_a_batch_that_workers_cannot_share_is_refused(make_trial, tmp_path):
    trial = make_trial(batch_size=20)
    with pytest.raises(ValueError, match="batch_size=20: must be a multiple of the 3 workers"):
        next(batches(trial, load(trial.task, "train", tmp_path), Placement(tmp_path, world=3)))


def test_loss_counts_only_what_the_task_counts(make_trial, tmp_path):
    trial = make_trial(task=PATH)
    batch = next(batches(trial, load(trial.task, "train", tmp_path), Placement(tmp_path)))
    n = trial.task.n_vertices
    assert batch.counted == len(batch.targets_C) == 20 * 3
    assert (batch.targets_C >= n * n + 2 * n).all()


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_rises_to_its_peak_and_falls_to_nearly_nothing(make_trial, schedule):
    training = make_trial(steps=100, warmup=0.2, lr=1.0, schedule=schedule).training
    rates = [lr_at(training, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == pytest.approx(1.0) == rates[19]
    assert all(a < b for a, b in itertools.pairwise(rates[:20]))
    assert all(a > b for a, b in itertools.pairwise(rates[19:]))
    assert 0 < rates[-1] < 0.02


def test_without_warmup_it_begins_at_its_peak(make_trial):
    assert lr_at(make_trial(warmup=0.0, lr=0.5).training, 0) == 0.5


def test_nan_ends_a_trial_as_diverged_which_is_a_result_without_a_score(make_trial, place, monkeypatch):
    real = trainer.train_step
    calls = itertools.count(1)

    def step(*args):
        return real(*args) * (float("nan") if next(calls) >= 8 else 1)

    monkeypatch.setattr(trainer, "train_step", step)
    record = run_trial(make_trial(), place)
    assert (record.status, record.steps) == ("diverged", 8)
    assert "not a finite number by step 8" in record.reason
    assert {m.metric for m in record.measurements} == {"loss"}


def test_a_loss_that_stays_above_its_start_is_divergence_and_one_that_falls_is_not(make_trial):
    training = make_trial(steps=1000, warmup=0.1).training
    assert divergence([2.0] * 100 + [2.2] * 100, training)
    assert not divergence([2.0] * 100 + [2.05] * 100, training)
    assert not divergence([2.0] + [5.0] * 150, training)  # warm-up and a hundred steps are not over


def test_training_learns_a_book_by_heart(make_trial, place):
    trial = make_trial(
        ffn={"kind": "dense", "d_ff": 64},
        task={"kind": "phonebook", "n_entries": 20, "n_test": 20},
        steps=300,
        batch_size=20,
        lr=2e-2,
        schedule="cosine",
    )
    final = {m.metric: m.value for m in run_trial(trial, place).measurements}
    assert final["exact_match"] == 1.0


def test_progress_tells_steps_and_tokens(make_trial, tmp_path):
    seen = []
    trial = make_trial(steps=250)
    model = Transformer(trial.model, trial.task.vocab_size, trial.task.seq_len - 1)
    model.initialize(0)
    train(model, trial, load(trial.task, "train", tmp_path), Placement(tmp_path, progress=seen.append))
    assert [p.step for p in seen] == [*range(3, 250, 3), 250]
    assert seen[-1].tokens == trial.tokens
