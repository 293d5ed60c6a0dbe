"""The cells of a sweep in a few words each, beside its manifest: what `parrots status` needs of a hundred thousand of them."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from parrots.atomic import atomic
from parrots.spec import Cell


class Entry(NamedTuple):
    """A cell."""

    trial_id: str
    task: str
    name: str
    evaluations: tuple[str, ...]
    """Ids of what its model is asked besides."""


class Index(NamedTuple):
    """What the file holds."""

    sweep: str
    scale: str
    title: str
    command: str
    searches: bool
    """Whether there are cells besides, which only the records tell."""
    entries: list[Entry]


def entry(cell: Cell) -> Entry:
    """A cell in a few words."""
    trial = cell.trial
    return Entry(trial.id, trial.task.kind, trial.name, tuple(one.of(trial) for one in cell.evaluations))


def path_of(manifest: Path) -> Path:
    """Where the index of a manifest is."""
    return manifest.with_name("cells.json")


def write(manifest: Path, about: tuple[str, str, str, str, bool], cells: Iterable[Cell]) -> None:
    """Write the index, after the manifest: an older one is of an older manifest."""
    with atomic(path_of(manifest)) as sink:
        sink.write(json.dumps([about, [entry(cell) for cell in cells]], separators=(",", ":")).encode())


def read(manifest: Path) -> Index | None:
    """The index of a manifest; None if there is none, or it is of an older one."""
    path = path_of(manifest)
    if not path.exists() or path.stat().st_mtime_ns < manifest.stat().st_mtime_ns:
        return None
    try:
        (sweep, scale, title, command, searches), cells = json.loads(path.read_bytes())
        entries = [Entry(trial_id, task, name, tuple(asked)) for trial_id, task, name, asked in cells]
        return Index(sweep, scale, title, command, searches, entries)
    except (ValueError, TypeError, RecursionError):
        return None
