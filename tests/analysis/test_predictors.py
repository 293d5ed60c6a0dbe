"""All sizes side by side, on tables of which it is known what they follow."""

import numpy as np
import pandas as pd
import pytest

from analysis.compare import profile, tied
from analysis.described import described
from analysis.predictors import axes, criteria
from analysis.rates import movement

from .tables import described_models, language_models
from .test_compare import DENSE, MOE, runs


@pytest.fixture(scope="module")
def knowledge():
    return axes(described_models(), "knowledge", "logistic")


def test_the_size_that_a_metric_follows_comes_first_by_every_measure(knowledge):
    single = knowledge.ranking[~knowledge.ranking["predictor"].str.contains(" and ")]
    best = single.iloc[0]
    assert best["predictor"] == "N_total"
    others = knowledge.ranking[knowledge.ranking["predictor"].isin(["N_active", "width", "perplexity"])]
    for measure in ("left_out", "extrapolated", "AICc", "BIC"):
        assert (others[measure] > best[measure]).all()
    assert all(one.low > 0 for one in others["behind"])


def test_predictors_that_cannot_be_tried_are_absent_with_a_reason(knowledge):
    assert knowledge.absent["tokens a parameter"] == "it goes with N_total in every run"
    assert "flops" in knowledge.absent["FLOPs"]


def test_an_inactive_parameter_is_worth_an_active_one_to_what_follows_the_total(knowledge):
    low, high = knowledge.profile
    assert low <= knowledge.rate.value <= high
    assert knowledge.rate.value == pytest.approx(1, abs=0.2)
    assert "1/r" in knowledge.worth


def test_moe_stand_beside_dense_models_at_equal_total_active_and_perplexity(knowledge):
    assert set(knowledge.offsets) == {"N_total", "N_active", "perplexity"}
    assert knowledge.offsets["N_total"].value == pytest.approx(0, abs=0.02)
    assert knowledge.offsets["N_active"].low > 0


def test_a_grid_that_varies_no_ffn_width_cannot_tell_active_parameters_from_width(knowledge):
    assert "cannot tell N_active from width" in knowledge.tied
    assert tied(runs(1.0, "power")) == ""


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_a_profile_of_the_rate_holds_what_was_put_there(rate):
    low, high = profile(runs(rate, "power", noise=0.01), "y", "power")
    assert low <= rate <= high
    assert high - low < 1


def test_a_profile_with_no_more_configurations_than_parameters_tells_nothing():
    assert profile(runs(1.0, "power", shapes=(DENSE[:2], MOE[:1])), "y", "power") == (0.0, 3.0)


def test_criteria_want_more_configurations_than_parameters_and_punish_each():
    assert np.isnan(criteria(1.0, 4, 3)).all()
    (aicc, bic), (more, bic_more) = criteria(1.0, 20, 3), criteria(1.0, 20, 4)
    assert more > aicc
    assert bic_more > bic


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.rename(columns={"N_total": "Params"}), "no column 'N_total'"),
        (lambda t: t.drop(columns="N_active"), "MoE need N_active"),
        (lambda t: t.assign(kind="sparsely gated"), "has to be dense or MoE"),
    ],
)
def test_a_table_that_lacks_what_comparing_needs_is_refused_in_one_line(change, word):
    with pytest.raises(ValueError, match=word) as caught:
        described(change(language_models()))
    assert "\n" not in str(caught.value)


def test_seeds_of_one_shape_are_one_configuration():
    frame = described(language_models(seeds=2).drop(columns="model"))
    assert frame.groupby("configuration").size().tolist() == [2] * 8
    assert set(frame["kind"]) == {"dense", "MoE"}


def test_how_the_best_learning_rate_moves_is_found_and_edges_are_bounds():
    """Best rates of 3e-3 (N / 1e7)^-.5: one of the rates tried in each configuration, the largest model at the lowest."""
    frame = described_models().assign(status="done", lr=0.0)
    frame["lr"] = 3e-3 * (frame["N_active"] / 1e7) ** -0.5
    tried = frame.assign(lr=frame["lr"].min())
    found = movement(frame, pd.concat([tried, frame, frame.assign(lr=1.0)]))
    assert found.exponents["N_active"].value == pytest.approx(-0.5, abs=0.1)
    assert found.exponents["n_experts"].value == pytest.approx(0, abs=0.05)
    assert found.at_edge == 1
    with pytest.raises(ValueError, match="1 learning rates tried"):
        movement(frame.assign(lr=0.1), frame.assign(lr=0.1))
