"""MLflow is a view of the records: it holds what they hold, once, however often it is mirrored."""

import gc
import json
import socket
import sqlite3

import pytest
from mlflow import MlflowClient

from parrots.measurement import Measurement
from parrots.record import path_of
from sweeps import comparison, tracked
from sweeps.tracking import Mirror, Store, artifacts, lean, parameters, store_uri

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
    # where `parrots ui` serves it from, also after the results were moved; tests/browser/test_mlflow.py fetches it
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


def test_a_trial_that_failed_and_was_tried_again_keeps_its_run_and_doubles_no_step(trial, tmp_path):
    path_of(trial.id, tmp_path).unlink()
    record(trial, "failed", [], reason="RuntimeError: lost", sweep="mine").write(tmp_path)
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    _, lost = only_run(tmp_path)
    assert (lost.info.status, lost.data.tags["attempt"], lost.data.tags["reason"]) == ("FAILED", "1", "RuntimeError: lost")
    record(trial, measurements=[*CURVE, *SCORES], sweep="mine", attempt=2).write(tmp_path)
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    assert run.info.run_id == lost.info.run_id
    assert (run.info.status, run.data.tags["attempt"], run.data.tags["status"]) == ("FINISHED", "2", "done")
    assert [p.step for p in client.get_metric_history(run.info.run_id, "loss")] == [m.step for m in CURVE]


def test_every_field_and_every_count_is_a_parameter_and_numbers_are_numbers(trial):
    (about, *_) = record(trial).table().to_pylist()
    said = parameters(about)
    assert {
        "lr",
        "weight_decay",
        "warmup",
        "n_kv_heads",
        "n_entries",
        "total_ffn",
        "active_experts",
        "tokens",
        "flops",
    } <= said.keys()
    left_out = {name for name in about if name.startswith(("total_", "active_"))} - said.keys()
    assert left_out and all(about[name] == about[name.replace("active", "total")] for name in left_out)
    text = {name for name, value in said.items() if not isinstance(value, (int, float))}
    assert text == {name for name in text if not str(said[name]).replace(".", "").isdigit()}
    assert (said["total_ffn"], said["n_experts"], said["tie_embeddings"]) == (trial.total.ffn, 4, 0)


def test_a_deep_models_routers_are_one_curve_of_the_worst_layer():
    layers = range(48)
    curves = [(f"router_{what}_{layer}", float(layer), 10) for what in ("largest_share", "dead", "entropy") for layer in layers]
    said = lean([("loss", 2.0, 10), *curves, ("exact_match", 0.5, 20)])
    assert {name: value for name, value, _ in said} == {
        "loss": 2.0,
        "exact_match": 0.5,
        "router_largest_share": 47.0,
        "router_dead": 47.0,
        "router_entropy": 0.0,
    }


def test_a_store_that_never_answers_holds_nobody_up(trial, tmp_path, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("sweeps.tracking.PATIENCE_S", 0.5)
        problem = mirror(tmp_path, (trial.id, "mine"))
    assert "has not answered for 0.5 s" in problem


def test_many_runs_have_an_address_that_names_them_beside_the_one_that_sets_the_page_up(make_trial, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "AT_ONCE", 2)
    for seed in range(3):
        record(make_trial(seed=seed, lr=1e-2 if seed else 1e-3), measurements=SCORES[:1], sweep="mine").write(tmp_path)
    ids = [path.stem for path in (tmp_path / "records").iterdir()]
    assert mirror(tmp_path, *((one, "few") for one in ids[:2]), *((one, "many") for one in ids)) == ""
    store = Store(tmp_path)
    (few,), (best, every) = (store.compare_links(name, "http://x").values() for name in ("few", "many"))
    assert "viewStateShareKey=parrots-few" in few
    assert "viewStateShareKey=parrots-many" in best
    assert every.count("%22") == 2 * (len(ids) + 1)
    told = json.loads(store.client.get_experiment_by_name("parrots/phonebook").tags["mlflow.sharedViewState.parrots-few"])
    scatter = [
        (chart["xaxis"]["key"], chart["yaxis"]["key"]) for chart in told["compareRunCharts"] if chart["type"] == "SCATTER"
    ]
    assert scatter == [("N_total", "exact_match"), ("N_active", "exact_match")]
    assert told["selectedColumns"][:3] == ["metrics.`exact_match`", "params.`N_total`", "params.`N_active`"]


def test_a_search_is_not_collected_in_and_leaves_the_collector_as_it_was(trial, tmp_path, monkeypatch):
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    store, during = Store(tmp_path), []
    real = store.client.search_runs
    monkeypatch.setattr(store.client, "search_runs", lambda *a, **k: (during.append(gc.isenabled()), real(*a, **k))[1])
    (run,) = tracked.runs(store.client, store.experiment("parrots/phonebook"))
    assert run.data.tags["trial_id"] == trial.id
    assert set(during) == {False}
    assert gc.isenabled()
