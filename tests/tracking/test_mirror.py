"""MLflow is a view of the records: it holds what they hold, once, however often it is mirrored."""

import gc
import json
import socket
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException

from parrots.failures import failure
from parrots.measurement import Measurement
from parrots.placement import Placement
from parrots.record import path_of
from parrots.spec import Evaluation
from sweeps import comparison, tracked
from sweeps.tracking import Mirror, Store, artifacts, lean, parameters, store_uri

from ..conftest import MOE
from ..test_record import record

EARLIER, LATER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
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


def cut_off_once(trial, results, monkeypatch, call: str):
    """Its run, mirrored anew after the connection was lost at this call of MLflow's client."""

    def cut(*_):
        raise ConnectionError("cut off")

    with monkeypatch.context() as broken:
        broken.setattr(MlflowClient, call, cut)
        assert "cut off" in mirror(results, (trial.id, "mine"))
    assert mirror(results, (trial.id, "mine")) == ""
    return only_run(results)


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
    client, run = cut_off_once(trial, tmp_path, monkeypatch, "set_terminated")
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
    """A failure says nothing of how far a trial comes, which MLflow would never let change."""
    path_of(trial.id, tmp_path).unlink()
    lost = replace(failure(trial, RuntimeError("lost"), Placement(tmp_path)), sweep="mine", started=EARLIER)
    lost.write(tmp_path)
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    _, run = only_run(tmp_path)
    failed = run.info.run_id
    assert (run.info.status, run.data.tags["attempt"], run.data.tags["reason"]) == ("FAILED", "1", "RuntimeError: lost")
    assert "N_total" in run.data.params
    record(trial, measurements=[*CURVE, *SCORES], sweep="mine", attempt=2).write(tmp_path)
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    assert run.info.run_id == failed
    assert (run.info.status, run.data.tags["attempt"], run.data.tags["status"]) == ("FINISHED", "2", "done")
    assert "reason" not in run.data.tags or not run.data.tags["reason"]
    assert float(run.data.params["tokens"]) > 0
    assert [p.step for p in client.get_metric_history(run.info.run_id, "loss")] == [m.step for m in CURVE]


def test_a_record_that_was_made_again_replaces_the_run_and_an_older_one_does_not(trial, tmp_path):
    mirror(tmp_path, (trial.id, "mine"), (trial.id, "wider"))
    client, run = only_run(tmp_path)
    client.set_tag(run.info.run_id, "mlflow.note.content", "odd")
    path_of(trial.id, tmp_path).unlink()
    better = [*CURVE[:10], Measurement("exact_match", 20, 0.9, 0.1, 25)]
    replace(record(trial, measurements=better, sweep="mine", attempt=2), started=LATER).write(tmp_path)
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    assert (run.data.metrics["exact_match"], run.data.tags["attempt"]) == (0.9, "2")
    assert "memory_bits" not in run.data.metrics
    assert run.data.tags.items() >= {"sweep.mine": "yes", "sweep.wider": "yes", "mlflow.note.content": "odd"}.items()
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 10
    record(trial, measurements=[*CURVE, *SCORES], sweep="mine").write(tmp_path)  # as somebody else has it
    assert mirror(tmp_path, (trial.id, "theirs")) == ""
    _, run = only_run(tmp_path)
    assert (run.data.metrics["exact_match"], run.data.tags["sweep.theirs"]) == (0.9, "yes")


def test_two_writers_make_one_run_of_a_trial(trial, tmp_path):
    one, another = Store(tmp_path), Store(tmp_path)
    for store in (one, another):
        store.experiment("parrots/phonebook")
    for store in (one, another):
        store.mirror(trial.id, "mine")
    assert only_run(tmp_path)[1].info.status == "FINISHED"


