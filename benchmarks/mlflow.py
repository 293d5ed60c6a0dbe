"""Mirroring a sweep to MLflow beside Ray's MLflowLoggerCallback, on the same store, and searching it afterwards: one table.

    python benchmarks/mlflow.py [--runs 1000] [--points 100] [--theirs 20] [--out benchmarks/results/mlflow-cpu.md]

Ours: records of one curve of so many points through sweeps/tracking.py, as a sweep mirrors them. Theirs: the same points, one
result a point, through the callback as Tune calls it, for the first `--theirs` runs, since all would take an hour; it writes
the result's `training_iteration` as a metric too, which is counted in its favour. Their runs are made in portions between
ours, so that a busy machine slows both. Afterwards every point of ours is read back and compared with its record.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket
from types import SimpleNamespace
from typing import Any

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}

from bench import Table, arguments, machine

sys.path.remove(str(Path(__file__).resolve().parent))  # or `import mlflow` would be this file

from mlflow import MlflowClient
from ray.air.integrations.mlflow import MLflowLoggerCallback

from parrots.measurement import Measurement
from parrots.provenance import processor
from parrots.record import Record
from parrots.spec import Trial
from sweeps import tracked
from sweeps.guard import LOOPBACK
from sweeps.tracking import Store, store_uri
from sweeps.verbs.mlflow import SAFE, server

PORTIONS = 5  # in which theirs are made between ours
SEARCHES = 5  # of which the slowest is told


def trial(seed: int) -> Trial:
    """One of a sweep's."""
    model = {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn": {"kind": "dense", "d_ff": 32}}
    task = {"kind": "phonebook", "n_entries": 200, "n_test": 200}
    return Trial.model_validate(
        {"model": model, "task": task, "training": {"steps": 1000, "batch_size": 100, "lr": 1e-2}, "seed": seed}
    )


def curve(seed: int, points: int) -> list[Measurement]:
    """A loss that no other run has."""
    return [Measurement("loss", step, 3 / step + seed, 0.1, 5) for step in range(1, points + 1)]


def written(runs: int, points: int, results: Path) -> list[Trial]:
    """Trials and their records."""
    made = [trial(seed) for seed in range(runs)]
    for one in made:
        Record(one, "done", curve(one.seed, points), datetime.now(UTC), 20.0, processor(), sweep="benchmark", steps=1000).write(
            results
        )
    return made


@contextmanager
def served(results: Path) -> Iterator[str]:
    """A server over a store of its own, and its address."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port = probe.getsockname()[1]
    env = os.environ | SAFE | {"MLFLOW_BACKEND_STORE_URI": f"sqlite:///{results / 'mlflow.db'}"}
    with (results / "server.log").open("w") as log:
        command = server(results, LOOPBACK, port, names=[])
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log)  # nosec B603 # ours
    try:
        until = time.monotonic() + 600
        while socket(AF_INET, SOCK_STREAM).connect_ex((LOOPBACK, port)):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError((results / "server.log").read_text()[-2000:])
            time.sleep(0.2)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.terminate()
        process.wait(30)


def theirs(uri: str) -> Callable[[Trial, int], None]:
    """What takes a trial through Ray's callback, as Tune would."""
    callback = MLflowLoggerCallback(uri, experiment_name="theirs")
    callback.setup()

    def through(one: Trial, points: int) -> None:
        class Named(SimpleNamespace):
            __hash__ = object.__hash__

            def __str__(self) -> str:
                return one.name

        told = Named(config={"d_model": one.model.d_model, "lr": one.training.lr, "seed": one.seed})
        callback.log_trial_start(told)
        for m in curve(one.seed, points):
            callback.log_trial_result(m.step, told, {"training_iteration": m.step, m.metric: m.value})
        callback.log_trial_end(told)

    return through


def seconds(call: Callable[[], Any]) -> tuple[float, float]:
    """Of the clock, and of this process's CPU time."""
    began = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def portions(some: list[Trial]) -> list[list[Trial]]:
    """About equal parts, in order."""
    return [part for k in range(PORTIONS) if (part := some[k * len(some) // PORTIONS : (k + 1) * len(some) // PORTIONS])]


def compared(kind: str, uri: str, made: list[Trial], results: Path, args: Any, table: Table) -> None:
    """One store's rows of the table."""
    through, store = theirs(uri), Store(results)
    store.experiment("parrots/phonebook")
    took: dict[str, list[tuple[float, float]]] = {"ours": [], "theirs": []}
    others = portions(made[: args.theirs])
    for k, part in enumerate(portions(made)):
        took["ours"].append(seconds(lambda part=part: [store.mirror(one.id, "benchmark") for one in part]))
        some = others[k] if k < len(others) else []
        took["theirs"].append(seconds(lambda some=some: [through(one, args.points) for one in some]))
    counts = {"ours": len(made), "theirs": min(args.theirs, len(made))}
    points = {"ours": args.points, "theirs": 2 * args.points}
    clock, cpu = ({who: sum(one[k] for one in took[who]) for who in took} for k in range(2))
    rate = {who: counts[who] * points[who] / clock[who] for who in took}
    for who, name in (("ours", "sweeps/tracking.py"), ("theirs", "MLflowLoggerCallback")):
        a_run = (f"{clock[who] / counts[who]:.3f}", f"{cpu[who] / counts[who]:.3f}")
        times = f"{rate['ours'] / rate['theirs']:.1f} times as many" if who == "ours" else ""
        found = intact(store.client, made, args.points) if who == "ours" else ""
        table.row(kind, name, counts[who], points[who], *a_run, f"{rate[who]:,.0f}", times, found)
    table.row(kind, *searched(store))


def intact(client: MlflowClient, made: list[Trial], points: int) -> str:
    """Compare every point with what was recorded. RuntimeError if one is lost, doubled or another."""
    experiment = client.get_experiment_by_name("parrots/phonebook").experiment_id
    runs, token = [], None
    while token or not runs:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        runs, token = runs + list(page), page.token
        if not token:
            break
    seeds = sorted(int(run.data.params["seed"]) for run in runs)
    if seeds != list(range(len(made))):
        raise RuntimeError(f"{len(runs)} runs for {len(made)} trials")
    for run in runs:
        logged = sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, "loss"))
        if logged != [(m.step, m.value) for m in curve(int(run.data.params["seed"]), points)]:
            raise RuntimeError(f"run {run.info.run_name}: {len(logged)} points, {points} were recorded, or other values")
    return f"{len(runs) * points:,} points read back: none lost, doubled or changed"


def searched(store: Store) -> tuple[Any, ...]:
    """The cells of a row that tell how long we take to search all of ours, best first: the slowest of several times."""
    experiment, found = store.experiment("parrots/phonebook"), []
    asked = ("tags.`sweep.benchmark` = 'yes'", ["metrics.loss ASC"])

    def search() -> None:
        found.append(len(list(tracked.runs(store.client, experiment, *asked))))

    took = [seconds(search)[0] for _ in range(SEARCHES)]
    said = f"slowest of {SEARCHES} searches {max(took):.2f} s, median {statistics.median(took):.2f} s"
    return "search of its runs by tag, in order of a metric", found[0], "", "", "", "", "", said


def main() -> None:
    args = arguments(
        __doc__,
        runs=(1000, "runs that are mirrored"),
        points=(100, "points of each run's curve"),
        theirs=(20, "runs that go through Ray's callback"),
    )
    if args.smoke:
        args.runs, args.points, args.theirs = 10, 10, 2
    text = f"{machine()}, MLflow over SQLite on the local disk. Seconds of the clock; CPU-seconds of this process, no server's."
    head = ("store", "", "runs", "points a run", "s a run", "CPU-s a run", "points a second", "", "afterwards")
    table = Table("Mirroring to MLflow", text, head)
    for kind in ("SQLite", "a local server"):
        with tempfile.TemporaryDirectory() as folder:
            results = Path(folder)
            made = written(args.runs, args.points, results)
            if kind == "SQLite":
                compared(kind, store_uri(results), made, results, args, table)
                continue
            with served(results) as address:
                os.environ["MLFLOW_TRACKING_URI"] = address
                compared(kind, address, made, results, args, table)
                del os.environ["MLFLOW_TRACKING_URI"]
    table.keep(args.out)


if __name__ == "__main__":
    sys.exit(main())
