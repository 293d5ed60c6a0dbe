"""Run trials with torch alone: no Ray, no MLflow. How a cell runs on a bare GPU box, under torchrun or under Slurm.

    python -m parrots.run cells.jsonl --out results [--stack auto]
    torchrun --nproc-per-node 2 --max-restarts 3 -m parrots.run cells.jsonl --out results [--store s3://bucket/results]

A line of cells.jsonl is a cell as JSON: a trial and what it is asked besides (`parrots plan SWEEP --jsonl` prints them). One
whose records are there already is passed over, so an interrupted call goes on where it stopped. --stack trains cells side by
side that differ in learning rate, weight decay, initial deviation or seed only; the others go one after another. --store is
for machines that share no results folder: what is in the store is not run again, and a cell goes on from its checkpoint there.
Of workers that share cells the first says what is left to do.
"""

import argparse
import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from pydantic import ValidationError

from parrots.execution import about, catch_up, endeavour, side_by_side
from parrots.frozen import one_line
from parrots.meeting import Apart, form
from parrots.models.moe import BACKENDS, PARTICULAR
from parrots.placement import AUTO, EAGER, Placement, Progress
from parrots.provenance import hardware
from parrots.record import Record, is_done
from parrots.spec import Cell, Trial
from parrots.store import Store, checked
from parrots.thresholds import USUAL, Thresholds
from parrots.training.checkpoint import Stopped
from parrots.training.parallel import of_first, sum_over_workers
from parrots.training.stacked import groups

BOUNDS = Thresholds.model_fields
ONE_REQUEST_S = 1.0


class Interrupt:
    """Asks trials to end: set by SIGTERM or Ctrl-C, of which a second one ends the process at once.

    Within a second they are one: Slurm tells every process of a job, and the job's script passes it on.
    """

    def __init__(self) -> None:
        self.asked = 0.0
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, self._ask)

    def __call__(self) -> bool:
        return self.asked > 0

    def _ask(self, *_: object) -> None:
        self.asked = self.asked or time.monotonic()
        if time.monotonic() - self.asked > ONE_REQUEST_S:
            raise KeyboardInterrupt


def read_cells(path: Path) -> list[Cell]:
    """The cells of a file, one JSON line each. ValueError names the first bad line and what is wrong with it."""
    cells = []
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not text ({error.reason} at byte {error.start})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                cells.append(Cell.model_validate(json.loads(line)))
            except ValidationError as error:
                raise ValueError(f"{path}, line {number}: {one_line(error)}") from error
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error.msg} at character {error.pos})") from error
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not a cell ({str(error).splitlines()[0]})") from error
            except RecursionError as error:
                raise ValueError(f"{path}, line {number}: nested deeper than any cell") from error
    if not cells:
        raise ValueError(f"{path}: no cells in it")
    return cells


