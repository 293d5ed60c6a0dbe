"""Any table becomes one typed frame, and what is missing or impossible in it is said."""

import json

import pandas as pd
import pytest

import analysis
from parrots.measurement import Measurement

from ..test_record import record

ROWS = pd.DataFrame(
    {
        "Model Size": [1e8, 2e8, 4e8, 8e8],
        "Training FLOP": [6e17, 2.4e18, 9.6e18, 3.84e19],
        "val loss": [3.5, 3.2, 2.9, 2.7],
        "acc": [37.0, 41.0, 45.5, 50.0],
        "kind": ["dense", "MoE", "dense", "MoE"],
    }
)
NAMES = {"N_total": "Model Size", "C": "Training FLOP", "loss": "val loss"}


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet", "jsonl"])
def test_every_kind_of_file_gives_the_same_frame(tmp_path, ending):
    path = tmp_path / f"runs.{ending}"
    writers = {
        "csv": lambda: ROWS.to_csv(path, index=False),
        "tsv": lambda: ROWS.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: ROWS.to_parquet(path),
        "jsonl": lambda: ROWS.to_json(path, orient="records", lines=True),
    }
    writers[ending]()
    frame = analysis.load(path, NAMES)
    assert frame["D"].tolist() == pytest.approx([1e9, 2e9, 4e9, 8e9])
    assert frame[["N_total", "loss"]].to_numpy().tolist() == ROWS[["Model Size", "val loss"]].to_numpy().tolist()
    assert frame["status"].tolist() == ["done"] * 4
    assert frame.attrs["derived"] == ["D = C / (6 * N_total)"]


@pytest.fixture
def runs(tmp_path):
    def write(frame=ROWS, name="runs.csv"):
        frame.to_csv(tmp_path / name, index=False)
        return tmp_path / name

    return write


def test_a_column_may_be_computed_and_runs_filtered(runs):
    frame = analysis.load(runs(), {**NAMES, "accuracy": "acc / 100"}, "kind == 'MoE' and accuracy > 0.45")
    assert frame["accuracy"].tolist() == [0.5]


def test_a_table_may_say_how_its_runs_ended_and_need_not_say_why(runs):
    states = ["done", "failed", "oom", "done"]
    frame = analysis.load(runs(ROWS.assign(status=states)), NAMES)
    assert (frame["status"].tolist(), set(frame["reason"])) == (states, {""})
    with pytest.raises(ValueError, match="status is 'FINISHED' in some runs; it has to be one of done, "):
        analysis.load(runs(ROWS.assign(status="FINISHED")), NAMES)


def test_our_own_records_are_such_a_frame(make_trial, tmp_path):
    good, bad = make_trial(seed=0), make_trial(seed=1)
    record(good).write(tmp_path)
    record(bad, "oom", [], reason="out of memory").write(tmp_path)
    frame = analysis.load(tmp_path)
    assert frame.loc[good.id, ["N_total", "D", "E", "S"]].tolist() == [good.total.N, frame.loc[good.id, "tokens"], 1, 0]
    assert frame.loc[bad.id, ["status", "reason"]].tolist() == ["oom", "out of memory"]


def test_trials_at_another_learning_rate_than_the_chosen_one_are_missing(make_trial, tmp_path):
    for lr, loss in ((0.1, 3.0), (0.2, 2.0)):
        record(make_trial(lr=lr), measurements=[Measurement("loss", 20, loss, 0.1, 10)]).write(tmp_path)
    frame = analysis.load(tmp_path).set_index("lr")
    assert frame.loc[[0.1, 0.2], "status"].tolist() == ["missing", "done"]
    assert frame.loc[0.1, "reason"] == "another learning rate was chosen"


def test_what_is_missing_is_missing_with_a_reason(runs):
    frame = ROWS.astype({"val loss": object})
    frame.loc[1, "val loss"] = "diverged"
    frame.loc[2, "Model Size"] = None
    frame = analysis.load(runs(frame), NAMES)
    assert frame["status"].tolist() == ["done", "missing", "missing", "done"]
    assert frame["reason"].tolist() == ["", "loss is 'diverged'", "N_total is empty", ""]
    assert frame["loss"].dtype == float


def test_the_count_and_error_of_a_mapped_metric_come_along(runs):
    frame = ROWS.assign(score=0.5, **{"score.n": 100, "score.stderr": 0.05})
    assert analysis.load(runs(frame), {"accuracy": "score"})[["accuracy.n", "accuracy.stderr"]].iloc[0].tolist() == [100, 0.05]


@pytest.mark.parametrize(
    ("columns", "where", "word"),
    [
        ({"N_total": "model size"}, "", "nearest are Model Size"),
        ({"loss": "col('val los')"}, "", "nearest are val loss"),
        ({"accuracy": "acc"}, "", "accuracy 37 .4 of 4 runs.*per cent"),
        ({"loss": "acc - 40"}, "", "loss -3 .*above 0"),
        (NAMES, "kind == 'sparse'", "leaves none of 4 runs; kind is dense, MoE"),
        (NAMES, "knd == 'MoE'", "no column 'knd'; nearest are kind"),
        (NAMES, "loss", "neither true nor false"),
        (NAMES, "open('x')", "a call is not allowed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(runs, columns, where, word):
    with pytest.raises(ValueError, match=word) as caught:
        analysis.load(runs(), columns, where)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, runs):
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    (tmp_path / "torn.jsonl").write_text(json.dumps({"a": 1}) + "\n{")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "runs.xlsx").write_text("x")
    for name in ("torn.parquet", "torn.jsonl", "empty.csv", "runs.xlsx", "absent.csv", "."):
        with pytest.raises(ValueError) as caught:
            analysis.load(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="no rows"):
        analysis.load(runs(ROWS.iloc[:0]))
