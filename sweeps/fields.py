"""What an expression can name of a cell: every field of its trial, and the sizes that follow from them.

training.lr or lr, model.ffn.d_ff or d_ff, task (its kind), N_total, N_active, D (tokens), C (FLOPs), workers
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from parrots.expressions import Expression
from parrots.spec import Cell

ABSENT = math.nan
"""Of a field that this cell has not and another of the sweep has: it is unequal to everything, above and below nothing."""


def flat(declared: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted names: {"training": {"lr": 0.1}} is {"training.lr": 0.1}."""
    found: dict[str, Any] = {}
    for name, value in declared.items():
        found |= flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {f"{before}{name}": value}
    return found


@lru_cache
def short(dotted: tuple[str, ...]) -> dict[str, str]:
    """The last part of each dotted name that no other shares, and the name that it stands for."""
    last = Counter(name.rpartition(".")[2] for name in dotted)
    return {name.rpartition(".")[2]: name for name in dotted if last[name.rpartition(".")[2]] == 1}


def declared(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a trial as nested mappings, by dotted and by short name."""
    dotted = flat(values)
    return {name: dotted[whole] for name, whole in short(tuple(dotted)).items()} | dotted


FOLLOWING: dict[str, Callable[[Cell], Any]] = {
    "N_total": lambda cell: cell.trial.total.N,
    "N_active": lambda cell: cell.trial.active.N,
    "D": lambda cell: cell.trial.tokens,
    "C": lambda cell: cell.trial.flops,
    "n_experts": lambda cell: cell.trial.model.n_experts,
    "top_k": lambda cell: cell.trial.model.top_k,
    "task": lambda cell: cell.trial.task.kind,
    "name": lambda cell: cell.trial.name,
    "id": lambda cell: cell.trial.id,
    "workers": lambda cell: cell.workers,
}
"""What is no field of the trial, or none of every trial."""


def table(cells: Sequence[Cell], names: Iterable[str]) -> list[dict[str, Any]]:
    """The values of these names for each cell, ABSENT where it has not what another has. ValueError if none has it."""
    names = frozenset(names)
    rows = [declared(cell.trial.model_dump()) for cell in cells]
    known = {name for row in rows for name in row}.union(FOLLOWING)
    if unknown := names - known:
        raise ValueError(f"no name {min(unknown)!r}; there are {', '.join(sorted(known))}")

    def values(cell: Cell, row: dict[str, Any]) -> dict[str, Any]:
        return {name: FOLLOWING[name](cell) if name in FOLLOWING else row.get(name, ABSENT) for name in names}

    return [values(cell, row) for cell, row in zip(cells, rows, strict=True)]


def evaluated(cells: Sequence[Cell], text: str) -> list[Any]:
    """An expression's value for each cell. ValueError in a line for one that is not allowed or names what none has."""
    expression = Expression(text)
    try:
        rows = table(cells, expression.names)
    except ValueError as error:
        raise ValueError(f"expression {text!r}: {error}") from error
    return [expression(row) for row in rows]


def those(cells: Sequence[Cell], text: str) -> list[bool]:
    """Of which cells an expression is true. ValueError in a line if it is of one neither true nor false."""
    found = evaluated(cells, text)
    if strange := [value for value in found if not isinstance(value, bool)]:
        raise ValueError(f"expression {text!r}: is {strange[0]!r}, neither true nor false")
    return found


def path_in(cells: Sequence[Cell], name: str) -> str:
    """The dotted name of the field of a trial that `name` stands for. ValueError if no cell has it, or several fields match."""
    trials = [cell.trial.model_dump() for cell in cells]
    if any(has(trial, name) for trial in trials):
        return name
    known = sorted({dotted for trial in trials for dotted in flat(trial)})
    found = [dotted for dotted in known if dotted.rpartition(".")[2] == name]
    if len(found) != 1:
        said = f"any of {', '.join(found)}" if found else f"no field of these trials; there are {', '.join(known)}"
        raise ValueError(f"{name!r} is {said}")
    return found[0]


def has(trial: Mapping[str, Any], path: str) -> bool:
    """Whether a trial as nested mappings has something at a dotted path."""
    first, _, rest = path.partition(".")
    return first in trial and (not rest or (isinstance(trial[first], Mapping) and has(trial[first], rest)))
