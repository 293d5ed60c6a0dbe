"""What made a run's numbers: commit and what differed from it, packages, hardware, seeds, data, command line. A file a run."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import distributions
from itertools import pairwise
from pathlib import Path
from typing import Any

from parrots import provenance
from parrots.atomic import atomic
from parrots.record import path_of, read
from parrots.spec import Cell
from sweeps.spec import Sweep

WHEN = "%Y%m%d-%H%M%S"


def write(found: Sweep, cells: Sequence[Cell], results: Path, began: datetime) -> Path:
    """Leave the manifest of a run that began at this time (UTC) beside that of its sweep; returns the file."""
    said = {
        "sweep": found.name,
        "scale": found.scale,
        "command": found.command,
        "argv": told(sys.argv),
        "began": began.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": provenance.commit(),
        "diff": diff(),
        "driver": provenance.processor(),
        "hardware": hardware([cell.trial.id for cell in cells], results),
        "python": sys.version.split()[0],
        "packages": dict(sorted({one.name: one.version for one in distributions()}.items())),
        "seeds": sorted({cell.trial.seed for cell in cells}),
        "trials": sorted(cell.trial.id for cell in cells),
        "data": data(results),
    }
    path = results / "sweeps" / found.name / "runs" / f"{began.strftime(WHEN)}.json"
    with atomic(path) as sink:
        sink.write((json.dumps(said, indent=1) + "\n").encode())
    return path


def hardware(trial_ids: Iterable[str], results: Path) -> dict[str, int]:
    """What computed these trials, as their records have it, and how many of them: not where the run began, on a cluster."""
    paths = (path for i in trial_ids if (path := path_of(i, results)).exists())
    return dict(Counter(read([path], ["hardware"])["hardware"][0].as_py() for path in paths))


def told(words: Sequence[str]) -> list[str]:
    """A command line without the addresses of --notify, which hold passwords."""
    shown = []
    for before, word in pairwise(["", *words]):
        option, equals, _ = word.partition("=")
        hidden = f"{option}=***" if option == "--notify" and equals else word
        shown.append("***" if before == "--notify" else hidden)
    return shown


def of(sweep: str, started: datetime, results: Path) -> Path | None:
    """The manifest of the run of a sweep in which a trial was started: the last that began before it."""
    runs = sorted((results / "sweeps" / sweep / "runs").glob("*.json")) if sweep else []
    before = [path for path in runs if path.stem <= started.astimezone(UTC).strftime(WHEN)]
    return before[-1] if before else None


def diff() -> str:
    """What differs from the commit in this checkout's tracked files; nothing outside a checkout."""
    try:
        command = ("git", "diff", "HEAD")
        where = Path(__file__).parent.parent
        done = subprocess.run(command, cwd=where, capture_output=True, check=False)  # nosec B603 # as it stands there
    except FileNotFoundError:  # no git on this machine
        return ""
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""


def data(results: Path) -> dict[str, Any]:
    """The SHA-256 of each file of a task's data, as it was written."""
    beside = sorted((results / "data").glob("*.arrow.sha256"))
    return {path.name.removesuffix(".sha256"): path.read_text().split()[0] for path in beside}
