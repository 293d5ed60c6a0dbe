"""A sweep: which trials, with which workers, to decide which claims. A document in Python expands to plain data.

A document is a file with a docstring and a function `sweep(scale)` that returns a `Sweep`; `sweeps/paper/` has ours, and a
path names the user's own.
"""

import runpy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from pkgutil import iter_modules
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from analysis.claims import Claim
from parrots.atomic import atomic
from parrots.frozen import Frozen, canonical, one_line
from parrots.spec import Trial
from sweeps import paper

Axes = Mapping[str, Sequence[Any]]


class Cell(Frozen):
    """A trial and how many workers share it. Workers are placement: they do not change the trial's id or its result."""

    trial: Trial
    workers: Annotated[int, Field(ge=1)] = 1


class Sweep(Frozen):
    """Cells in the order in which they were declared, and the claims that they were chosen to decide."""

    format: Literal[1] = 1
    """Of the manifest that this becomes."""
    name: str = ""
    """With title and scale filled in from the document: its file's name and the first line of its docstring."""
    title: str = ""
    scale: str = ""
    claims: tuple[Claim, ...] = ()
    keep: Literal["weights", "none"] = "weights"
    """What stays of a trial beside its record."""
    cells: tuple[Cell, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.cells:
            raise ValueError("a sweep without cells")
        return self

    def manifest(self, results: Path) -> Path:
        """Write the expanded sweep as JSON into a results folder, where `manifest` finds it again."""
        path = manifest_path(self.name, results)
        with atomic(path) as sink:
            sink.write(self.model_dump_json(indent=1).encode())
        return path


def manifest_path(name: str, results: Path) -> Path:
    """Where the manifest of a sweep that was run into this results folder is."""
    return results / "sweeps" / name / "manifest.json"


def grid(base: Mapping[str, Any], axes: Axes, workers: int = 1) -> Iterator[Cell]:
    """The product of `axes` over `base`, the last axis fastest.

    base: a trial as nested mappings. axes: from a field, `training.lr` or `model.ffn`, to the values that it takes; a value
    that is a mapping is laid over the one in `base`. ValueError names the field, the value and what is allowed.
    """
    for axis, values in axes.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise ValueError(f"axis {axis}: {values!r} is not a list of values")
    for values in product(*axes.values()):
        declared: dict[str, Any] = canonical(dict(base))
        for axis, value in zip(axes, values, strict=True):
            declared = laid_over(declared, axis.split("."), value)
        try:
            yield Cell(trial=Trial.model_validate(declared), workers=workers)
        except ValidationError as error:
            raise ValueError(one_line(error)) from error


def laid_over(base: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """`base` with `value` at `path`; mappings are merged, everything else is replaced."""
    first, rest = path[0], path[1:]
    if rest:
        value = laid_over(base.get(first, {}), rest, value)
    elif isinstance(value, Mapping) and isinstance(base.get(first), Mapping):
        value = {**base[first], **value}
    return {**base, first: value}


def union(*grids: Iterator[Cell]) -> tuple[Cell, ...]:
    """All cells in order; a trial that several grids hold is kept where it first stands."""
    first: dict[str, Cell] = {}
    for cell in (cell for cells in grids for cell in cells):
        first.setdefault(cell.trial.id, cell)
    return tuple(first.values())


def documents() -> list[str]:
    """The sweeps that come with the package."""
    return sorted(module.name for module in iter_modules(paper.__path__))


def find(name: str, scale: str) -> Sweep:
    """Expand the sweep `name` (one of ours, or a path to a file) at a scale. ValueError says in a line what is wrong.

    A user's file is code and is run as such.
    """
    path = Path(paper.__path__[0]) / f"{name}.py" if name in documents() else Path(name)
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"no sweep {name!r}; there are {', '.join(documents())}, or give a path to a .py file")
    try:
        document = runpy.run_path(str(path))
    except Exception as error:
        raise ValueError(f"{path}{_line_in(path, error)}: {_said(error)}") from error
    if not callable(document.get("sweep")):
        raise ValueError(f"{path}: defines no function sweep(scale)")
    scales = document.get("SCALES", ("laptop",))
    if scale not in scales:
        raise ValueError(f"no scale {scale!r} in {name}; there are {', '.join(scales)}")
    try:
        declared = document["sweep"](scale)
    except Exception as error:
        raise ValueError(f"{path}{_line_in(path, error)}: {_said(error)}") from error
    if not isinstance(declared, Sweep):
        raise ValueError(f"{path}: sweep({scale!r}) returned {type(declared).__name__}, not a Sweep")
    title = (document.get("__doc__") or path.stem).strip().splitlines()[0]
    return declared.model_copy(update={"name": path.stem, "title": title, "scale": scale})


def load(name: str, results: Path) -> Sweep:
    """The sweep as it was last run into this results folder. ValueError if it never was."""
    path = manifest_path(Path(name).stem, results)
    if not path.exists():
        raise ValueError(f"{name} was not run into {results}; `parrots run {name}` does it")
    try:
        return Sweep.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error)}") from error


def _said(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return one_line(error)
    return str(error).splitlines()[0] if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _line_in(path: Path, error: Exception) -> str:
    """`, line 12` for the last line of the user's file on the way to the error."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""
