"""Slopes and peaks are those that were put into a table, and the papers' claims are decided by tables that are made for it."""

import numpy as np
import pandas as pd
import pytest

from analysis.claims import Offset, Peak, Rate, Slope
from analysis.contrast import offset
from analysis.missing import bounded, turned_over
from analysis.paper_claims import PAPERS, PARROTS
from analysis.surface import peak, slope
from analysis.verdicts import decide

from .tables import described_models
from .test_compare import runs

SHARED = {"name": "c", "statement": "s", "task": "t", "metric": "y"}


def sparse_models(score, noise: float = 0.01) -> pd.DataFrame:
    """Models of which tokens a parameter and active parameters vary apart from each other."""
    draw, rows = np.random.default_rng(1), []
    for i, tpp in enumerate((2, 5, 10, 20, 40, 80, 160)):
        for active in (1e8, 4e8):
            shape = {"kind": "MoE" if i % 2 else "dense", "configuration": f"{tpp}-{active}", "N_active": active}
            rows.append({**shape, "tpp": tpp, "task": "t", "seed": 0, "y": score(tpp, active) + draw.normal(0, noise)})
    return pd.DataFrame(rows)


def test_a_slope_for_each_doubling_is_found_beside_what_else_varies():
    frame = sparse_models(lambda tpp, active: 3 - 0.1 * np.log2(tpp) + 0.5 * np.log2(active))
    assert slope(frame, "y", "linear", "tpp", ("N_active",)).distance.value == pytest.approx(-0.1, abs=0.01)
    assert slope(frame, "y", "linear", "N_active", ("tpp",)).distance.value == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="do not vary tpp at equal tpp"):
        slope(frame, "y", "linear", "tpp", ("tpp",))


def test_a_slope_of_a_share_is_in_accuracy():
    frame = sparse_models(lambda tpp, active: 0.5 - 0.01 * np.log2(tpp), noise=0.001)
    assert slope(frame, "y", "logistic", "tpp").distance.value == pytest.approx(-0.01, abs=0.001)


@pytest.mark.parametrize(("top", "verdict"), [(20, "supported"), (120, "contradicted")])
def test_a_peak_lies_where_it_was_put(top, verdict):
    frame = sparse_models(lambda tpp, _: 1 - 0.2 * np.log10(tpp / top) ** 2)
    assert 10 ** peak(frame, "y", "linear", "tpp").distance.value == pytest.approx(top, rel=0.2)
    assert decide(Peak(**SHARED, form="linear", along="tpp", least=10, most=40), frame).verdict == verdict


def test_values_that_are_only_bounds_count_as_bounds_in_slopes_and_peaks():
    """All above a line are known to lie above it and no more. Taken for values they flatten the slope and move the top."""

    def hidden(frame: pd.DataFrame, above: float) -> pd.DataFrame:
        beyond = frame["y"] > above
        assert 3 < beyond.sum() < len(frame) / 2
        return frame.assign(**{"y": frame["y"].clip(upper=above), "y.side": beyond.astype(float)})

    rising = hidden(sparse_models(lambda tpp, _: 0.1 * np.log2(tpp)), 0.45)
    assert slope(rising, "y", "linear", "tpp").distance.value == pytest.approx(0.1, abs=0.01)
    assert slope(rising.drop(columns="y.side"), "y", "linear", "tpp").distance.value < 0.08
    peaked = hidden(sparse_models(lambda tpp, _: 1 - 0.2 * np.log10(tpp / 150) ** 2, noise=0.003), 0.96)
    assert 10 ** peak(peaked, "y", "linear", "tpp").distance.value == pytest.approx(150, rel=0.1)
    assert 10 ** peak(peaked.drop(columns="y.side"), "y", "linear", "tpp").distance.value < 120


def test_a_curve_that_only_rises_has_no_peak_within_reach():
    frame = sparse_models(lambda tpp, _: np.log10(tpp))
    assert decide(Peak(**SHARED, form="linear", along="tpp", least=10, most=40), frame).verdict == "contradicted"


def test_a_slope_within_its_margin_is_supported_by_two_one_sided_tests():
    claim = Slope(**SHARED, form="linear", along="tpp", side="equal", margin=0.05)
    assert decide(claim, sparse_models(lambda *_: 1.0)).verdict == "supported"
    assert decide(claim, sparse_models(lambda tpp, _: 0.2 * np.log2(tpp))).verdict == "contradicted"


def test_a_lead_sets_an_moe_beside_a_dense_model_so_many_times_its_size():
    frame = runs(1.0, "power", noise=0.0)  # y = 2 N_total^.8
    equal, ahead = (offset(frame, "y", "power", "N_total", lead).distance.value for lead in (1, 10))
    assert equal - ahead == pytest.approx(0.8, abs=1e-6)


def test_a_claim_may_be_about_large_models_alone():
    frame = runs(1.0, "power")
    some = Offset(**SHARED, form="power", at="N_total", side="equal", margin=0.2, at_least={"N_total": 7000})
    assert decide(some, frame).found.cells == 5


def test_what_follows_active_parameters_is_undecided_where_width_follows_them():
    frame = described_models()
    claim = Rate(**{**SHARED, "task": "runs", "metric": "commonsense"}, form="logistic", most=0.5)
    decision = decide(claim, frame)
    assert decision.verdict == "undecided"
    assert "Vary top_k, d_ff or n_layers at equal width" in decision.evidence


@pytest.mark.parametrize(("name", "verdict"), [("figure1a", "supported"), ("figure1b", "supported"), ("figure6a", "supported")])
def test_the_papers_claims_are_borne_out_by_a_table_made_to(name, verdict):
    (claim,) = [one for one in PARROTS if one.name == name]
    assert decide(claim, described_models()).verdict == verdict


def test_the_papers_claims_have_the_margins_that_were_fixed_before_any_data():
    margins = {one.name: (one.side, one.margin) for one in PARROTS}
    assert margins["figure1a"] == ("equal", 0.02)
    assert margins["figure1b"] == margins["figure1c"] == ("below", 0.01)
    assert margins["figure6b"] == margins["figure6c"] == ("equal", 0.02)
    assert [len({one.name for one in claims}) == len(claims) for claims in PAPERS.values()] == [True, True]


def holed(lost: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Runs that follow total parameters, of which the last failed; and those that are left."""
    frame = runs(1.0, "power").astype({"status": object})
    frame.loc[len(frame) - lost :, ["status", "y"]] = ["oom", np.nan]
    return frame, frame[frame["status"] == "done"]


def test_what_is_missing_is_put_at_its_worst_and_at_its_best():
    claim = Offset(**SHARED, form="power", at="N_total", side="equal", margin=0.15)
    frame, chosen = holed(2)
    found = list(bounded(claim, frame, chosen))
    assert [said for said, _ in found] == [f"2 MoE at {end:.3g}" for end in (chosen["y"].min(), chosen["y"].max())]
    decision = decide(claim, chosen)
    assert decision.verdict == "supported"
    assert "could change this" in turned_over(decision, [one for _, one in found])


def test_nothing_missing_changes_nothing():
    claim = Offset(**SHARED, form="power", at="N_total", side="equal", margin=0.15)
    frame = runs(1.0, "power")
    assert list(bounded(claim, frame, frame)) == []
    assert turned_over(decide(claim, frame), []) == ""
