"""Data made to follow one size are decided for that size, and data that follow neither or both are not decided."""

import numpy as np
import pandas as pd
import pytest

from analysis.claims import Predicts
from analysis.compare import beside_control, compare, resample
from analysis.verdicts import decide

DENSE = [(3152, 16), (4688, 32), (7760, 64), (10832, 96)]
MOE = [(7888, 4816, 4), (14160, 4944, 8), (26704, 5200, 16)]
MEMORY = Predicts(name="m", statement="s", task="t", metric="y", form="power", predictor="N_total", rival="N_active")
REASONING = Predicts(name="r", statement="s", task="t", metric="y", form="logistic", predictor="N_active", rival="N_total")


def runs(rate: float, form: str, noise: float = 0.02, seeds: int = 2, seed: int = 0, shapes=(DENSE, MOE)) -> pd.DataFrame:
    """Runs whose metric follows N_active + rate (N_total - N_active)."""
    draw = np.random.default_rng(seed)
    dense, moe = shapes
    configurations = [(n, n, f, 1) for n, f in dense] + [(total, active, 16, e) for total, active, e in moe]
    rows = []
    for total, active, d_ff, experts in configurations:
        effective = active + rate * (total - active)
        for s in range(seeds):
            if form == "power":
                y = 2.0 * effective**0.8 * 10 ** draw.normal(0, noise)
            else:
                y = 1 / (1 + np.exp(-(np.log(effective) - 8.8) * 2 + draw.normal(0, 5 * noise)))
            label = f"E{experts}" if experts > 1 else f"f{d_ff}"
            about = {
                "task": "t",
                "kind": "MoE" if experts > 1 else "dense",
                "d_model": 16,
                "n_layers": 2,
                "lr": 0.01,
                "seed": s,
            }
            sizes = {"N_total": total, "N_active": active, "d_ff": d_ff, "n_experts": experts, "top_k": min(experts, 2)}
            rows.append({**about, **sizes, "configuration": label, "label": label, "y": y, "y.n": 1000, "status": "done"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(3))
def test_what_follows_total_parameters_is_found_to(seed):
    decision = decide(MEMORY, runs(1.0, "power", seed=seed))
    assert decision.verdict == "supported"
    found = compare(runs(1.0, "power", seed=seed), "y", "power", "N_total", "N_active")
    assert found.rate.low <= 1 <= found.rate.high
    assert found.error < found.rival_error


@pytest.mark.parametrize("seed", range(3))
def test_what_follows_active_parameters_is_found_to(seed):
    decision = decide(REASONING, runs(0.0, "logistic", noise=0.01, seed=seed))
    assert decision.verdict == "supported"
    found = compare(runs(0.0, "logistic", noise=0.01, seed=seed), "y", "logistic", "N_active", "N_total")
    assert found.rate.low == 0
    assert found.rate.high < 0.3


def test_a_claim_that_the_data_deny_is_contradicted():
    assert decide(MEMORY, runs(0.0, "power")).verdict == "contradicted"
    assert decide(REASONING, runs(1.0, "logistic")).verdict == "contradicted"


def test_noise_that_drowns_the_sizes_leaves_it_undecided():
    assert decide(MEMORY, runs(1.0, "power", noise=1.0)).verdict == "undecided"


def test_dense_models_alone_cannot_tell_total_from_active():
    decision = decide(MEMORY, runs(1.0, "power", shapes=([*DENSE, (20000, 200)], [])))
    assert decision.verdict == "undecided"
    assert decision.found.interval.value == 0


def test_fewer_than_five_configurations_give_a_direction_only():
    decision = decide(MEMORY, runs(1.0, "power", shapes=(DENSE[:2], MOE[:2])))
    assert decision.verdict == "direction only"
    assert "(towards it)" in decision.headline


def test_too_few_configurations_are_said_to_be_too_few():
    decision = decide(MEMORY, runs(1.0, "power", shapes=(DENSE[:1], MOE[:1])))
    assert (decision.verdict, decision.found) == ("undecided", None)
    assert "2 configurations with a value, and leaving one out needs 3" in decision.evidence


def test_a_metric_that_nobody_measured_is_undecided():
    assert decide(MEMORY, runs(1.0, "power").drop(columns="y")).verdict == "undecided"


def test_a_failed_run_has_no_part_in_it_and_is_not_a_zero():
    whole = runs(1.0, "power")
    holed = whole.copy()
    holed.loc[[0, 9], "y"] = np.nan
    found = compare(holed, "y", "power", "N_total", "N_active")
    assert found.runs == len(whole) - 2
    assert found.error == pytest.approx(compare(whole, "y", "power", "N_total", "N_active").error, abs=0.02)


def test_nothing_stored_has_no_logarithm_and_is_left_out():
    holed = runs(1.0, "power")
    holed.loc[0, "y"] = 0.0
    assert compare(holed, "y", "power", "N_total", "N_active").runs == len(holed) - 1


def test_a_comparison_is_the_same_twice():
    frame = runs(0.5, "power")
    assert compare(frame, "y", "power", "N_total", "N_active") == compare(frame, "y", "power", "N_total", "N_active")


def test_a_kind_of_which_there_is_one_gives_a_direction_only():
    """It stands in every resample as it is, so nothing says how another would have done."""
    decision = decide(MEMORY, runs(1.0, "power", shapes=(DENSE, MOE[:1])))
    assert decision.verdict == "direction only"


def test_scores_that_follow_no_size_are_rarely_decided():
    """Six dense and three MoE configurations at three widths, as quickstart had them at first: 40 draws of pure chance."""
    widths = [(3152, 16), (4688, 32), (12448, 32), (18592, 64), (49472, 64), (74048, 128)]
    sparse = [(14160, 4944, 8), (55968, 19104, 9), (222528, 75072, 10)]
    decided = 0
    for seed in range(40):
        draw = np.random.default_rng(seed)
        frame = runs(0.0, "logistic", seeds=2, shapes=(widths, sparse))
        level = {name: draw.uniform(0.1, 0.95) for name in frame["configuration"].unique()}
        frame["y"] = [np.clip(level[name] * draw.normal(1, 0.03), 0.001, 0.999) for name in frame["configuration"]]
        found = compare(frame, "y", "logistic", "N_active", "N_total", resamples=200)
        decided += not found.difference.low <= 0 <= found.difference.high
    assert decided <= 4


def test_resamples_keep_each_stratum_and_draw_whole_configurations():
    config = np.repeat(np.arange(7), 2)
    stratum = np.repeat(["dense"] * 4 + ["MoE"] * 3, 2)
    w = resample(config, stratum, 200)
    assert (w[:, stratum == "dense"].sum(1) == 8).all()
    assert (w[:, stratum == "MoE"].sum(1) == 6).all()
    assert all(per % 2 == 0 for row in w for per in np.bincount(config, row))


def test_an_moe_stands_beside_the_dense_model_of_its_active_size():
    frame = runs(1.0, "power", noise=0.0)
    table = beside_control(frame, "y")
    assert list(zip(table["label"], table["control"], strict=True)) == [("E4", "f32"), ("E8", "f32"), ("E16", "f32")]
    assert (table["difference"] > 0).all()
    assert table["low"].tolist() == pytest.approx(table["difference"].tolist())  # no spread between seeds


def test_the_interval_beside_the_control_covers_the_truth_as_often_as_it_says():
    """500 draws of two equal groups: 95 % intervals miss in 5 %, with a standard error of 1 %."""
    missed = 0
    for seed in range(500):
        draw = np.random.default_rng(seed)
        frame = runs(1.0, "power", shapes=(DENSE[1:2], MOE[:1]), seeds=3)
        frame["y"] = draw.normal(10, 1, len(frame))
        (row,) = beside_control(frame, "y").itertuples()
        missed += not row.low <= 0 <= row.high
    assert 0.02 <= missed / 500 <= 0.08
