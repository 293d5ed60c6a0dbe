"""`parrots compare`, `claims` and `report` on somebody's table: numbers for programs and people, refusals in a line."""

import json

import pytest

from sweeps.cli import main

from ..analysis.tables import language_models


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("t") / "runs.csv"
    language_models().rename(columns={"N_total": "Params"}).to_csv(path, index=False)
    return str(path)


MAPPED = ["--map", "N_total=Params"]


def test_compare_ranks_the_sizes_in_json(table, capsys):
    assert main(["compare", table, *MAPPED, "--metric", "commonsense", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ranking"][0]["predictor"] in ("N_active", "N_active and N_total", "width")
    assert said["rate"]["profile"][0] == 0
    assert "cannot tell N_active from width" in said["undecided"]
    assert set(said["moe_less_dense"]) == {"N_total", "N_active", "perplexity"}


def test_claims_of_the_paper_are_held_against_a_table(table, capsys):
    assert main(["claims", table, *MAPPED, "--of", "parrots", "--json"]) == 0
    verdicts = {one["claim"]: one for one in json.loads(capsys.readouterr().out)}
    assert verdicts["figure1a"]["verdict"] == "supported"
    assert verdicts["figure1a"]["cells"] == 8
    assert verdicts["section4-2"]["verdict"] == "undecided"
    assert verdicts["figure1a"]["test"].endswith("a direction only.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "--metric", "knowledge"], "no column 'N_total'"),
        (["compare", *MAPPED, "--metric", "knowlege"], "nearest are knowledge"),
        (["compare", *MAPPED, "--metric", "model"], "a column of numbers is compared, and in this one is 'd256-E1'"),
        (["claims", *MAPPED], "declares no claims; name some with --of"),
        (["claims", *MAPPED, "--of", "nobody"], "nobody"),
        (["report", *MAPPED, "--filter", "N_active > 1e20"], "leaves none"),
        (["compare", *MAPPED, "--metric", "percent", "--map", "percent=100 * gsm8k", "--form", "logistic"], "per cent"),
    ],
)
def test_what_cannot_be_told_is_refused_in_a_line(table, tmp_path, capsys, words, said):
    verb, *rest = words
    assert main([verb, table, *rest, "--results", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.strip().count("\n") == 0
