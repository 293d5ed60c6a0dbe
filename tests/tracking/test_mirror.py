"""MLflow is a view of the records: it holds what they hold, once, however often it is mirrored."""

import sqlite3

import pytest
from mlflow import MlflowClient

from parrots.measurement import Measurement
from sweeps.tracking import Mirror, Store, artifacts, store_uri

from ..conftest import MOE
from ..test_record import record

CURVE = [Measurement("loss", step, 3 - step / 20, 0.1, 1) for step in range(1, 21)]
SCORES = [Measurement("exact_match", 20, 0.5, 0.1, 25), Measurement("memory_bits", 20, 123.0, 1.0, 25)]


@pytest.fixture
def trial(make_trial, tmp_path):
    trial = make_trial(MOE)
    record(trial, measurements=[*CURVE, *SCORES], sweep="mine").write(tmp_path)
    return trial


def mirror(results, *asked: tuple[str, str]) -> str:
    with Mirror(results) as copies:
        for trial_id, sweep in asked:
            copies.add(trial_id, sweep)
    return copies.problem


def only_run(results, name="parrots/phonebook"):
    client = MlflowClient(store_uri(results))
    (run,) = client.search_runs([client.get_experiment_by_name(name).experiment_id])
    return client, run


def test_a_run_has_numeric_parameters_tags_the_curve_and_the_scores(trial, tmp_path):
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    assert (run.info.run_name, run.info.status) == (trial.name, "FINISHED")
    wanted = {"d_model": 16, "n_layers": 2, "n_experts": 4, "top_k": 2, "lr": 0.01, "seed": 0}
    wanted |= {"N_total": trial.total.N, "N_active": trial.active.N, "n_entries": 60}
    assert {key: float(run.data.params[key]) for key in wanted} == wanted
    assert run.data.tags.items() >= {"sweep": "mine", "trial_id": trial.id, "status": "done"}.items()
    assert "git_commit" in run.data.tags
    assert (run.data.metrics["exact_match"], run.data.metrics["memory_bits"]) == (0.5, 123.0)
    points = client.get_metric_history(run.info.run_id, "loss")
    assert [(p.step, p.value) for p in points] == [(m.step, m.value) for m in CURVE]


def test_mirroring_again_doubles_nothing(trial, tmp_path):
    for _ in range(3):
        assert mirror(tmp_path, (trial.id, "mine"), (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    assert len(client.get_metric_history(run.info.run_id, "loss")) == len(CURVE)


def test_a_run_that_was_cut_off_while_mirrored_is_completed_and_not_doubled(trial, tmp_path, monkeypatch):
    def cut(*_):
        raise ConnectionError("cut off")

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, "set_terminated", cut)
        assert "cut off" in mirror(tmp_path, (trial.id, "mine"))
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == len(CURVE)


def test_a_trial_that_two_sweeps_share_is_one_run_of_both(trial, tmp_path):
    assert mirror(tmp_path, (trial.id, "mine"), (trial.id, "wider")) == ""
    _, run = only_run(tmp_path)
    assert run.data.tags.items() >= {"sweep": "mine", "sweep.mine": "yes", "sweep.wider": "yes"}.items()


def test_a_trial_without_a_record_is_not_there(make_trial, tmp_path):
    assert mirror(tmp_path, (make_trial().id, "mine")) == ""
    assert Store(tmp_path).client.get_experiment_by_name("parrots/phonebook") is None


def test_a_locked_store_is_a_line_and_no_exception_and_the_next_time_adds_what_is_missing(trial, tmp_path):
    Store(tmp_path).experiment("parrots/phonebook")
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        problem = mirror(tmp_path, (trial.id, "mine"))
    assert "database is locked" in problem
    assert "\n" not in problem
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    assert only_run(tmp_path)[1].info.status == "FINISHED"


def test_a_sweep_is_one_run_with_its_report_as_artifact(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.html").write_text("<p>found</p>")
    for verdict in ("undecided", "supported"):
        Store(tmp_path).report("mine", "A title", {"memory": verdict}, folder)
    _, run = only_run(tmp_path, "parrots/sweeps")
    assert run.data.tags.items() >= {"sweep": "mine", "memory": "supported", "mlflow.note.content": "A title"}.items()
    # where `parrots ui` serves it from, also after the results were moved; tests/system/test_browser.py fetches it
    at = artifacts(tmp_path) / run.info.artifact_uri.removeprefix("mlflow-artifacts:/") / "report"
    assert [file.name for file in at.iterdir()] == ["report.html"]


def test_a_run_names_its_data_and_the_weights_it_left_as_a_model_with_its_scores(trial, tmp_path):
    kept = tmp_path / "weights" / f"{trial.id}.safetensors"
    kept.parent.mkdir()
    kept.write_bytes(b"weights")
    for _ in range(2):
        assert mirror(tmp_path, (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.tags[0].value) == ("phonebook-v1", "training")
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert (model.name, model.tags["weights"]) == (trial.name, f"weights/{kept.name}")
    assert {metric.key: metric.value for metric in model.metrics} == {"exact_match": 0.5, "memory_bits": 123.0}
    assert run.data.tags["attempt"] == "1"
