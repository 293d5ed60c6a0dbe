"""Run the missing cells of a sweep on Ray: Tune drives, Train shards.

Two lanes, one training loop behind them (`parrots.run.run_trial`). A cell for one worker runs inside a reused Tune actor,
0.1 to 0.3 CPU-seconds a trial beside 21 for a worker group; a cell for several goes through a Train worker group (FSDP).
What a cell leaves is its record, written by the worker that made it; Tune's own results are for its command line.
"""

import os
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

# Ray reads these once, as it is imported
os.environ |= {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
if "RAY_ADDRESS" not in os.environ:  # our own Ray, which answers on every network: only to those who have this token
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

import ray
import torch
from ray import train, tune
from ray.train.torch import TorchConfig, TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from ray.tune.logger import JsonLoggerCallback

from parrots.placement import Placement, Progress
from parrots.record import Record
from parrots.run import failure, finish
from parrots.spec import Cell, Trial
from sweeps.spec import Sweep
from sweeps.watch import Watch

WORKER_ENV = {
    "OMP_NUM_THREADS": "1",  # two one-thread processes beat one of two threads by 1.4 to 1.7 on two cores
    "OMP_WAIT_POLICY": "PASSIVE",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # how often a report is taken in; 2 s by default, and it blocks
}
DRIVER = "parrots_driver"  # a resource of the node where drivers of worker groups live
Attempts = Callable[[str], int]
Following = Callable[[], Sequence[Cell]]
REPORT_EVERY_S = 1.0
REPORT_EVERY_CALLS = 10
OBJECT_STORE_BYTES = 100 * 2**20  # nothing large passes through it; Ray takes 30 % of memory unless told otherwise


def run(
    sweep: Sweep, cells: Sequence[Cell], attempts: Attempts, results: Path, watch: Watch, following: Following = list
) -> None:
    """Run `cells`, in their order within a lane, then those that `following` names, until it names none.

    attempts: how often a trial has failed before. A cell that fails leaves its reason and stops no other.

    KeyboardInterrupt when Ctrl-C ended it early: what was finished has its record, and the next run goes on from there.
    """
    folder = results / "tune"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "ray.log").open("a") as log, redirect_stdout(log), redirect_stderr(log):
        lanes(sweep, cells, attempts, results, watch, following)


def lanes(sweep: Sweep, cells: Sequence[Cell], attempts: Attempts, results: Path, watch: Watch, following: Following) -> None:
    """One lane after another; each is the cells of one number of workers, since a Tuner that mixes them reuses no actor."""
    # Ray puts the current folder before the libraries of its workers: there, a sweep called six.py would be `six`.
    most = max(cell.workers for cell in cells)
    with chdir(results / "tune"):
        start(max(watch.slots, most))
    try:
        if 0 < (gpus := int(ray.cluster_resources().get("GPU", 0))) < most:
            raise ValueError(f"a cell wants {most} workers and there are {gpus} GPUs; add some, or lower its workers")
        while cells:
            for workers in sorted({cell.workers for cell in cells}):
                lane = [cell for cell in cells if cell.workers == workers]
                tries = {cell.trial.id: attempts(cell.trial.id) + 1 for cell in lane}
                tuner(sweep, lane, tries, results, watch).fit()
                if watch.unfinished(lane):
                    raise KeyboardInterrupt
            cells = following()
    finally:
        ray.shutdown()


def start(slots: int) -> None:
    """Start Ray here, or join the cluster that RAY_ADDRESS names."""
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", "runtime_env": {"env_vars": WORKER_ENV}}
    if "RAY_ADDRESS" in os.environ:
        ray.init(**common)
    else:
        here = {"address": "local", "include_dashboard": False}
        ray.init(**here, num_cpus=slots, resources={DRIVER: 1000}, object_store_memory=OBJECT_STORE_BYTES, **common)


def tuner(sweep: Sweep, lane: Sequence[Cell], attempts: dict[str, int], results: Path, watch: Watch) -> tune.Tuner:
    """The Tuner over cells that all have the same number of workers."""
    workers = lane[0].workers
    cells = {cell.trial.id: cell.model_dump_json() for cell in lane}
    columns = {cell.trial.id: axes(cell.trial) for cell in lane}
    space = {"trial_id": tune.grid_search(list(cells))}
    for axis in next(iter(columns.values())):
        space[axis] = tune.sample_from(lambda spec, axis=axis: columns[spec.config["trial_id"]][axis])
    given: dict[str, Any] = {"sweep": sweep.name, "keep": sweep.keep, "cells": cells, "attempts": attempts}
    given |= {"results": str(results.absolute()), "workers": workers}
    cluster = ray.cluster_resources()
    unit = {"gpu": 1} if cluster.get("GPU") else {"cpu": 1}
    slots = int(cluster.get("GPU") or (watch.slots if workers == 1 else cluster["CPU"]))
    body = alone if workers == 1 else grouped
    # A group's driver takes no slot, and only as many run as can have all of their workers: none waits for ever.
    resources = unit if workers == 1 else {"cpu": 0, DRIVER: 1}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(body, given=given), resources),
        param_space=space,
        tune_config=tune.TuneConfig(
            reuse_actors=workers == 1,
            max_concurrent_trials=slots // workers,
            trial_name_creator=lambda trial: trial.config["trial_id"],
            trial_dirname_creator=lambda trial: trial.config["trial_id"],
        ),
        run_config=tune.RunConfig(
            name=f"{sweep.name}-{time.strftime('%Y%m%d-%H%M%S')}-{workers}",  # a later round of a search takes longer than 1 s
            storage_path=str((results / "tune").absolute()),
            verbose=0,
            callbacks=[Watching(watch, given), JsonLoggerCallback()],
        ),
    )


