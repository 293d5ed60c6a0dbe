"""Run the missing cells of a sweep on Ray: Tune drives, Train shards.

Two lanes, one training loop behind them (`parrots.execution.run_trial`). A cell for one worker runs inside a reused Tune actor,
0.1 to 0.3 CPU-seconds a trial beside 21 for a worker group; a cell for several goes through a Train worker group (FSDP).
What a cell leaves is its record, written by the worker that made it; Tune's own results are for its command line.
"""

import os
import secrets
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from math import ceil, inf
from pathlib import Path
from typing import Any

# Ray reads these once, as it is imported
os.environ |= {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
if "RAY_ADDRESS" not in os.environ:  # our own Ray, which answers on every network: only to those who have this token
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

import ray
from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler

from parrots.execution import about, write_failure
from parrots.failures import BUDGET, classify, failure, hardware
from parrots.placement import Placement
from parrots.record import Record
from parrots.spec import Cell, Trial
from parrots.training.stacked import groups, shape, worthwhile
from sweeps import stopping, token
from sweeps.how import How
from sweeps.leaks import leaks
from sweeps.spec import Sweep
from sweeps.watch import Watch
from sweeps.work import Given, alone, device, grouped

WORKER_ENV = {
    "OMP_NUM_THREADS": "1",  # two one-thread processes beat one of two threads by 1.4 to 1.7 on two cores
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how often a report is taken in; 2 s by default, and it blocks
}
DRIVER = "parrots_driver"  # a resource of the node where drivers of worker groups live
Following = Callable[[], Sequence[Cell]]
OBJECT_STORE_BYTES = 100 * 2**20  # nothing large passes through it; Ray takes 30 % of memory unless told otherwise
GRACE_S = 120.0  # for what is under way when a run is asked to end: to its checkpoint, or through data or evaluation
RAISED = "ray::"  # how Ray begins to tell what a process raised; one that died could not


def run(
    sweep: Sweep, cells: Sequence[Cell], results: Path, watch: Watch, how: How | None = None, following: Following = list
) -> None:
    """Run `cells`, in their order within a lane, then those that `following` names, until it names none.

    A cell that fails leaves its reason and stops no other.

    KeyboardInterrupt, with the reason if there is one, when it was asked to end early: what was finished has its record, what
    was under way its checkpoint, and the next run goes on from there.
    """
    folder = results / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    stopping.withdraw(results)
    with (folder / "ray.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        lanes(sweep, cells, results, watch, how or How(), following)


def graceful(results: Path) -> dict[signal.Signals, Any]:
    """From now on Ctrl-C and SIGTERM ask the run to end, and a second one ends it at once; returns the handlers before."""

    def ask(*_: object) -> None:
        if stopping.path_of(results).exists():
            raise KeyboardInterrupt
        stopping.request(results)

    return {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}


def lanes(sweep: Sweep, cells: Sequence[Cell], results: Path, watch: Watch, how: How, following: Following) -> None:
    """One lane after another; each is the cells of one number of workers, since a Tuner that mixes them reuses no actor."""
    # Ray puts the current folder before the libraries of its workers: there, a sweep called six.py would be `six`.
    most = max(cell.workers for cell in cells)
    with chdir(results / "tune"):
        start(max(watch.slots, most))
    handlers = graceful(results)  # now, since Ray sets its own for SIGTERM as it starts
    try:
        if 0 < (gpus := int(ray.cluster_resources().get("GPU", 0))) < most:
            raise ValueError(f"a cell wants {most} workers and there are {gpus} GPUs; add some, or lower its workers")
        before = leaks()
        for line in sorted(before):
            watch.console.print(f"left over on this cluster by others: {line}")
        while cells:
            for workers in sorted({cell.workers for cell in cells}):
                lane = [cell for cell in cells if cell.workers == workers]
                tuner(sweep, lane, results, watch, how).fit()
                if watch.unfinished(lane):
                    asked = stopping.path_of(results)
                    raise KeyboardInterrupt(*filter(None, [asked.read_text() if asked.exists() else ""]))
            cells = following()
        for line in sorted(leaks(patience_s=5.0) - before):
            watch.console.print(f"left over on this cluster by this run: {line}")
    finally:
        ray.shutdown()
        for one, handler in handlers.items():
            signal.signal(one, handler)


def start(slots: int) -> None:
    """Start Ray here, or join the cluster that RAY_ADDRESS names."""
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "runtime_env": {"env_vars": WORKER_ENV}}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**common)
    else:
        if os.environ.get("RAY_AUTH_MODE", "token") == "token":
            token.ensure()
        here = {"address": "local", "include_dashboard": False}
        ray.init(**here, num_cpus=slots, resources={DRIVER: 1000}, object_store_memory=OBJECT_STORE_BYTES, **common)


