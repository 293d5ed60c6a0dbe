"""A part of a sweep, as the command line asks for it: `--set`, `--where`, `--seeds`, `--max-trials`."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from parrots.frozen import canonical, one_line
from parrots.spec import Cell, Trial
from sweeps.fields import flat, has, path_in, those
from sweeps.spec import Sweep, laid_over, union

Change = Callable[[Sequence[Cell]], Sequence[Cell]]


@dataclass(frozen=True)
class Narrowing:
    """What the options say."""

    set: tuple[str, ...] = ()
    """AXIS=VALUES each."""
    where: tuple[str, ...] = ()
    """Expressions; all have to be true of a cell."""
    seeds: str = ""
    """A number, for 0 to one less, or numbers with commas."""
    max_trials: int | None = None

    def of(self, sweep: Sweep) -> Sweep:
        """The part of a sweep. ValueError says in a line which option leaves nothing, or is not understood."""
        changes = self.changes(sweep)
        if not changes and self.max_trials is None:
            return sweep
        arms = [Cell(trial=arm) for arm in sweep.search.arms] if sweep.search else []
        cells: Sequence[Cell] = sweep.cells
        for said, change in changes:
            before = len(cells) + len(arms)
            cells, arms = _changed(cells, change), list(_changed(arms, change))
            if not cells and not arms:
                raise ValueError(f"{said}: excludes all {before} cells")
        search = sweep.search.model_copy(update={"arms": tuple(arm.trial for arm in arms)}) if sweep.search and arms else None
        if self.max_trials is not None and self.max_trials <= len(cells):
            cells, search = cells[: self.max_trials], None
        part = sweep.model_copy(update={"cells": tuple(cells), "search": search})
        metrics = part.metrics()
        left = (one for one in sweep.claims if one.measured in metrics.get(one.task, ()) and part.lacks(one) is None)
        return part.model_copy(update={"claims": tuple(left)})

    def words(self) -> Iterator[str]:
        """The options again, for a command line."""
        for said in self.set:
            yield from ("--set", said)
        for text in self.where:
            yield from ("--where", text)
        if self.seeds:
            yield from ("--seeds", self.seeds)
        if self.max_trials is not None:
            yield from ("--max-trials", str(self.max_trials))

    def changes(self, sweep: Sweep) -> list[tuple[str, Change]]:
        """What is done to the cells, one after another, and how the user said it."""
        asked = [*sweep.cells, *(Cell(trial=arm) for arm in (sweep.search.arms if sweep.search else ()))]
        made: list[tuple[str, Change]] = []
        axes: dict[str, str] = {}
        for said in self.set:
            name, equals, values = said.partition("=")
            if not equals:
                raise ValueError(f"--set {said}: not AXIS=VALUES, such as lr=1e-2,1e-3")
            path = path_in(asked, name.strip())
            if path in axes:
                raise ValueError(f"--set {said}: two axes of one name, {axes[path]} and this one")
            axes[path] = said
            made.append((f"--set {said}", _Setting(path, _values(said, values), asked)))
        if self.seeds:
            made.append((f"--seeds {self.seeds}", _Setting("seed", _seeds(self.seeds), [])))
        for text in self.where:
            made.append((f"--where {text!r}", partial(_true, text)))
        return made


class _Setting:
    """The cells that have a field, at these values of it: those that are there; a value that none has is tried on each."""

    def __init__(self, path: str, values: list[Any], asked: Sequence[Cell]):
        self.path, self.values = path, values
        at = [flat(cell.trial.model_dump()).get(path) for cell in asked]
        self.there = [value for value in values if value in at]

    def __call__(self, cells: Sequence[Cell]) -> Sequence[Cell]:
        have = [cell for cell in cells if has(cell.trial.model_dump(), self.path)]
        chosen = (cell for cell in have if flat(cell.trial.model_dump()).get(self.path) in self.there)
        tried = (_with(cell, self.path, value) for cell in have for value in self.values if value not in self.there)
        return union(chosen, tried)


def _with(cell: Cell, path: str, value: Any) -> Cell:
    said = laid_over(canonical(cell.trial), path.split("."), value)
    try:
        return cell.model_copy(update={"trial": Trial.model_validate(said)})
    except ValidationError as error:
        raise ValueError(f"--set {path}={value}: {cell.trial.name} cannot be so ({one_line(error)})") from error


def _changed(cells: Sequence[Cell], change: Change) -> Sequence[Cell]:
    return change(cells) if cells else cells


def _true(text: str, cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell, kept in zip(cells, those(cells, text), strict=True) if kept]


def _values(said: str, text: str) -> list[Any]:
    """The values of an axis: JSON, or what stands between commas."""
    try:
        whole = json.loads(text if text.lstrip().startswith("[") else f"[{text}]")
    except json.JSONDecodeError:
        whole = [_value(part) for part in text.split(",")]
    if not whole or "" in whole:
        raise ValueError(f"--set {said}: no value")
    return whole


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.strip()


def _seeds(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() for part in parts) or text.strip() == "0":
        raise ValueError(f"--seeds {text}: a number of seeds, as 3, or seeds with commas, as 0,5")
    numbers = [int(part) for part in parts]
    return list(range(numbers[0])) if len(numbers) == 1 else numbers
