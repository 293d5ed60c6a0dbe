"""Each figure is drawn from any table with its columns, and is absent with a reason from one without."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis.categories import with_categories
from analysis.claims import Offset
from analysis.described import described
from analysis.paper_claims import PARROTS
from analysis.paper_figures import of_paper
from analysis.picture import drawn
from analysis.report import Asked, write
from analysis.size_figures import sparsity, tokens
from analysis.training_figures import basins, curves, health, planned_and_actual

from .tables import described_models, language_models


def test_figures_are_drawn_where_their_columns_are_and_absent_with_the_reason_elsewhere():
    pictures, absent = drawn(of_paper(described_models()))
    assert [one.name for one in pictures] == ["figure1", "figure5", "figure6", *(f"figure{n}" for n in range(7, 13))]
    why = dict(absent)
    assert "entries_90" in why["figure 4a"]
    assert "shortest_path" in why["figure 4b"]


def test_a_figure_draws_the_means_of_its_category_and_says_of_how_many_benchmarks():
    frame = described_models()
    picture = of_paper(frame)["figure 1"]()
    assert "knowledge: 2 of 5 benchmarks" in picture.caption
    numbers = picture.numbers()
    shown = numbers[(numbers["panel"] == "1a  knowledge") & (numbers["series"] == "dense")]
    expected = frame.loc[frame["kind"] == "dense", ["TriviaQA", "nq_open"]].mean(axis=1)
    assert sorted(shown["y"]) == pytest.approx(sorted(expected))


def test_a_benchmark_is_found_however_its_name_is_spelt():
    frame = pd.DataFrame({"arc:challenge": [0.2], "piqa/accuracy": [0.6], "NQ-open/f1": [0.1], "piqa/loss": [3.0]})
    made = with_categories(frame)
    assert made.attrs["benchmarks"]["commonsense"] == {"arc_challenge": "arc:challenge", "piqa": "piqa/accuracy"}
    assert made["commonsense"].tolist() == pytest.approx([0.4])
    assert made["knowledge"].tolist() == [0.1]


def books() -> pd.DataFrame:
    frame = language_models().drop(columns=["TriviaQA", "nq_open", "ARC-Challenge", "gsm8k", "gsm8k_train"])
    path = 1 / (1 + np.exp(-np.log10(frame["N_active"] / 3e7)))
    return described(frame.assign(status="done", reason="", entries_90=0.02 * frame["N_total"], exact_match=path))


def test_figures_4a_and_4b_are_drawn_from_books_and_paths():
    pictures, _ = drawn({name: make for name, make in of_paper(books()).items() if name.startswith("figure 4")})
    assert [one.name for one in pictures] == ["figure4a", "figure4b"]
    assert [panel.get_xscale() for one in pictures for panel in one.figure.axes] == ["log"] * 4
    assert pictures[0].figure.axes[0].get_yscale() == "log"


def test_sparsity_tokens_and_training_are_drawn_from_a_table_too():
    frame = described_models().assign(lr=[1e-3, 2e-3] * 4, wall_s=10.0, tokens=[6.3e10, 1e9] * 4, loss=2.0)
    assert sparsity(frame, "commonsense", "s").numbers()["x"].nunique() == 3
    assert len(tokens(frame, "commonsense", "t").numbers())
    points = pd.DataFrame(
        [
            {"trial_id": i, "metric": metric, "step": step, "value": 1.0}
            for i in frame.index
            for metric in ("loss", "router_entropy_0")
            for step in (10, 20)
        ]
    )
    assert len(curves(frame, points).numbers()) == 16
    assert len(health(frame[frame["kind"] == "MoE"], points).numbers()) == 8
    assert len(basins(pd.concat([frame, frame.assign(lr=2 * frame["lr"])]), frame).numbers())
    with pytest.raises(ValueError, match="one learning rate was tried of each configuration"):
        basins(frame, frame)
    assert len(planned_and_actual(frame, dict.fromkeys(frame.index, 9.0)).numbers()) == 10


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    claims = [one for one in PARROTS if one.name in ("figure1a", "figure5-gsm8k")]
    nothing = {"name": "none", "statement": "s", "task": "x", "metric": "books", "form": "power"}
    claims.append(Offset(**nothing, at="N_total", side="equal", margin=1))
    asked = Asked("mine", "Runs of mine.csv", claims, (), "parrots report mine.csv", table=described_models())
    return write([asked], tmp_path_factory.mktemp("results"))


def test_a_report_of_a_table_has_verdicts_figures_and_reasons(written):
    page = written.html.read_text()
    assert [one.verdict for one in written.decisions] == ["supported", "direction only", "undecided"]
    assert "figure 4a</b>: no column &#39;entries_90&#39;" in page
    assert "which size predicts knowledge" in page
    assert "parrots report mine.csv" in page
    names = {path.stem for path in written.html.parent.glob("*.pdf")}
    assert {"figure1", "figure5", "figure6", "figure7", "figure12", "figure1a"} <= names


def test_a_report_of_a_table_has_no_nan_and_keeps_every_number_drawn(written):
    for name in ("report.html", "report.md"):
        assert not re.search(r"\b(nan|inf)\b", (written.html.parent / name).read_text(), re.IGNORECASE)
    numbers = pd.read_parquet(written.html.parent / "numbers.parquet")
    assert {"figure1", "figure6"} <= set(numbers["figure"])