def tuner(sweep: Sweep, lane: Sequence[Cell], results: Path, watch: Watch, how: How) -> tune.Tuner:
    """The Tuner over cells that all have the same number of workers."""
    workers = lane[0].workers
    cluster = ray.cluster_resources()
    unit = {"gpu": 1} if cluster.get("GPU") else {"cpu": 1}
    slots = int(cluster.get("GPU") or (watch.slots if workers == 1 else cluster["CPU"]))
    lane, stacks = side_by_side(lane, results, how, slots)
    cells = {cell.trial.id: cell.model_dump_json() for cell in lane}
    columns = {cell.trial.id: axes(cell.trial) for cell in lane}
    space = {"trial_id": tune.grid_search(list(cells))}
    for axis in next(iter(columns.values())):
        space[axis] = tune.sample_from(lambda spec, axis=axis: columns[spec.config["trial_id"]][axis])
    given = Given(sweep.name, results.absolute(), sweep.keep, workers, cells, stacks, how.checkpoint_s, how.early_stop)
    body = alone if workers == 1 else grouped
    if how.early_stop and workers > 1:
        raise ValueError("--early-stop: ends cells of one worker only; a group that is ended leaves its resources held")
    # A group's driver takes no slot, and only as many run as can have all of their workers: none waits for ever.
    resources = unit if workers == 1 else {"cpu": 0, DRIVER: 1}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(body, given=given), resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            reuse_actors=workers == 1,
            max_concurrent_trials=slots // workers,
            scheduler=halving() if how.early_stop else None,
            trial_name_creator=lambda trial: trial.config["trial_id"],
            trial_dirname_creator=lambda trial: trial.config["trial_id"],
        ),
        run_config=tune.RunConfig(
            name=f"{sweep.name}-{time.strftime('%Y%m%d-%H%M%S')}-{workers}",  # a later round of a search takes longer than 1 s
            storage_path=str((results / "tune").absolute()),
            failure_config=tune.FailureConfig(max_failures=BUDGET["infrastructure"]),
            stop=Ending(watch, results, how),
            verbose=0,
            callbacks=[Watching(watch, given), JsonLoggerCallback()],
        ),
    )


def side_by_side(lane: Sequence[Cell], results: Path, how: How, slots: int) -> tuple[list[Cell], dict[str, tuple[str, ...]]]:
    """The cells in the order to start them, and which are trained together, under the id of each.

    The first of each stack trains it, and stands where its first cell stood; the others come last and find their records.
    No stack is so large that a slot stays without one.
    """
    place = Placement(results, world=lane[0].workers, device=device())
    by_shape: dict[str, list[Trial]] = {}
    for trial in () if how.early_stop else (cell.trial for cell in lane):
        by_shape.setdefault(shape(trial), []).append(trial)
    under: dict[str, tuple[str, ...]] = {}
    for trials in by_shape.values():
        most = worthwhile(trials[0], place) if how.stack is None else how.stack
        for group in groups(trials, replace(place, stack=min(most, ceil(len(trials) / slots)))):
            stack = tuple(trials[i].id for i in group)
            under |= dict.fromkeys(stack, stack)
    last = [cell for cell in lane if under.get(cell.trial.id, [cell.trial.id])[0] != cell.trial.id]
    return [cell for cell in lane if cell not in last] + last, under


def axes(trial: Trial) -> dict[str, Any]:
    """What `tune list-trials` shows of a trial."""
    model = trial.model
    about = {"task": trial.task.kind, "d_model": model.d_model, "d_ff": model.ffn.d_ff, "n_experts": model.n_experts}
    return {**about, "top_k": model.top_k, "lr": trial.training.lr, "seed": trial.seed}


def halving() -> ASHAScheduler:
    """Ends the worse half of the cells, by training loss, after a quarter and after half of their steps.

    It is asynchronous: the same cells may have other survivors the next time.
    """
    return ASHAScheduler(time_attr="percent", metric="loss", mode="min", max_t=101, grace_period=25, reduction_factor=2)


class Ending(tune.Stopper):
    """Ends a lane that is asked to, when what was under way has come to its checkpoint; asks when the budget is spent."""

    def __init__(self, watch: Watch, results: Path, how: How):
        self.watch, self.results, self.how = watch, results, how
        self.asked = stopping.Asked(results)
        self.underway: set[str] | None = None
        self.until = inf

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        spent = self.watch.device_s() / 3600
        if spent > self.how.max_device_hours and not self.asked():
            stopping.request(self.results, f"{spent:.3g} device-hours are spent")
        if not self.asked():
            return False
        running = set(self.watch.share)
        if self.underway is None:
            self.underway, self.until = running, time.monotonic() + GRACE_S
        return not (self.underway & running) or time.monotonic() > self.until


class Watching(tune.Callback):
    """Passes Tune's events on; writes the record of a cell whose process died, which could not write its own."""

    def __init__(self, watch: Watch, given: Given):
        self.watch, self.given = watch, given

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore, which the ledger makes needless

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.started(trial.config["trial_id"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        if "status" in result:
            self.watch.ended(trial_id, result["status"], result.get("train_seconds", 0.0))
        elif "step" in result:
            progress = result["step"] / result["steps"]
            self.watch.progressed(trial_id, progress, result["tokens"], result["alarms"], result["seconds"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell that ends without having said so was ended by the rule."""
        at, given, watch = trial.last_result or {}, self.given, self.watch
        if given.early_stop and "percent" in at and "status" not in at and not stopping.path_of(given.results).exists():
            cell = given.cell(trial.config["trial_id"])
            reason = f"ended early by {given.early_stop} at step {at['step']} of {at['steps']}, loss {at['loss']:.4g}"
            here = hardware(device())
            record = Record(cell.trial, "stopped", [], datetime.now(UTC), 0.0, here, reason, steps=at["step"])
            told = about(cell.trial, given.results, given.sweep)
            write_failure(replace(record, **told, early_stop=given.early_stop), given.results)
            watch.ended(cell.trial.id, "ended early")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._lost(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.ended(trial.config["trial_id"], self._lost(trial))

    def _lost(self, trial: Any) -> str:
        given, cell = self.given, self.given.cell(trial.config["trial_id"])
        told = Path(trial.error_file).read_text().strip() if trial.error_file else "and said nothing"
        error = RuntimeError(f"its process ended, {told.splitlines()[-1]}")
        kind = classify(RuntimeError(told)) if RAISED in told.rpartition("Failure #")[2] else "infrastructure"
        record = failure(cell.trial, error, Placement(given.results, world=given.workers, device=device()), kind)
        told_of = about(cell.trial, given.results, given.sweep)
        write_failure(replace(record, **told_of, early_stop=given.early_stop), given.results)
        return record.status
