"""Run the missing cells of a sweep on Ray: Tune drives, Train shards.

Two lanes (sweeps/lanes.py), one training loop behind them (`parrots.execution.run_trial`): inside a reused Tune actor, or
through a Train worker group (FSDP).
What a cell leaves is its record, written by the worker that made it; Tune's own results are for its command line.
"""

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from math import ceil, inf
from pathlib import Path
from typing import Any

from sweeps import token

# Ray reads these once, as it is imported
os.environ |= {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_prestart_worker_first_driver": "0",  # processes that wait for tasks, which there are none of
}
if "RAY_ADDRESS" not in os.environ:
    os.environ |= token.of_its_own()

import ray
from ray import tune
from ray.tune.logger import JsonLoggerCallback
from ray.tune.schedulers import ASHAScheduler

from parrots.failures import BUDGET
from parrots.frozen import first_line
from parrots.placement import Placement
from parrots.provenance import cores
from parrots.run import ONE_REQUEST_S
from parrots.spec import Cell, Trial
from parrots.store import READ
from parrots.training.stacked import groups, shape, worthwhile
from sweeps import devices, stopping
from sweeps.events import Ending, Watching
from sweeps.guard import unheard
from sweeps.how import How
from sweeps.lanes import Lane, capacity, elastic, joined, lane_of, part, per_gpu, smallest, split
from sweeps.leaks import leaks
from sweeps.spec import Sweep
from sweeps.watch import Watch
from sweeps.work import Given, alone, device, grouped, leader

WORKER_ENV = {
    "OMP_NUM_THREADS": "1",  # two one-thread processes beat one of two threads by 1.4 to 1.7 on two cores
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how often a report is taken in; 2 s by default, and it blocks
}
DRIVER = "parrots_driver"  # a resource of the node where drivers of worker groups live
Following = Callable[[], Sequence[Cell]]
OBJECT_STORE_BYTES = 100 * 2**20  # nothing large passes through it; Ray takes 30 % of memory unless told otherwise