def axes(trial: Trial) -> dict[str, Any]:
    """What `tune list-trials` shows of a trial."""
    model = trial.model
    about = {"task": trial.task.kind, "d_model": model.d_model, "d_ff": model.ffn.d_ff, "n_experts": model.n_experts}
    return {**about, "top_k": model.top_k, "lr": trial.training.lr, "seed": trial.seed}


def alone(config: dict[str, Any], given: dict[str, Any]) -> None:
    """A cell for one worker, in a Tune actor that goes on to the next."""
    cell = Cell.model_validate_json(given["cells"][config["trial_id"]])
    last = 0.0

    def report(at: Progress) -> None:
        nonlocal last
        if time.monotonic() - last > REPORT_EVERY_S:
            last = time.monotonic()
            tune.report(asdict(at))

    place = replace(place_in(given), progress=report)
    try:
        record = finish(cell, Path(given["results"]), place, about(cell.trial, given))
    except Exception as error:
        record = lost(cell.trial, error, given)
    tune.report(final(record))


def grouped(config: dict[str, Any], given: dict[str, Any]) -> None:
    """A cell for several workers: this Tune actor drives a Train worker group."""
    cell, results = Cell.model_validate_json(given["cells"][config["trial_id"]]), Path(given["results"])
    on_gpu = device() == "cuda"
    trainer = TorchTrainer(
        member,
        train_loop_config={"cell": cell.model_dump_json(), "given": given},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=train.ScalingConfig(num_workers=given["workers"], use_gpu=on_gpu),
        run_config=train.RunConfig(name=cell.trial.id, storage_path=str(results / "train"), callbacks=[TuneReportCallback()]),
    )
    try:
        trainer.fit()
    except Exception as error:
        tune.report(final(lost(cell.trial, error, given)))


def member(loop: dict[str, Any]) -> None:
    """One worker of a group. A report is a barrier, so it is made at steps that all workers count alike."""
    cell, given = Cell.model_validate_json(loop["cell"]), loop["given"]
    context = train.get_context()
    calls = count(1)

    def report(at: Progress) -> None:
        if next(calls) % REPORT_EVERY_CALLS == 0:
            train.report(asdict(at))

    group = {"rank": context.get_world_rank(), "world": context.get_world_size()}
    place = replace(place_in(given), progress=report, **group)
    record = finish(cell, Path(given["results"]), place, about(cell.trial, given))
    train.report(final(record) if place.rank == 0 else {})


def place_in(given: dict[str, Any]) -> Placement:
    """A place for this process alone."""
    results = Path(given["results"])
    return Placement(results / "data", results / "weights" if given["keep"] == "weights" else None, device())


def about(trial: Trial, given: dict[str, Any]) -> dict[str, Any]:
    """What a record says beside what was measured."""
    return {"sweep": given["sweep"], "attempt": given["attempts"][trial.id]}


def lost(trial: Trial, error: BaseException, given: dict[str, Any]) -> Record:
    """The record of an attempt that failed, written."""
    place = Placement(Path(given["results"]), world=given["workers"], device=device())
    record = replace(failure(trial, error, place), **about(trial, given))
    record.write(Path(given["results"]))
    return record


def final(record: Record | None) -> dict[str, Any]:
    """Final metrics for Tune; none of a cell that was only evaluated."""
    if record is None:
        return {"status": "done"}
    return {"status": record.status, **{m.metric: m.value for m in record.measurements}}


def device() -> str:
    """Where this process computes: the GPU that Ray gave it, or the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class Watching(tune.Callback):
    """Passes Tune's events on; writes the record of a cell whose process died, which could not write its own."""

    def __init__(self, watch: Watch, given: dict[str, Any]):
        self.watch, self.given = watch, given

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore, which the ledger makes needless

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.started(trial.config["trial_id"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        if "status" in result:
            self.watch.ended(trial_id, result["status"])
        elif "step" in result:
            self.watch.progressed(trial_id, result["step"] / result["steps"], result["tokens"], result["alarms"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        cell = Cell.model_validate_json(self.given["cells"][trial.config["trial_id"]])
        told = Path(trial.error_file).read_text().strip() if trial.error_file else "and said nothing"
        error = RuntimeError(f"infrastructure: its process ended, {told.splitlines()[-1]}")
        lost(cell.trial, error, self.given)
        self.watch.ended(cell.trial.id, "failed")