def test_what_fails_holds_nothing_up_and_is_tried_again(make_trial, trial, tmp_path, monkeypatch):
    others = [make_trial(seed=seed) for seed in (1, 2)]
    for other in others:
        record(other, measurements=CURVE, sweep="mine").write(tmp_path)
    (tmp_path / "report").mkdir()
    real, calls = MlflowClient.create_run, []

    def sometimes(self, *args, **more):
        calls.append(args)
        if len(calls) in failing:
            raise ConnectionError("started anew")
        return real(self, *args, **more)

    monkeypatch.setattr(MlflowClient, "create_run", sometimes)
    failing = {1}
    assert mirror(tmp_path, *((one.id, "mine") for one in (trial, *others))) == ""
    client = MlflowClient(store_uri(tmp_path))
    experiment = client.get_experiment_by_name("parrots/phonebook").experiment_id
    assert {run.info.status for run in client.search_runs([experiment])} == {"FINISHED"}
    assert len(client.search_runs([experiment])) == 3
    failing = range(1000)
    record(make_trial(seed=3), measurements=CURVE).write(tmp_path)
    assert mirror(tmp_path, (make_trial(seed=3).id, "mine")) == "ConnectionError: started anew"


def test_an_experiment_and_a_run_that_were_deleted_are_there_again(trial, tmp_path):
    mirror(tmp_path, (trial.id, "mine"))
    client, run = only_run(tmp_path)
    client.delete_experiment(run.info.experiment_id)
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    assert only_run(tmp_path)[1].info.status == "FINISHED"
    store = Store(tmp_path)
    store.experiment("parrots/phonebook")
    client.delete_run(only_run(tmp_path)[1].info.run_id)
    with pytest.raises(MlflowException):
        store.mirror(trial.id, "wider")
    store.mirror(trial.id, "wider")
    assert only_run(tmp_path)[1].data.tags["sweep.wider"] == "yes"


def test_a_model_is_whole_whatever_the_trials_name_and_wherever_it_was_cut_off(make_trial, tmp_path, monkeypatch):
    trial = make_trial(lr=2.5e-3)
    assert "." in trial.name
    record(trial, measurements=[*CURVE, *SCORES], weights_sha256="0" * 64).write(tmp_path)

    client, run = cut_off_once(trial, tmp_path, monkeypatch, "finalize_logged_model")
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert model.status == LoggedModelStatus.READY
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    asked = Evaluation(name="harder", task=trial.task)
    score = [Measurement("exact_match", 20, 0.25, 0.1, 25)]
    record(trial, measurements=score, evaluation=asked).write(tmp_path)
    assert mirror(tmp_path, (trial.id, "mine")) == ""
    client, run = only_run(tmp_path)
    assert run.data.metrics["harder/exact_match"] == 0.25
    (model,) = client.search_logged_models([run.info.experiment_id])
    assert "harder/exact_match" in {metric.key for metric in model.metrics}


def test_a_later_report_leaves_nothing_of_an_earlier_one(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    for name in ("old", "new"):
        (folder / name).write_text(name)
        Store(tmp_path).report("mine", "A title", {name: "supported"}, folder)
        (folder / name).unlink()
    _, run = only_run(tmp_path, "parrots/sweeps")
    at = artifacts(tmp_path) / run.info.artifact_uri.removeprefix("mlflow-artifacts:/") / "report"
    assert [file.name for file in at.iterdir()] == ["new"]
    assert {key for key in run.data.tags if not key.startswith("mlflow.")} == {"sweep", "new"}


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
    assert "has taken 0 of 1 in the last 0.5 s" in problem


def test_a_server_that_is_away_is_told_at_once(trial, tmp_path, monkeypatch):
    """MLflow itself would try for four minutes."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://u:hunter2@127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setattr("sweeps.tracking.PATIENCE_S", 30.0)
        problem = mirror(tmp_path, *((trial.id, f"s{k}") for k in range(20)))
    assert "Connection refused" in problem
    assert "hunter2" not in problem


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
    monkeypatch.setattr(comparison, "NAMED", 2)
    ((shown, alone),) = store.compare_links("many", "http://x").items()
    assert (shown, alone) == ("parrots/phonebook, the best 2 of 3 runs (`parrots board many` shows all)", best)
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
