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
from itertools import count
from math import isnan
from pathlib import Path
from queue import PriorityQueue
from threading import Thread
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import pyarrow as pa

from parrots.frozen import canonical_json, first_line
from parrots.keys import covered
from parrots.record import RESULTS, SCHEMA, evaluations_of, failures_of, path_of, read
from parrots.spec import Trial
from sweeps import comparison, ledger, tracked
from sweeps.fields import flat, short
from sweeps.guard import unheard

SWEEPS = "parrots/sweeps"
PORTS = {"http": 80, "https": 443, "postgresql+psycopg2": 5432}  # where an address says none
REASON = 1000  # characters of why a trial failed; its record has all
NO_MODEL = r"[/:.%\"']"  # what no model's name may have
DECLARED = "total_|active_experts|N_"
COUNTS = f"{DECLARED}|tokens|flops|workers"
NOTE = "mlflow.note.content"  # what somebody wrote beside a run
EXTERNAL = "mlflow.model.isExternal"  # the tag of a model whose files MLflow does not hold
OVER_LAYERS: dict[str, Callable[..., float]] = {"router_largest_share": max, "router_dead": max, "router_entropy": min}
"""Curves of which records have one a layer and MLflow the worst layer's: a deep model's would be hundreds."""
PATIENCE_S = 120.0  # how long a run that is over waits for MLflow; 10,000 trials take longer, and the next run goes on


def store_uri(results: Path) -> str:
    """The MLflow store of a results folder: SQLite, or what MLFLOW_TRACKING_URI names."""
    return tracked.spelled(os.environ.get("MLFLOW_TRACKING_URI", "")) or f"sqlite:///{(results / 'mlflow.db').absolute()}"


def artifacts(results: Path) -> Path:
    """Where MLflow's server finds what runs leave beside numbers."""
    return (results / "mlartifacts").absolute()


def away(uri: str) -> str:
    """Why nobody listens where this store is; nothing where somebody does, or it cannot be seen from here: files, a proxy."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        if uri.startswith("http"):
            at = urlsplit(uri)
            host, port = at.hostname, at.port
        else:
            url = make_url(uri)
            host, port = url.host, url.port
    except (ValueError, ArgumentError):
        return "no address"
    scheme = uri.partition(":")[0]
    if not host or {scheme, "all"} & getproxies().keys():
        return ""
    return unheard(f"{host}:{port or PORTS.get(scheme)}")


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """ValueError, in a line and without credentials, where the MLflow store of this address does not answer, in seconds."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    waits = {name: value for name, value in tracked.PATIENCE.items() if name not in os.environ}
    os.environ |= waits
    try:
        if why := away(uri):
            raise ConnectionError(why)
        yield
    except ImportError as error:
        raise ValueError(covered(f"MLflow at {uri}: {first_line(error)}; install that driver of its database")) from error
    except (MlflowException, SQLAlchemyError, ConnectionError) as error:
        raise ValueError(covered(f"MLflow at {uri}: {first_line(error)}")) from error
    finally:
        for name in waits:
            os.environ.pop(name, None)


class Mirror:
    """Copies records to MLflow in a thread of its own while it is entered as a context; leaving waits for the last.

    What fails holds nothing else up, and is tried once more at the end: a server may have been started anew meanwhile.
    """

    def __init__(self, results: Path):
        self.results = results
        self.queue: PriorityQueue[tuple[int, int, Callable[[Store], None] | None]] = PriorityQueue()
        self.numbers = count()
        self.asked = self.there = 0
        self.thread = Thread(target=self._work, daemon=True)
        self.problem = ""
        """Why MLflow does not have everything, in a line, or nothing."""

    def add(self, trial_id: str, sweep: str) -> None:
        """Mirror this trial's record, when there is time; it counts as one of the sweep's."""
        self._put(1, lambda store: store.mirror(trial_id, sweep))

    def finish(self, sweep: str, about: str, verdicts: Mapping[str, str], folder: Path) -> None:
        """Mirror the sweep itself, with its report, before other trials; `about`, in Markdown, describes it."""
        self._put(0, lambda store: store.report(sweep, about, verdicts, folder))

    def __enter__(self) -> "Mirror":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.queue.put((2, next(self.numbers), None))
        self.thread.join(PATIENCE_S)
        if self.thread.is_alive():
            why = f": {self.problem}" if self.problem else ""
            said = f"{store_uri(self.results)} has taken {self.there} of {self.asked} in the last {PATIENCE_S:g} s{why}"
            self.problem = covered(said)

    def _put(self, turn: int, item: "Callable[[Store], None]") -> None:
        self.asked += 1
        self.queue.put((turn, next(self.numbers), item))

    def _work(self) -> None:
        if failed := self._try(self._items()):
            self.problem = ""
            self._try(failed)

    def _items(self) -> "Iterator[Callable[[Store], None]]":
        while (item := self.queue.get()[-1]) is not None:
            yield item

    def _try(self, items: "Iterable[Callable[[Store], None]]") -> "list[Callable[[Store], None]]":
        """The items that fail. The first one's problem is told."""
        uri, store, failed = store_uri(self.results), None, []
        for item in items:
            try:
                if why := away(uri):  # MLflow itself would try for minutes, for each
                    raise ConnectionError(f"{uri}: {why}")
                store = store or Store(self.results)
                item(store)
                self.there += 1
            except Exception as error:  # whatever MLflow or its database may raise: training goes on without it
                failed.append(item)
                self.problem = self.problem or covered(f"{type(error).__name__}: {first_line(error)}")
        return failed


