"""Records mirrored to MLflow: a view, never the source. Training neither waits for it nor fails because of it.

One experiment a task, one flat run a trial, tagged with its sweep: MLflow's charts show only the collapsed parent of
nested runs. A record is found again by its tag `trial_id`, so mirroring can be repeated and doubles nothing, and a trial that
failed and was tried again keeps its run.
"""

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import pyarrow as pa

from parrots.frozen import canonical_json, first_line
from parrots.keys import covered
from parrots.record import SCHEMA, evaluations_of, path_of, read
from parrots.spec import Trial
from sweeps import comparison, ledger, tracked
from sweeps.fields import flat, short

BATCH = 1000  # metric points a request; MLflow's own limit
SWEEPS = "parrots/sweeps"
REASON = 1000  # characters of why a trial failed; its record has all
EXTERNAL = "mlflow.model.isExternal"  # the tag of a model whose files MLflow does not hold
OVER_LAYERS: dict[str, Callable[..., float]] = {"router_largest_share": max, "router_dead": max, "router_entropy": min}
"""Curves of which records have one a layer and MLflow the worst layer's: a deep model's would be hundreds."""
PATIENCE_S = 120.0  # how long a run that is over waits for MLflow; 10,000 trials take longer, and the next run goes on


def store_uri(results: Path) -> str:
    """The MLflow store of a results folder: SQLite, or what MLFLOW_TRACKING_URI names."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(results / 'mlflow.db').absolute()}"


def artifacts(results: Path) -> Path:
    """Where MLflow's server finds what runs leave beside numbers."""
    return (results / "mlartifacts").absolute()


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """ValueError, in a line and without credentials, where the MLflow store of this address does not answer."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:
        raise ValueError(covered(f"MLflow at {uri}: {first_line(error)}")) from error


class Mirror:
    """Copies records to MLflow in a thread of its own while it is entered as a context; leaving waits for the last."""

    def __init__(self, results: Path):
        self.results = results
        self.queue: SimpleQueue[Callable[[Store], None] | None] = SimpleQueue()
        self.thread = Thread(target=self._work, daemon=True)
        self.problem = ""
        """Why MLflow does not have everything, in a line, or nothing."""

    def add(self, trial_id: str, sweep: str) -> None:
        """Mirror this trial's record, when there is time; it counts as one of the sweep's."""
        self.queue.put(lambda store: store.mirror(trial_id, sweep))

    def finish(self, sweep: str, about: str, verdicts: Mapping[str, str], folder: Path) -> None:
        """Then mirror the sweep itself, with its report; `about`, in Markdown, describes it."""
        self.queue.put(lambda store: store.report(sweep, about, verdicts, folder))

    def __enter__(self) -> "Mirror":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.queue.put(None)
        self.thread.join(PATIENCE_S)
        if self.thread.is_alive():
            self.problem = covered(f"{store_uri(self.results)} has not answered for {PATIENCE_S:g} s")

    def _work(self) -> None:
        try:
            store = Store(self.results)
            while (item := self.queue.get()) is not None:
                item(store)
        except Exception as error:  # whatever MLflow or its database may raise: training goes on without it
            self.problem = covered(f"{type(error).__name__}: {first_line(error)}")


class Store:
    """An MLflow store and which of our trials it has."""

    def __init__(self, results: Path):
        import logging

        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for noisy in ("alembic", "mlflow.store.db.utils", "mlflow"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        self.results = results
        self.client = MlflowClient(tracking_uri=store_uri(results))
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}

    def experiment(self, name: str) -> str:
        """The id of the experiment with this name, made if it is not there; its trials' runs are then known."""
        if name not in self.experiments:
            self.experiments[name] = self._made(name)
            self.runs[name] = {run.data.tags.get("trial_id"): run for run in tracked.runs(self.client, self.experiments[name])}
        return self.experiments[name]

    def _made(self, name: str) -> str:
        """The id of this experiment, which another writer may make at the same moment."""
        from mlflow.exceptions import MlflowException

        if found := self.client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:  # its place is relative to the server's own folder, so that results may be moved
            return str(self.client.create_experiment(name, artifact_location=f"mlflow-artifacts:/{name}"))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return str(self.client.get_experiment_by_name(name).experiment_id)

    def mirror(self, trial_id: str, sweep: str) -> None:
        """Bring MLflow's run of this trial up to its record, or to its last failed attempt if it has none."""
        path = path_of(trial_id, self.results)
        paths = [path] if path.exists() else ledger.failures_of(trial_id, self.results)[-1:]
        if not paths:
            return
        rows = read(paths)
        about = {name: rows[name][0].as_py() for name in rows.schema.names}
        experiment = f"parrots/{about['task']}"
        experiment_id = self.experiment(experiment)
        run = self.runs[experiment].get(trial_id)
        tags = {f"sweep.{sweep}": "yes", "attempt": str(about["attempt"])}
        tags |= {"status": about["status"], "reason": about["reason"][:REASON]}
        if run is None:
            start = int(about["started"].timestamp() * 1000)
            told = {"sweep": about["sweep"], "trial_id": trial_id, "git_commit": about["commit"]}
            run = self.client.create_run(experiment_id, start, {k: v for k, v in tags.items() if v} | told, about["name"])
        for key, value in tags.items():
            if run.data.tags.get(key, "") != value:
                self.client.set_tag(run.info.run_id, key, value)
        if not path.exists():
            self.client.log_batch(run.info.run_id, params=params_of(about))
            self.client.set_terminated(run.info.run_id, "FAILED", ended(about))
        elif run.info.status == "FINISHED":
            self._add_evaluations(run, trial_id, about)
            return
        else:
            self._log(run.info.run_id, rows, about, self._model(run, about))
            self._add_evaluations(run, trial_id, about)
        self.runs[experiment][trial_id] = self.client.get_run(run.info.run_id)

    def _log(self, run_id: str, rows: pa.Table, about: dict[str, Any], model_id: str | None) -> None:
        """Parameters and metrics in batches. Times are the record's, so that logging a point again changes nothing.

        The scores go first, since MLflow's comparison opens on the metric that it met first.
        """
        from mlflow.entities import Metric

        start, span = about["started"].timestamp() * 1000, about["wall_s"] * 1000
        measured = lean(zip(*(rows[column].to_pylist() for column in ("metric", "value", "step")), strict=True))
        along = Counter(metric for metric, _, _ in measured)
        last = max((step for _, _, step in measured), default=0) or 1
        points = [
            Metric(metric, value, int(start + span * step / last), step, model_id=None if along[metric] > 1 else model_id)
            for metric, value, step in sorted(measured, key=lambda point: along[point[0]] > 1)
        ]
        points.append(Metric("train_s", about["train_s"], ended(about), last))
        for first in range(0, len(points), BATCH):
            params = params_of(about) if first == 0 else []
            self.client.log_batch(run_id, metrics=points[first : first + BATCH], params=params)
        self._log_data(run_id, about)
        self.client.set_terminated(run_id, "FINISHED", ended(about))

    def _log_data(self, run_id: str, about: dict[str, Any]) -> None:
        """The run's data. MLflow (3.17) fails where another writer adds the same data at that moment; then they are there."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_inputs(run_id, [dataset(about)])
        except MlflowException:
            self.client.log_inputs(run_id, [dataset(about)])

    def _model(self, run: Any, about: dict[str, Any]) -> str | None:
        """The id of MLflow's model that stands for the trial's weights, which stay where they are; None if none were kept."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        path = ledger.weights_of(about["trial_id"], self.results)
        if not path.exists() and not about["weights_sha256"]:  # with a store they may be on another machine
            return None
        found = self.client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
        if found:
            return str(found[0].model_id)
        tags = {"trial_id": about["trial_id"], "weights": f"weights/{path.name}", EXTERNAL: "true"}
        made = self.client.create_logged_model(run.info.experiment_id, about["name"], run.info.run_id, tags)
        self.client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, 0)])
        return str(made.model_id)

    def _add_evaluations(self, run: Any, trial_id: str, about: dict[str, Any]) -> None:
        """Scores of what the trial's model was asked besides, as `NAME/METRIC`; those that are there stay."""
        from mlflow.entities import Metric

        end = int(about["started"].timestamp() * 1000 + about["wall_s"] * 1000)
        asked = read(evaluations_of(trial_id, self.results)).to_pylist()
        points = [Metric(f"{row['evaluation']}/{row['metric']}", row["value"], end, row["step"]) for row in asked]
        if new := [point for point in points if point.key not in run.data.metrics]:
            self.client.log_batch(run.info.run_id, metrics=new)

    def report(self, name: str, about: str, verdicts: Mapping[str, str], folder: Path) -> None:
        """The sweep as one run in an experiment of sweeps, with its report as artifact; a later report replaces it."""
        experiment_id = self.experiment(SWEEPS)
        found = next(tracked.runs(self.client, experiment_id, f"tags.sweep = '{name}'"), None)
        run = found or self.client.create_run(experiment_id, tags={"sweep": name}, run_name=name)
        for key, value in {"mlflow.note.content": about, **verdicts}.items():
            self.client.set_tag(run.info.run_id, key, value)
        if store_uri(self.results).startswith("http"):
            self.client.log_artifacts(run.info.run_id, str(folder), "report")
        else:
            at = artifacts(self.results) / run.info.artifact_uri.removeprefix("mlflow-artifacts:/") / "report"
            shutil.copytree(folder, at, dirs_exist_ok=True)
        self.client.set_terminated(run.info.run_id)

    def compare_links(self, sweep: str, base: str) -> dict[str, str]:
        """For each task, the addresses of MLflow's comparison of this sweep's runs: columns, charts and order are set."""
        links: dict[str, str] = {}
        for experiment in self.client.search_experiments(filter_string="name LIKE 'parrots/%'"):
            runs = list(tracked.runs(self.client, experiment.experiment_id, f"tags.`sweep.{sweep}` = 'yes'"))
            if runs and experiment.name != SWEEPS:
                links |= comparison.links(self.client, experiment, sweep, runs, base)
        return links


