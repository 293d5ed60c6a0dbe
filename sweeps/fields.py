"""What an expression can name of a cell: every field of its trial, and the sizes that follow from them.

training.lr or lr, model.ffn.d_ff or d_ff, task (its kind), N_total, N_active, D (tokens), C (FLOPs), workers
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def short(dotted: Mapping[str, Any]) -> dict[str, str]:
    """The last part of each dotted name that no other shares, and the name that it stands for."""
    last = Counter(name.rpartition(".")[2] for name in dotted)
    return {name.rpartition(".")[2]: name for name in dotted if last[name.rpartition(".")[2]] == 1}


def declared(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a trial as nested mappings, by dotted and by short name."""
    dotted = flat(values)
    return {name: dotted[whole] for name, whole in short(dotted).items()} | dotted


def fields(cell: Cell) -> dict[str, Any]:
    """Everything that can be named of a cell."""
    trial = cell.trial
    sizes = {"N_total": trial.total.N, "N_active": trial.active.N, "D": trial.tokens, "C": trial.flops}
    about = {"task": trial.task.kind, "name": trial.name, "id": trial.id, "workers": cell.workers}
    return {**declared(trial.model_dump()), "n_experts": trial.model.n_experts, "top_k": trial.model.top_k, **sizes, **about}


def table(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """`fields` of each cell, with what others have and it has not as ABSENT."""
    rows = [fields(cell) for cell in cells]
    every = dict.fromkeys(name for row in rows for name in row)
    return [{**dict.fromkeys(every, ABSENT), **row} for row in rows]


def those(cells: Sequence[Cell], text: str) -> list[bool]:
    """Of which cells an expression is true. ValueError in a line for one that is not allowed or names what none has."""
    expression = Expression(text)
    return [expression.holds(row) for row in table(cells)]


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
