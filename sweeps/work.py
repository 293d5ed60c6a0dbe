"""What runs inside Ray: a cell in a Tune actor of its own, or spread over a Train worker group that such an actor drives."""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import torch
from ray import train, tune
from ray.train.torch import TorchTrainer
from ray.train.v2.api.exceptions import WorkerGroupError
from ray.tune.integration.ray_train import TuneReportCallback

from parrots.execution import about, catch_up, endeavour, finish, side_by_side, write_failure
from parrots.failures import Further, classify, failure, of_group
from parrots.placement import Placement, Progress
from parrots.record import Record, path_of, read
from parrots.spec import Cell
from parrots.store import Store
from parrots.thresholds import USUAL, Thresholds
from parrots.training.checkpoint import Stopped
from parrots.training.stacked import name_of
from sweeps.rendezvous import Rendezvous
from sweeps.room import HEADROOM
from sweeps.stopping import Asked

REPORT_EVERY_S = 1.0
REPORT_EVERY_CALLS = 10
CONTROLLERS = 3  # that a group may lose before it counts as failed; without end by Ray's default, which deadlocked
PREEMPTIONS = 20  # nodes that were taken away, counted apart from failures


@dataclass(frozen=True)
class Given:
    """What all trials of a lane are told."""

    sweep: str
    results: Path
    keep: str
    workers: int
    on_gpu: bool
    """Whether workers have GPUs; those who drive groups of them may have none."""
    cells: dict[str, str]
    """JSON of each, by trial id; those that are done too, where others are trained beside them."""
    stacks: dict[str, tuple[str, ...]]
    """The ids that train side by side, under each that is to run; the first of these does it."""
    parts: dict[str, int]
    """How many cells like it share its GPU, by trial id."""
    sizes: dict[str, int | tuple[int, int]]
    """The workers of each group, or the fewest and the most, by trial id."""
    checkpoint_s: float = 60.0
    early_stop: str = ""
    alarms: Thresholds = USUAL
    store: Store | None = None
    """Where what outlives a machine goes too, if each has a results folder of its own at that path."""

    def cell(self, trial_id: str) -> Cell:
        """The cell of a trial."""
        return Cell.model_validate_json(self.cells[trial_id])

    def place(self) -> Placement:
        """A place for this process alone."""
        weights = self.results / "weights" if self.keep == "weights" else None
        stop = Asked(self.results, self.store)
        place = Placement(self.results / "data", weights, device(), store=self.store, stop=stop)
        return replace(place.lasting(self.results), checkpoint_s=self.checkpoint_s, alarms=self.alarms)