def ended(about: dict[str, Any]) -> int:
    """When an execution ended, in milliseconds."""
    return int(about["started"].timestamp() * 1000 + about["wall_s"] * 1000)


def lean(measured: Iterable[tuple[str | None, float, int]]) -> list[tuple[str, float, int]]:
    """(metric, value, step) of a record but for layers: of the curves in OVER_LAYERS the worst layer's point at each step."""
    kept: list[tuple[str, float, int]] = []
    worst: dict[tuple[str, int], float] = {}
    for metric, value, step in measured:
        name, _, layer = (metric or "").rpartition("_")
        if name in OVER_LAYERS and layer.isdigit():
            worst[name, step] = OVER_LAYERS[name](value, worst.get((name, step), value))
        elif metric is not None:
            kept.append((metric, value, step))
    return kept + [(name, value, step) for (name, step), value in worst.items()]


def dataset(about: dict[str, Any]) -> Any:
    """The task's training data as MLflow's input: named by what makes them, as data are a function of the task."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    task = Trial.model_validate_json(about["trial"]).task
    said = f"{canonical_json(task)} v{task.version}"
    name = f"{task.kind}-v{task.version}"
    made = Dataset(name, hashlib.sha256(said.encode()).hexdigest()[:16], "code", json.dumps({"task": canonical_json(task)}))
    return DatasetInput(made, [InputTag("mlflow.data.context", "training")])


def params_of(about: dict[str, Any]) -> list[Any]:
    """`parameters` as MLflow takes them."""
    from mlflow.entities import Param

    return [Param(key, str(value)) for key, value in parameters(about).items()]


def parameters(about: dict[str, Any]) -> dict[str, float | int | str]:
    """What MLflow's tables sort and its charts draw by: every field that may be an axis and every count.

    Of what a token touches the total and the experts: of every other group it touches all, which stands there already.
    Numbers where they are numbers, so 1 and 0 for yes and no; a name is its last part, if no other field shares that. Not the
    task's, which is the experiment's: a search of a thousand runs takes as long as they have entries.
    """
    trial = Trial.model_validate_json(about["trial"])
    fields = flat(trial.model_dump(mode="json"))
    names = {dotted: name for name, dotted in short(tuple(fields)).items()}
    del fields["task.kind"]
    said = {names.get(dotted, dotted): int(v) if isinstance(v, bool) else v for dotted, v in fields.items() if v is not None}
    counts = {name: about[name] for name in SCHEMA.names if re.match("total_|active_experts|N_|tokens|flops|workers", name)}
    return said | {"n_experts": trial.model.n_experts, "top_k": trial.model.top_k} | counts