class Store:
    """An MLflow store and which of our trials it has."""

    def __init__(self, results: Path):
        import logging

        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # which has the password, if the store's address has
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
        """The id of this experiment, which another writer may make at the same moment; one that was deleted is restored."""
        from mlflow.exceptions import MlflowException

        if found := self.client.get_experiment_by_name(name):
            if found.lifecycle_stage == "deleted":
                self.client.restore_experiment(found.experiment_id)
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
        paths = [path] if path.exists() else failures_of(trial_id, self.results)[-1:]
        if not paths:
            return
        rows = read(paths)
        about = {name: rows[name][0].as_py() for name in rows.schema.names}
        experiment = f"parrots/{about['task']}"
        experiment_id = self.experiment(experiment)
        run = self.runs[experiment].pop(trial_id, None)  # whatever fails, it is looked for anew
        if run is None:  # another writer may have made it
            run = next(tracked.runs(self.client, experiment_id, f"tags.trial_id = '{trial_id}'"), None)
        self.runs[experiment][trial_id] = self._mirrored(experiment_id, run, rows, about, sweep)

    def _mirrored(self, experiment_id: str, run: Any | None, rows: pa.Table, about: dict[str, Any], sweep: str) -> Any:
        """The run of a trial after this execution; `run` is the one before it, if any."""
        started, known = about["started"].isoformat(timespec="milliseconds"), run.data.tags.get("started", "") if run else ""
        of_sweep = {f"sweep.{sweep}": "yes"}
        tags = of_sweep | {"attempt": str(about["attempt"]), "started": started, "git_commit": about["commit"]}
        tags |= {"status": about["status"], "reason": about["reason"][:REASON]}
        if known > started:  # it was executed again elsewhere, and that is there
            tags = of_sweep
        elif run and known != started and not becomes(run, about):
            tags = {key: value for key, value in run.data.tags.items() if key.startswith("sweep.") or key == NOTE} | tags
            self.client.delete_run(run.info.run_id)
            run = None
        if run is None:
            start = int(about["started"].timestamp() * 1000)
            told = {"sweep": about["sweep"], "trial_id": about["trial_id"]}
            run = self.client.create_run(experiment_id, start, {k: v for k, v in tags.items() if v} | told, about["name"])
        run_id = run.info.run_id
        for key, value in tags.items():
            if run.data.tags.get(key, "") != value:
                self.client.set_tag(run_id, key, value)
        if known > started:
            return run
        if about["status"] not in RESULTS:
            self.client.log_batch(run_id, params=params_of(about))
            self.client.set_terminated(run_id, "FAILED", ended(about))
        elif run.info.status != "FINISHED":
            self._log(run_id, rows, about, self._model(run, about))
            self._add_evaluations(run, about)
        elif not self._add_evaluations(run, about):
            return run
        return self.client.get_run(run_id)

    def _log(self, run_id: str, rows: pa.Table, about: dict[str, Any], model_id: str | None) -> None:
        """Parameters and metrics. Times are the record's, so that logging a point again changes nothing.

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
        self.client.log_batch(run_id, metrics=points, params=params_of(about))
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
            made = found[0]
            if any(output.model_id == made.model_id for output in self.client.get_run(run.info.run_id).outputs.model_outputs):
                return str(made.model_id)
        else:
            name = re.sub(NO_MODEL, "_", about["name"])
            tags = {"trial_id": about["trial_id"], "weights": f"weights/{path.name}", EXTERNAL: "true"}
            made = self.client.create_logged_model(run.info.experiment_id, name, run.info.run_id, tags)
        self.client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
        self.client.log_outputs(run.info.run_id, [LoggedModelOutput(made.model_id, 0)])
        return str(made.model_id)

    def _add_evaluations(self, run: Any, about: dict[str, Any]) -> bool:
        """Scores of what the trial's model was asked besides, as `NAME/METRIC`; whether one was missing."""
        from mlflow.entities import Metric

        asked = read(evaluations_of(about["trial_id"], self.results)).to_pylist()
        new = [row for row in asked if not same(run.data.metrics.get(f"{row['evaluation']}/{row['metric']}"), row["value"])]
        if new:
            model_id = self._model(run, about)
            points = [
                Metric(f"{row['evaluation']}/{row['metric']}", row["value"], ended(row), row["step"], model_id=model_id)
                for row in new
            ]
            self.client.log_batch(run.info.run_id, metrics=points)
        return bool(new)

    def report(self, name: str, about: str, verdicts: Mapping[str, str], folder: Path) -> None:
        """The sweep as one run in an experiment of sweeps, with its report as artifact; a later report replaces it."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        experiment_id = self.experiment(SWEEPS)
        found = next(tracked.runs(self.client, experiment_id, f"tags.sweep = '{name}'"), None)
        run = found or self.client.create_run(experiment_id, tags={"sweep": name}, run_name=name)
        for key in run.data.tags:
            if not key.startswith("mlflow.") and key not in {"sweep", *verdicts}:
                self.client.delete_tag(run.info.run_id, key)
        for key, value in {NOTE: about, **verdicts}.items():
            self.client.set_tag(run.info.run_id, key, value)
        if store_uri(self.results).startswith("http"):
            if self.client.list_artifacts(run.info.run_id, "report"):
                get_artifact_repository(run.info.artifact_uri, self.client.tracking_uri).delete_artifacts("report")
            self.client.log_artifacts(run.info.run_id, str(folder), "report")
        else:
            at = artifacts(self.results) / run.info.artifact_uri.removeprefix("mlflow-artifacts:/") / "report"
            shutil.rmtree(at, ignore_errors=True)
            shutil.copytree(folder, at)
        self.client.set_terminated(run.info.run_id)

    def compare_links(self, sweep: str, base: str) -> dict[str, str]:
        """For each task, the addresses of MLflow's comparison of this sweep's runs: columns, charts and order are set."""
        links: dict[str, str] = {}
        for experiment in self.client.search_experiments(filter_string="name LIKE 'parrots/%'"):
            runs = list(tracked.runs(self.client, experiment.experiment_id, f"tags.`sweep.{sweep}` = 'yes'"))
            if runs and experiment.name != SWEEPS:
                links |= comparison.links(self.client, experiment, sweep, runs, base)
        return links


def becomes(run: Any, about: dict[str, Any]) -> bool:
    """Whether a run of an earlier execution can be this one's: it has no numbers, and no parameter that is another now."""
    said = {key: str(value) for key, value in parameters(about).items()}
    same = all(said.get(key, value) == value for key, value in run.data.params.items())
    return same and not run.data.metrics


def same(known: float | None, value: float) -> bool:
    """Whether a number is there already; what is no number is like itself."""
    return known == value or (known is not None and isnan(known) and isnan(value))


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

    MLflow lets none be changed, so an attempt that failed has none of what depends on how far it came.
    Of what a token touches the total and the experts: of every other group it touches all, which stands there already.
    Numbers where they are numbers, so 1 and 0 for yes and no; a name is its last part, if no other field shares that. Not the
    task's, which is the experiment's: a search of a thousand runs takes as long as they have entries.
    """
    trial = Trial.model_validate_json(about["trial"])
    fields = flat(trial.model_dump(mode="json"))
    names = {dotted: name for name, dotted in short(tuple(fields)).items()}
    del fields["task.kind"]
    said = {names.get(dotted, dotted): int(v) if isinstance(v, bool) else v for dotted, v in fields.items() if v is not None}
    wanted = COUNTS if about["status"] in RESULTS else DECLARED
    counts = {name: about[name] for name in SCHEMA.names if re.match(wanted, name)}
    return said | {"n_experts": trial.model.n_experts, "top_k": trial.model.top_k} | counts