class Report:
    """Passes progress on, seldom enough; remembers how long this process has trained."""

    def __init__(self, tell: Callable[[dict[str, Any]], None]):
        self.tell, self.last, self.seconds = tell, 0.0, 0.0

    def __call__(self, at: Progress) -> None:
        self.seconds = at.seconds
        if time.monotonic() - self.last > REPORT_EVERY_S:
            self.last = time.monotonic()
            self.tell({**asdict(at), "percent": 100 * at.step // at.steps})


def alone(config: dict[str, Any], given: Given) -> None:
    """A cell for one worker, in a Tune actor that goes on to the next."""
    cell, place, report = given.cell(config["trial_id"]), given.place(), Report(tune.report)
    if place.stop():
        tune.report({"status": "stopped"})
        return
    place = replace(place, progress=report)
    if place.device == "cuda":  # the next cell of this process may have another part; beyond it, micro-batches are halved
        torch.cuda.set_per_process_memory_fraction(HEADROOM / given.parts[cell.trial.id])
    try:
        record = stacked(cell, place, given)
        record = endeavour(cell, given.results, place, given.sweep, record, given.early_stop)
    except Stopped:
        tune.report({"status": "stopped", "train_seconds": report.seconds})
        return
    tune.report(final(record, cell, given.results) | {"train_seconds": report.seconds})


def stacked(cell: Cell, place: Placement, given: Given) -> Record | None:
    """The cell's new record, if it was trained beside others just now.

    The leader of a stack trains all; the others, which come last of all, wait for it and find their records there.
    """
    ids = given.stacks.get(cell.trial.id, ())
    if len(ids) < 2:
        return None
    trials = [given.cell(trial_id).trial for trial_id in ids]
    with held(given.results / "stacks" / name_of(trials), place):
        if cell.trial.id == leader(cell.trial.id, given.stacks):
            return side_by_side(trials, given.results, place, given.sweep).get(cell.trial.id)
    return None


def leader(trial_id: str, stacks: dict[str, tuple[str, ...]]) -> str:
    """The trial that trains the stack of this one: the first of those that are to run."""
    return next(one for one in stacks[trial_id] if one in stacks)


@contextmanager
def held(path: Path, place: Placement) -> Iterator[None]:
    """Alone with what a file stands for: it is free again when its holder's process ends, however it does."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if place.stop():
                    raise Stopped("stopped while another trained it") from None
                time.sleep(0.1)
        yield


def grouped(config: dict[str, Any], given: Given) -> None:
    """A cell for several workers: this Tune actor drives a Train worker group, and another as often as a failure allows."""
    cell, results = given.cell(config["trial_id"]), given.results
    if given.place().stop():
        tune.report({"status": "stopped"})
        return
    size = given.sizes[cell.trial.id]
    left = Further(cell.trial.training.batch_size // (size if isinstance(size, int) else min(size)))
    while True:
        told = about(cell.trial, results, given.sweep, given.early_stop)
        try:
            group(cell, given, f"{cell.trial.id}-{told['attempt']}").fit()
            return
        except Exception as error:
            raised = error.worker_failures.values() if isinstance(error, WorkerGroupError) else [error]
            kind = of_group(map(classify, raised))
            place = Placement(results, world=given.workers, device=device())
            lost = replace(failure(cell.trial, error, place, kind), **told)
            write_failure(lost, results, given.store)
            if not left.takes(kind):
                tune.report(final(lost, cell, results))
                return
            time.sleep(left.pause_s(kind))


def group(cell: Cell, given: Given, name: str) -> TorchTrainer:
    """The worker group of a cell. A name of its own for each attempt: Train resumes by name, and we by checkpoint."""
    return TorchTrainer(
        member,
        train_loop_config={"cell": cell.model_dump_json(), "given": given},
        torch_config=Rendezvous(backend="nccl" if given.on_gpu else "gloo"),
        scaling_config=train.ScalingConfig(num_workers=given.sizes[cell.trial.id], use_gpu=given.on_gpu),
        run_config=train.RunConfig(
            name=name,
            storage_path=str(given.results / "train"),
            callbacks=[TuneReportCallback()],
            failure_config=train.FailureConfig(
                max_failures=0, controller_failure_limit=CONTROLLERS, max_preemption_failures=PREEMPTIONS
            ),
        ),
    )


def member(loop: dict[str, Any]) -> None:
    """One worker of a group. A report is a barrier, so it is made at steps that all workers count alike."""
    cell, given = Cell.model_validate_json(loop["cell"]), loop["given"]
    context = train.get_context()
    calls, seconds = count(1), 0.0

    def report(at: Progress) -> None:
        nonlocal seconds
        seconds = at.seconds
        if next(calls) % REPORT_EVERY_CALLS == 0:
            train.report(asdict(at))

    place = replace(given.place(), progress=report, rank=context.get_world_rank(), world=context.get_world_size())
    catch_up([cell], given.results, given.store)
    told = about(cell.trial, given.results, given.sweep, given.early_stop)
    try:
        record = finish(cell, given.results, place, told)
        said = final(record, cell, given.results) if place.rank == 0 else {}
    except Stopped:
        said = {"status": "stopped"}
    train.report(said | {"train_seconds": seconds} if place.rank == 0 else {})


def final(record: Record | None, cell: Cell, results: Path) -> dict[str, Any]:
    """Final metrics for Tune, and `score`, the first that its task names. None: those of the record that was there."""
    failure = record.failure if record else ""
    if record:
        status, values = record.status, {m.metric: m.value for m in record.measurements}
    else:
        rows = read([path_of(cell.trial.id, results)])
        status = rows["status"][0].as_py()
        values = dict(zip(rows["metric"].to_pylist(), rows["value"].to_pylist(), strict=True))
    scores = [values[name] for name in cell.trial.task.metrics if name in values]
    said = {"status": status, **({"failure": failure} if failure else {})}
    return {**said, **values, **({"score": scores[0]} if scores else {})}


def device() -> str:
    """Where this process computes: the GPU that Ray gave it, or the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"