def run(
    sweep: Sweep, cells: Sequence[Cell], results: Path, watch: Watch, how: How | None = None, following: Following = list
) -> None:
    """Run `cells`, in their order within a lane, then those that `following` names, until it names none.

    A cell that fails leaves its reason and stops no other.

    ValueError, before anything runs, where some of the cells are groups and were to be ended early.
    KeyboardInterrupt, with the reason if there is one, when it was asked to end early: what was finished has its record, what
    was under way its checkpoint, and the next run goes on from there.
    """
    if how and how.early_stop and any(kind != "packed" for kind, _ in split(cells, sweep.scale)):
        raise ValueError("--early-stop: ends packed cells only; a group that is ended leaves its resources held")
    if how and how.store and joined() and how.stack not in (None, 1):
        raise ValueError(f"--stack {how.stack}: on a cluster with a store machines cannot wait for each other's stacks")
    folder = results / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    stopping.withdraw(results, how.stored(results) if how else None)
    with (folder / "ray.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        lanes(sweep, cells, results, watch, how or How(), following)


def graceful(results: Path) -> dict[signal.Signals, Any]:
    """From now on Ctrl-C and SIGTERM ask the run to end, and a second one ends it at once; returns the handlers before.

    Within a second they are one, as in parrots/run.py.
    """

    first = inf

    def ask(*_: object) -> None:
        nonlocal first
        if first == inf and not stopping.path_of(results).exists():
            first = time.monotonic()
            stopping.request(results)
        elif first == inf or time.monotonic() - first > ONE_REQUEST_S:
            raise KeyboardInterrupt

    return {one: signal.signal(one, ask) for one in (signal.SIGINT, signal.SIGTERM)}


def lanes(sweep: Sweep, cells: Sequence[Cell], results: Path, watch: Watch, how: How, following: Following) -> None:
    """One lane after another."""
    # Ray puts the current folder before the libraries of its workers: there, a sweep called six.py would be `six`.
    most = max(cell.workers for cell in cells)
    with chdir(results / "tune"):
        start(max(how.slots or cores(), most))
    handlers = graceful(results)  # now, since Ray sets its own for SIGTERM as it starts
    try:
        has = capacity(ray.cluster_resources())
        if 0 < has["GPU"] < most:
            raise ValueError(f"a cell wants {most} workers and there are {has['GPU']:g} GPUs; add some, or lower its workers")
        if joined() or has["GPU"]:
            watch.slots = how.slots or int(has["GPU"] or has["CPU"])
            if watch.slots < most:
                there = f"{watch.slots} slots on this cluster, a cell wants {most}"
                raise ValueError(f"{there}; --slots says how many there will be")
        how = replace(how, max_device_hours=how.hours(priced(ray.cluster_resources(), has["GPU"] > 0)))
        before = leaks()
        for line in sorted(before):
            watch.console.print(f"left over on this cluster by others: {line}")
        while cells:
            for kind, lane in split(cells, sweep.scale):
                tuner(sweep, lane, kind, results, watch, how).fit()
                if store := how.stored(results):
                    store.fetch(*READ)
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


def start(cpus: int) -> None:
    """Start Ray here, or join the cluster that RAY_ADDRESS names. ValueError where that fails, as on a machine under load."""
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if joined():
        if why := unheard(os.environ["RAY_ADDRESS"]):
            raise ValueError(f"nobody answers at RAY_ADDRESS={os.environ['RAY_ADDRESS']} ({why})")
        common |= {"runtime_env": {"env_vars": WORKER_ENV}}
    else:
        os.environ |= WORKER_ENV  # they inherit it, and no other process is started for a runtime environment
        common |= {"address": "local", "include_dashboard": False, "num_cpus": cpus, "resources": {DRIVER: 1000}}
        common |= {"object_store_memory": OBJECT_STORE_BYTES}
    try:
        ray.init(**common)
    except Exception as error:  # Ray raises bare ones here
        where = f"the cluster at RAY_ADDRESS={os.environ['RAY_ADDRESS']} was not joined" if joined() else "Ray did not start"
        raise ValueError(f"{where}: {first_line(error)}; its logs are below /tmp/ray/session_latest/logs") from error


def tuner(sweep: Sweep, lane: Sequence[Cell], kind: Lane, results: Path, watch: Watch, how: How) -> tune.Tuner:
    """The Tuner over cells that are run in one way, with one number of workers."""
    workers, packed = lane[0].workers, kind == "packed"
    cluster = ray.cluster_resources()
    has = capacity(cluster)
    on_gpu = has["GPU"] > 0
    slots = watch.slots if packed or joined() or on_gpu else int(has["CPU"])
    gpu = gpu_of(cluster) if packed and on_gpu else None

    def number(cell: Cell, stack: int = 1) -> int:
        """How many like it share a GPU."""
        return per_gpu(cell, gpu, has["CPU"] / has["GPU"], stack) if gpu else 1

    parts = {cell.trial.id: number(cell) for cell in lane}
    at_once = slots * max(parts.values()) // workers
    # An actor is kept for the next trial only if one waits for resources, so as many wait where resources alone set the limit.
    ahead = 2 if packed and at_once >= int(has["GPU"] * max(parts.values()) or has["CPU"]) else 1
    everyone = [cell for cell in sweep.cells if (cell.workers, lane_of(cell, sweep.scale)) == (workers, kind)]
    lane, stacks = side_by_side(lane, everyone, results, how, at_once)
    parts = {cell.trial.id: number(cell, len(stacks[cell.trial.id])) for cell in lane}
    watch.sizes |= {trial_id: workers / each for trial_id, each in parts.items()}
    mates = {trial_id for stack in stacks.values() for trial_id in stack}
    cells = {cell.trial.id: cell.model_dump_json() for cell in (*everyone, *lane) if cell.trial.id in mates}
    columns = {cell.trial.id: axes(cell.trial) for cell in lane}
    space = {"trial_id": tune.grid_search([cell.trial.id for cell in lane])}
    for axis in next(iter(columns.values())):
        space[axis] = tune.sample_from(lambda spec, axis=axis: columns[spec.config["trial_id"]][axis])
    sizes = {cell.trial.id: elastic(cell) if how.elastic else cell.workers for cell in lane}
    told = (workers, on_gpu, cells, stacks, parts, sizes, how.checkpoint_s, how.early_stop, sweep.alarms.but(how.alarms))
    given = Given(sweep.name, results.absolute(), sweep.keep, *told, how.stored(results.absolute()))

    def resources(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """A group's driver takes no slot, and only as many run as can have all of their workers: none waits for ever."""
        if not packed:
            return tune.PlacementGroupFactory([{"CPU": 0, DRIVER: 1}])
        return tune.PlacementGroupFactory([{"GPU": part(parts[config["trial_id"]])} if on_gpu else {"CPU": 1}])

    return tune.Tuner(
        tune.with_resources(tune.with_parameters(alone if packed else grouped, given=given), resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            reuse_actors=packed,
            max_concurrent_trials=at_once * ahead,
            scheduler=halving() if how.early_stop else None,
            trial_name_creator=lambda trial: trial.config["trial_id"],
            trial_dirname_creator=lambda trial: trial.config["trial_id"],
        ),
        run_config=tune.RunConfig(
            # local with a store too: nothing is restored from it. A later round of a search takes longer than 1 s
            name=f"{sweep.name}-{time.strftime('%Y%m%d-%H%M%S')}-{workers}{'g' * (workers == 1 and not packed)}",
            storage_path=str((results / "tune").absolute()),
            failure_config=tune.FailureConfig(max_failures=BUDGET["infrastructure"]),
            stop=Ending(watch, results, how),
            verbose=0,
            callbacks=[Watching(watch, given), JsonLoggerCallback()],
        ),
    )


def gpu_of(cluster: Mapping[str, float]) -> devices.Device | None:
    """The smallest GPU of the cluster, or this machine's; None if its memory is not known."""
    if joined():
        return smallest(name.partition(":")[2] for name in cluster if name.startswith("accelerator_type:"))
    return devices.here()


def priced(cluster: Mapping[str, float], on_gpu: bool) -> devices.Device:
    """What a device-hour of a run is an hour of: of GPUs that are not known one that has no price in any table."""
    unknown = devices.Device("gpu", "this cluster's GPUs", "cuda", inf, {})
    return gpu_of(cluster) or unknown if on_gpu else devices.here()


def side_by_side(
    lane: Sequence[Cell], everyone: Sequence[Cell], results: Path, how: How, slots: int
) -> tuple[list[Cell], dict[str, tuple[str, ...]]]:
    """The cells in the order to start them, and which are trained together, under the id of each.

    everyone: those that are done too, so that stacks are the same ones after an interruption, and go on from their checkpoints.
    The first of each stack that is to run trains it, and stands where its first cell stood; the others come last and find their
    records. No stack is so large that a slot stays without one. None where cells may be ended early, and on a cluster with a
    store, on whose machines the others could not wait for the first.
    """
    place = Placement(results, world=lane[0].workers, device=device())
    by_shape: dict[str, list[Trial]] = {}
    each_alone = how.early_stop or (how.store and joined())
    for trial in () if each_alone else {cell.trial.id: cell.trial for cell in (*everyone, *lane)}.values():
        by_shape.setdefault(shape(trial), []).append(trial)
    under: dict[str, tuple[str, ...]] = {}
    for trials in by_shape.values():
        most = worthwhile(trials[0], place) if how.stack is None else how.stack
        for group in groups(trials, replace(place, stack=min(most, ceil(len(trials) / slots)))):
            stack = tuple(trials[i].id for i in group)
            under |= dict.fromkeys(stack, stack)
    under = {cell.trial.id: under.get(cell.trial.id, (cell.trial.id,)) for cell in lane}
    last = [cell for cell in lane if leader(cell.trial.id, under) != cell.trial.id]
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
