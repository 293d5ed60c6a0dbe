"""Each kind of claim is supported by data made to bear it out, contradicted by data that deny it, and undecided between."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.claims import Contrast, Offset, Rate, Threshold
from analysis.compare import Estimate
from analysis.contrast import contrast, offset
from analysis.fit import censored, linear
from analysis.threshold import readings
from analysis.verdicts import decide, family, holm, p_value, verdict

from .test_compare import runs

SHARED = {"name": "c", "statement": "s", "task": "t", "metric": "y"}
FIELD = {"field": "model.ffn.router", "value": "hash", "other": "top_k", "matched": ("seed",)}
ROUTERS = {**SHARED, **FIELD, "form": "logistic"}


def offset_claim(form: str, side: str, margin: float) -> Offset:
    return Offset(**SHARED, form=form, at="N_total", side=side, margin=margin)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shift", "side", "margin", "verdict"),
    [
        (0.0, "equal", 0.15, "supported"),
        (0.4, "equal", 0.15, "contradicted"),
        (0.4, "above", 0.1, "supported"),
        (0.4, "below", 0.0, "contradicted"),
        (-0.4, "below", 0.1, "supported"),
    ],
)
def test_the_distance_of_moe_from_dense_at_equal_size_is_what_was_put_there(shift, side, margin, verdict, seed):
    frame = runs(1.0, "power", seed=seed)
    frame["y"] *= 10 ** (shift * (frame["kind"] == "MoE"))
    decision = decide(offset_claim("power", side, margin), frame)
    assert decision.verdict == verdict
    assert decision.found.interval.value == pytest.approx(shift, abs=0.05)


def test_the_distance_of_a_share_is_in_accuracy():
    frame = runs(1.0, "logistic", noise=0.0)
    assert abs(offset(frame, "y", "logistic", "N_total").distance.value) < 0.01
    moe = frame["kind"] == "MoE"
    odds = frame["y"] / (1 - frame["y"]) * np.exp(1.0 * moe)
    shifted = frame.assign(y=odds / (1 + odds))
    expected = (shifted["y"] - frame["y"])[moe].mean()
    assert offset(shifted, "y", "logistic", "N_total").distance.value == pytest.approx(expected, abs=0.01)


def test_an_offset_needs_both_kinds():
    decision = decide(offset_claim("power", "equal", 0.1), runs(1.0, "power", shapes=([(3000, 1), (4000, 2), (5000, 3)], [])))
    assert decision.verdict == "undecided"
    assert "3 dense and 0 MoE" in decision.evidence


@pytest.mark.parametrize(("rate", "verdict"), [(0.0, "supported"), (1.0, "contradicted")])
def test_the_worth_of_an_inactive_parameter_is_found(rate, verdict):
    claim = Rate(**SHARED, form="power", most=0.2)
    assert decide(claim, runs(rate, "power", noise=0.005)).verdict == verdict


def routed(gap: float, noise: float, pairs: int = 5) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    rows = []
    for pair in range(pairs):
        for router, shift in (("top_k", 0.0), ("hash", gap)):
            y = 0.3 + 0.1 * pair + shift + draw.normal(0, noise)
            declared = json.dumps({"model": {"ffn": {"router": router}}, "seed": pair})
            about = {"task": "t", "kind": "MoE", "seed": pair, "configuration": router, "declared": declared}
            rows.append({**about, "y": y, "y.n": 1000, "status": "done"})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("gap", "noise", "side", "verdict"),
    [
        (0.0, 0.01, "equal", "supported"),
        (0.2, 0.01, "equal", "contradicted"),
        (0.2, 0.01, "above", "supported"),
        (-0.2, 0.01, "above", "contradicted"),
        (0.06, 0.1, "above", "undecided"),
    ],
)
def test_pairs_that_differ_in_one_field_tell_what_it_does(gap, noise, side, verdict):
    claim = Contrast(**ROUTERS, side=side, margin=0.05)
    assert decide(claim, routed(gap, noise)).verdict == verdict
    assert decide(claim, routed(gap, noise, pairs=2)).verdict == "direction only"


def test_pairing_takes_out_what_the_pairs_share():
    """Scores spread over .4 between pairs; within pairs they differ by .05, which is found."""
    found = contrast(routed(0.05, 0.001), "y", "logistic", "model.ffn.router", ("hash", "top_k"), ("seed",))
    assert found.distance.low > 0.04
    assert (found.pairs, found.runs) == (5, 10)


def test_models_that_have_not_a_field_agree_in_it():
    frame = routed(0.05, 0.001)
    one = json.dumps({"model": {"ffn": {"router": "hash", "n_experts": 4}}, "seed": 99})
    other = frame.iloc[:1].assign(seed=99, declared=one)  # has it, and nobody beside it
    matched = ("seed", "model.ffn.n_experts")
    found = contrast(pd.concat([frame, other]), "y", "logistic", "model.ffn.router", ("hash", "top_k"), matched)
    assert (found.pairs, found.runs) == (5, 10)


def test_a_field_that_no_run_has_makes_no_pairs():
    with pytest.raises(ValueError, match="sede"):
        contrast(routed(0.05, 0.001), "y", "logistic", "model.ffn.router", ("hash", "top_k"), ("sede",))


def test_a_contrast_tells_of_values_that_are_bounds():
    frame = routed(0.2, 0.01)
    claim = Contrast(**ROUTERS, side="above", margin=0.05)
    assert "bound" not in decide(claim, frame).evidence
    told = decide(claim, frame.assign(**{"y.side": [1.0] + [0.0] * (len(frame) - 1)})).evidence
    assert "Of 1 runs only a bound is known" in told


def sized(scores: dict[int, float], **about) -> pd.DataFrame:
    shape = {
        "task": "t",
        "kind": "dense",
        "label": "d16",
        "N_total": 1,
        "N_active": 1,
        "lr": 0.01,
        "seed": 0,
        "n": 100,
        **about,
    }
    return pd.DataFrame(
        [
            {**shape, "exact": score, "declared": json.dumps({"task": {"n_entries": size}, "training": {"steps": 3 * size}})}
            for size, score in scores.items()
        ]
    )


@pytest.mark.parametrize(
    ("scores", "value", "censored", "misses"),
    [
        ({100: 1.0, 200: 0.95, 400: 0.4}, 200, "", 0),
        ({400: 0.4, 100: 1.0, 200: 0.95}, 200, "", 0),
        ({100: 1.0, 200: 0.8, 400: 0.91, 800: 0.1}, 400, "", 1),
        ({100: 1.0, 200: 1.0}, 200, "above 200", 0),
        ({100: 0.5, 200: 0.4}, np.nan, "below 100", 0),
    ],
)
def test_the_largest_size_known_is_read_off_as_the_paper_does(scores, value, censored, misses):
    read = readings(sized(scores), Threshold(axis="task.n_entries", metric="exact", target=0.9))
    assert read[["value", "censored", "failed_below"]].to_dict("records") == [
        {"value": pytest.approx(value, nan_ok=True), "censored": censored, "failed_below": misses}
    ]


def test_a_crossing_lies_between_the_values_that_enclose_it_on_a_log_scale():
    read = readings(
        sized({8: 0.1, 16: 0.5, 32: 0.9, 64: 1.0}),
        Threshold(axis="task.n_entries", metric="exact", target=0.7, reading="crossing"),
    )
    assert read["value"].item() == pytest.approx(np.sqrt(16 * 32))


def test_sizes_of_a_list_alone_are_read_where_a_list_is_given():
    frame = sized({100: 1.0, 120: 1.0, 141: 0.7})
    read = readings(frame, Threshold(axis="task.n_entries", metric="exact", target=0.9, among=(100, 141)))
    assert read["value"].tolist() == [100]


def test_an_estimate_reads_as_value_and_interval():
    assert f"{Estimate(0.5, 0.25, 0.75):.2f}" == "0.50 [0.25, 0.75]"


def test_holm_holds_the_least_to_the_strictest_and_never_falls():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_a_claim_that_holds_alone_but_not_in_its_family_is_undecided_and_says_so():
    """Five pairs whose p is .03: enough alone, not among two."""
    claim = Contrast(**ROUTERS, side="above", margin=0.0)
    frame = routed(0.06, 0.03)
    assert decide(claim, frame).verdict == "supported"
    p = p_value(claim, decide(claim, frame).found.interval)
    count = int(0.05 / p) + 2
    decisions = family([claim] * count, frame)
    assert {d.verdict for d in decisions} == {"undecided"}
    assert "Alone it would be supported" in decisions[0].evidence


def test_equivalence_is_two_one_sided_tests():
    """Of an interval whose 90 % lies within the margins and whose 95 % does not."""
    claim = offset_claim("power", "equal", 0.1)
    estimate = Estimate(0.0, -0.11, 0.11)
    assert max(map(abs, estimate.narrow)) < 0.1
    assert verdict(claim, estimate) == "supported"
    assert verdict(claim, Estimate(0.0, -0.13, 0.13)) == "undecided"
    assert verdict(claim, Estimate(0.2, 0.11, 0.29)) == "contradicted"


def test_what_is_only_known_to_lie_beyond_a_bound_bends_a_line_less_than_the_bound_would():
    """A third of the values are cut off at the largest size tried; the slope is 1."""
    draw = np.random.default_rng(0)
    x = np.linspace(0, 1, 60)
    y = x + draw.normal(0, 0.05, 60)
    side = (y > 0.66).astype(float)
    design = np.column_stack([np.ones(60), x])
    ((_, slope),) = censored(design, np.minimum(y, 0.66), side, np.ones((1, 60)))
    ((_, naive),) = linear(design, np.minimum(y, 0.66), np.ones((1, 60)))
    assert slope == pytest.approx(1, abs=0.06)
    assert naive < 0.85


def test_an_undecided_claim_says_what_would_decide_it():
    frame = runs(1.0, "power", noise=0.15, seeds=2)
    decision = decide(offset_claim("power", "equal", 0.2), frame)
    assert decision.verdict == "undecided"
    assert "configurations" in decision.more


def test_per_cent_where_a_share_belongs_is_refused_with_the_remedy():
    frame = runs(0.0, "logistic")
    frame["y"] *= 100
    decision = decide(offset_claim("logistic", "equal", 0.1), frame)
    assert decision.verdict == "undecided"
    assert "divide it by 100" in decision.evidence
