"""`parrots train`: one cell in this process, without Ray; or some of its steps, recorded."""

import os
from pathlib import Path

import click

from parrots.record import is_done
from parrots.spec import Cell
from parrots.thresholds import USUAL, Thresholds
from sweeps import trials
from sweeps.guard import lock, writable
from sweeps.narrow import Narrowing
from sweeps.say import columns, out
from sweeps.spec import documents, find
from sweeps.verbs.options import narrowing_options, results_option, scale_option

SHOWN = 12  # operators


@click.command()
@click.argument("cell")
@scale_option
@results_option
@narrowing_options
@click.option("--profile", "profiled", is_flag=True, help="Record some steps instead: a trace to open. Leaves no record.")
@click.option("--steps", type=click.IntRange(min=1), default=20, show_default=True, help="Recorded steps.")
def train(cell: str, scale: str | None, results: Path, narrowing: Narrowing, profiled: bool, steps: int) -> int:
    """Train one CELL here, without Ray, unless it has its record.

    CELL: the first characters of the id of a trial in the results; a file with a cell as JSON; or a sweep of which one cell
    is left, as quickstart --where 'd_model == 64' --max-trials 1.
    """
    found, sweep, alarms = one_cell(cell, scale, results, narrowing)
    label = f"{found.trial.task.kind} {found.trial.name}"
    writable(results)
    with lock(results):
        if profiled:
            return say_profile(found, results, steps, label)
        if is_done(found, results):
            out.print(f"{label} has its record; `parrots logs {found.trial.id}` shows it")
            return 0
        return to_its_end(found, results, sweep, label, alarms)


def one_cell(said: str, scale: str | None, results: Path, narrowing: Narrowing) -> tuple[Cell, str, Thresholds]:
    """The cell that is meant, the sweep whose it is and that sweep's alarms. ValueError if it is none, or one of several."""
    path = Path(said)
    if path.suffix in (".jsonl", ".json") and path.is_file() and '"cells"' not in path.read_text():
        from parrots.run import read_cells

        cells, sweep, alarms = read_cells(path), "", USUAL
    elif said in documents() or path.suffix in (".py", ".json", ".jsonl"):
        whole = narrowing.of(find(said, scale))
        cells, sweep, alarms = list(whole.cells), whole.name, whole.alarms
    else:
        trial_id = trials.one(said, results, failed=True)
        last = trials.attempts(trial_id, results)[-1].about
        return Cell.model_validate_json(f'{{"trial": {last["trial"]}}}'), last["sweep"], USUAL
    if len(cells) != 1:
        raise ValueError(f"{said}: {len(cells)} cells, one is trained; --where, --set or --max-trials 1 leave one of a sweep")
    return cells[0], sweep, alarms


def to_its_end(cell: Cell, results: Path, sweep: str, label: str, alarms: Thresholds) -> int:
    """Train and evaluate it; returns the exit code."""
    import torch

    from parrots.execution import endeavour
    from parrots.placement import Placement
    from parrots.run import Interrupt, Line, outcome
    from parrots.training.checkpoint import Stopped

    device = "cuda" if torch.cuda.is_available() else "cpu"
    place = Placement(results / "data", results / "weights", device, stop=Interrupt(), progress=Line(label), alarms=alarms)
    try:
        record = endeavour(cell, results, place.lasting(results), sweep)
    except Stopped:
        raise KeyboardInterrupt from None
    out.print(f"{label} {outcome(record)}")
    return 1 if record and record.status in ("oom", "failed") else 0


def say_profile(cell: Cell, results: Path, steps: int, label: str) -> int:
    """Record some of its steps and show what took most of them."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # read as torch is imported; else it tells when it starts and stops
    import torch

    from parrots.placement import Placement
    from parrots.profile import WARM, profile

    trace = results / "profiles" / f"{cell.trial.id}.json.gz"
    device = "cuda" if torch.cuda.is_available() else "cpu"
    place = Placement(results / "data", device=device, fits=results / "fits")
    found = profile(cell.trial, place, steps, trace)
    out.print(f"{label}: {found.steps} steps after {WARM}, {1e3 * found.step_s:.3g} ms each with the recording's own cost")
    whole = sum(one.seconds for one in found.operators)
    rows = [
        (one.name, f"{one.calls / found.steps:.0f}", f"{1e3 * one.seconds / found.steps:.3f}", f"{one.seconds / whole:.1%}")
        for one in found.operators[:SHOWN]
    ]
    columns(("operator", "calls a step", "ms a step", "share"), rows, left=("operator",))
    out.print(f"trace: {trace}; open it at https://ui.perfetto.dev or in chrome://tracing")
    return 0