def check(cells: list[Cell], place: Placement) -> None:
    """ValueError if there is no such device or backend, or if the workers cannot share out a trial's batch."""
    try:
        torch.empty(0, device=place.device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {place.device}: {str(error).splitlines()[0]}") from error
    if place.compile not in (AUTO, EAGER):
        from torch._inductor import list_mode_options  # two seconds

        if place.compile not in (modes := list_mode_options()):
            raise ValueError(f"--compile {place.compile}: one of {', '.join((AUTO, EAGER, *modes))}")
    if place.backend in PARTICULAR:
        check_backend([cell.trial for cell in cells], place)
    for trial in (cell.trial for cell in cells):
        if (size := trial.training.batch_size) % place.world:
            label = f"{trial.task.kind} {trial.name}"
            raise ValueError(f"{label}: {place.world} workers cannot share training.batch_size={size} evenly")
    if not place.weights and (asked := next((cell for cell in cells if cell.evaluations), None)):
        raise ValueError(f"--keep none: {asked.trial.task.kind} {asked.trial.name} has evaluations, which need its weights")


def check_backend(trials: list[Trial], place: Placement) -> None:
    """ValueError if that backend cannot run here, or not for one of the trials."""
    one = PARTICULAR[place.backend]
    if reason := one.unfit(place.device):
        raise ValueError(f"--backend {place.backend}: {reason}")
    for trial in trials:
        if reason := one.unfit_for(trial.model, trial.training.precision):
            raise ValueError(f"--backend {place.backend}: {trial.task.kind} {trial.name}: {reason}")


def run_cells(cells: list[Cell], results: Path, place: Placement, sweep: str, begin_for: float = math.inf) -> int:
    """Run the cells that are not finished, stack after stack; returns how many failed. A failure stops none.

    begin_for: seconds after which none is begun.
    """
    last = time.monotonic() + begin_for
    todo = {i for i, cell in enumerate(cells) if not is_done(cell, results)}
    # groups of all, done ones too: after an interruption they are those that left the checkpoints
    order = sorted(groups([cell.trial for cell in cells], place), key=lambda group: failed_before(cells, group, results))
    todo, order = of_first((todo, order), place)
    say = print if place.rank == 0 else (lambda *args, **kwargs: None)
    say(f"{len(cells)} cells, {len(cells) - len(todo)} have their record, {len(todo)} to run on {hardware(place.device)}")
    failed, number = 0, 0
    for group in order:
        left, beside = [cells[i] for i in group if i in todo], dict[str, Record]()
        if not left:
            continue
        stop, late = votes(place.stop(), time.monotonic() > last, place)
        if stop:
            raise Stopped
        if late:
            say(f"{len(todo) - number} cells left; the same command goes on from here")
            break
        for cell in left:
            number += 1
            label = f"[{number}/{len(todo)}] {cell.trial.task.kind} {cell.trial.name}"
            here = replace(place, progress=Line(label) if place.rank == 0 else place.progress)
            if cell is left[0]:
                beside = side_by_side([cells[i].trial for i in group], results, here, sweep)
            record = endeavour(cell, results, here, sweep, beside.get(cell.trial.id))
            failed += bool(record and record.status in ("oom", "failed"))
            say(f"\r{label} {outcome(record)}", flush=True)
    return failed


def failed_before(cells: list[Cell], group: list[int], results: Path) -> int:
    """Attempts of a group's cells that came to nothing: those go last, lest one that ends the workers stop the others."""
    return sum(about(cells[i].trial, results, "")["attempt"] - 1 for i in group)


def votes(stop: bool, late: bool, place: Placement) -> list[bool]:
    """Whether one of the workers was asked to stop, and whether it is late for one of them; all get the same answers."""
    said = torch.tensor([stop, late], dtype=torch.int32, device=place.device)
    return [bool(one) for one in sum_over_workers(said, place).tolist()]


def outcome(record: Record | None) -> str:
    """A record in a line; None: the trial had its own already."""
    if record is None:
        return "evaluated"
    final = {m.metric: m.value for m in record.measurements}
    shown = "  ".join(f"{k} {v:.4g}" for k, v in final.items()) if final else record.reason.splitlines()[-1]
    return f"{record.status} in {record.wall_s:.0f} s  {shown}"


class Line:
    """A line of progress, drawn over itself on a terminal and not at all elsewhere."""

    def __init__(self, label: str):
        self.label, self.began, self.alarms = label, time.perf_counter(), 0

    def __call__(self, at: Progress) -> None:
        if sys.stdout.isatty():
            rate = at.tokens / (time.perf_counter() - self.began)
            if len(at.alarms) > self.alarms:  # each on a line that stays
                self.alarms = len(at.alarms)
                print(f"\r{self.label} alarm {self.alarms}: {at.alarms[-1]}")
            print(f"\r{self.label} {at.step / at.steps:4.0%} loss {at.loss:.3f} {rate:,.0f} tokens/s ", end="", flush=True)


def how_many(text: str) -> int | None:
    """A number of trials; None for `auto`."""
    return None if text == AUTO else positive(text)


def bounds(said: list[str]) -> Thresholds:
    """Those of the alarms, some of which may be said. ValueError in a line."""
    try:
        return USUAL.but(said)
    except ValueError as error:
        raise ValueError(f"--alarm {error}") from error


def positive(text: str) -> int:
    """An integer above 0, or a ValueError."""
    if (value := int(text)) < 1:
        raise ValueError
    return value


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    about, _, usage = (__doc__ or "").partition("\n\n")
    shape = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m parrots.run", description=about, epilog=usage, formatter_class=shape)
    parser.add_argument("cells", type=Path, help="one cell as JSON a line")
    parser.add_argument("--out", type=Path, required=True, help="results folder; records go to OUT/records")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--backend", default=AUTO, choices=[AUTO, *BACKENDS], help="how experts are computed")
    parser.add_argument("--micro-batch", type=positive, help="examples a worker takes at once (default: all of its own)")
    parser.add_argument("--recompute", action="store_true", help="compute activations again instead of keeping them")
    parser.add_argument("--compile", default=AUTO, metavar="MODE", help="auto, eager, or a torch.compile mode")
    parser.add_argument("--stack", type=how_many, default=1, metavar="K", help="cells to train side by side at most, or auto")
    parser.add_argument("--begin-for", type=positive, default=math.inf, metavar="S", help="seconds after which no cell begins")
    parser.add_argument("--checkpoint-every", type=float, default=60, metavar="S", help="seconds of training between two")
    parser.add_argument("--alarm", action="append", default=[], metavar="NAME=VALUE", help=f"of {', '.join(BOUNDS)}")
    parser.add_argument("--keep", default="weights", choices=["weights", "none"], help="what stays beside the record")
    parser.add_argument("--store", metavar="URI", help="s3://BUCKET/FOLDER or gs://..., where what outlives this machine goes")
    parser.add_argument("--sweep", default="", help="name to write into the records")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 1 if a cell failed, 2 for bad input."""
    args = options().parse_args(argv)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        form("nccl" if args.device == "cuda" else "gloo")
        if args.device == "cuda":
            args.device = f"cuda:{os.environ['LOCAL_RANK']}"
            torch.cuda.set_device(args.device)
    rank = dist.get_rank() if world > 1 else 0
    how = {"micro_batch": args.micro_batch, "recompute": args.recompute, "compile": args.compile, "stack": args.stack}
    kept = args.out / "weights" if args.keep == "weights" else None
    place = Placement(args.out / "data", kept, args.device, rank, world, args.backend, **how, stop=Interrupt())
    place = replace(place.lasting(args.out), checkpoint_s=args.checkpoint_every)
    try:
        place = replace(place, alarms=bounds(args.alarm))
        cells = read_cells(args.cells)
        check(cells, place)
        (args.out / "records").mkdir(parents=True, exist_ok=True)
        if args.store:
            store = Store(checked(args.store), args.out)
            store.check()
            catch_up(cells, args.out, store)
            if world > 1:
                dist.barrier()
                catch_up(cells, args.out, store)  # what one has just shared the others have too
            place = replace(place, store=store)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        return 1 if run_cells(cells, args.out, place, args.sweep, args.begin_for) else 0
    except Apart as error:
        print(f"error: {error}; the same command goes on from here (torchrun --max-restarts N does so itself)", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)  # what others may be inside of is not ended in an orderly way
    except (KeyboardInterrupt, Stopped):
        print("\nstopped; finished records and checkpoints stay, the same command goes on from here", file=sys.stderr)
        return 130
    finally:
        if world > 1:
            dist.destroy_process_group()


if __name__ == "__main__":
    code = main()
    if "WORLD_SIZE" in os.environ:  # gloo's threads abort an interpreter's ordinary exit now and then; all is written
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
