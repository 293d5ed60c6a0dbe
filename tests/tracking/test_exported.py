"""A table from MLflow says what the records say, but for standard errors and counts, and is read like any other."""

import json

import pytest
from mlflow import MlflowClient

import analysis
from analysis.described import described
from parrots.measurement import Measurement
from sweeps.cli import main
from sweeps.tracking import Mirror, store_uri

from ..conftest import MOE
from ..test_record import record


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Two seeds of a dense model and of an MoE, mirrored; and a run of somebody else's that failed."""
    from ..conftest import make

    folder = tmp_path_factory.mktemp("results")
    with Mirror(folder) as copies:
        for ffn in (None, MOE):
            for seed in (0, 1):
                trial = make(ffn, seed=seed)
                measured = [Measurement("loss", 20, 2.0, 0.1, 5), Measurement("memory_bits", 20, 100.0 + seed, 1.0, 60)]
                record(trial, measurements=measured, sweep="mine").write(folder)
                copies.add(trial.id, "mine")
    assert copies.problem == ""
    client = MlflowClient(store_uri(folder))
    run = client.create_run(client.create_experiment("theirs"), run_name="broken")
    client.log_param(run.info.run_id, "lr", "0.1")
    client.log_param(run.info.run_id, "status", "promising")
    client.log_metric(run.info.run_id, "lr", 0.05)
    client.set_terminated(run.info.run_id, "FAILED")
    return folder


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_table_from_mlflow_is_one_that_analysis_reads(results, tmp_path, capsys, ending):
    path = tmp_path / f"runs.{ending}"
    words = ["export", "--from-mlflow", str(path), "--results", str(results), "--experiment", "parrots/phonebook"]
    assert main(words) == 0
    assert "4 runs" in capsys.readouterr().out
    frame = described(analysis.load(path, where="sweep == 'mine'"))
    assert sorted(frame["memory_bits"]) == [100, 100, 101, 101]
    assert frame.groupby("configuration")["kind"].first().value_counts().to_dict() == {"dense": 1, "MoE": 1}
    assert (frame.loc[frame["kind"] == "MoE", "N_total"] > frame.loc[frame["kind"] == "MoE", "N_active"]).all()
    assert set(frame["status"]) == {"done"}


def test_a_run_that_failed_is_in_it_with_its_reason(results, tmp_path):
    path = tmp_path / "runs.jsonl"
    assert main(["export", "--from-mlflow", str(path), "--results", str(results)]) == 0
    rows = {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}
    assert len(rows) == 5
    assert (rows["broken"]["status"], rows["broken"]["reason"]) == ("failed", "MLflow says failed")


def test_names_that_are_taken_keep_apart_what_mlflow_keeps_apart(results, tmp_path):
    path = tmp_path / "runs.jsonl"
    assert main(["export", "--from-mlflow", str(path), "--results", str(results), "--experiment", "theirs"]) == 0
    row = json.loads(path.read_text())
    assert (row["params.status"], row["lr"], row["metrics.lr"]) == ("promising", 0.1, 0.05)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--from-mlflow", "runs.xls"], ".xls is not written"),
        (["--from-mlflow", "runs.csv", "--experiment", "nobody"], "no experiment 'nobody'"),
        (["--from-mlflow", "a.csv", "b.csv"], "takes one FILE"),
        (["--store", "sqlite:///x.db"], "go with --from-mlflow"),
        (["--from-mlflow", "runs.csv", "--store", "sqlite:////nowhere/x.db"], "no MLflow store"),
        (["--from-mlflow", "runs.csv", "--store", "ftp://nowhere"], "ftp://nowhere: "),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_line(results, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert main(["export", *words, "--results", str(results)]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
