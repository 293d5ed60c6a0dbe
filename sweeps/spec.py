"""A sweep: which trials, with which workers, to decide which claims. A document in Python expands to plain data.

A document is a file with a docstring and a function `sweep(scale)` that returns a `Sweep`; `sweeps/paper/` has ours, and a
path names the user's own.
"""

import ast
import re
import runpy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Literal, Self

from pydantic import TypeAdapter, ValidationError, model_validator

from analysis.claims import COLUMNS, AnyClaim, Claim
from parrots.atomic import atomic
from parrots.expressions import Expression
from parrots.frozen import Frozen, canonical, one_line
from parrots.spec import Cell, Evaluation, Trial
from parrots.thresholds import USUAL, Thresholds
from sweeps import index, manifest, paper
from sweeps.fields import declared, flat, has
from sweeps.search import Capacity, reached_in

Axes = Mapping[str, Sequence[Any]]


class Sweep(Frozen):
    """Cells in the order in which they were declared, and the claims that they were chosen to decide."""

    format: Literal[1] = 1
    """Of the manifest that this becomes."""
    name: str = ""
    """With title and scale filled in from the document: its file's name and the first line of its docstring."""
    title: str = ""
    scale: str = ""
    note: str = ""
    """What its numbers are not, for those who read them, such as `not the paper's batch`; plan, run and report say it."""
    command: str = ""
    """What ran it, for those who want to run it again."""
    claims: tuple[AnyClaim, ...] = ()
    keep: Literal["weights", "none"] = "weights"
    """What stays of a trial beside its record."""
    alarms: Thresholds = USUAL
    """From where on a training looks wrong; `parrots run --alarm` goes before."""
    cells: tuple[Cell, ...] = ()
    search: Capacity | None = None
    """Cells besides that depend on what others found."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.cells and not self.search:
            raise ValueError("a sweep without cells")
        metrics = self.metrics()
        names = [claim.name for claim in self.claims]
        for claim in self.claims:
            if names.count(claim.name) > 1:
                raise ValueError(f"claim {claim.name}: there are two of this name")
            if claim.task not in metrics:
                raise ValueError(f"claim {claim.name}: no cell has task {claim.task!r}; there are {', '.join(metrics)}")
            if claim.measured not in (known := metrics[claim.task]):
                there = ", ".join(known)
                raise ValueError(f"claim {claim.name}: {claim.task} has no metric {claim.measured!r}; there are {there}")
            if name := self.lacks(claim):
                raise ValueError(
                    f"claim {claim.name}: no cell of {claim.task} has a field {name!r}{self._nearest(name, claim)}"
                )
        if self.keep == "none" and (asked := next((cell for cell in self.cells if cell.evaluations), None)):
            raise ValueError(f"keep='none': {asked.trial.name} has evaluations, which need its weights")
        return self

    def about(self, claim: Claim) -> Iterator[Trial]:
        """The trials of a claim's task."""
        searched = self.search.arms if self.search else ()
        return (trial for trial in (*(cell.trial for cell in self.cells), *searched) if trial.task.kind == claim.task)

    def lacks(self, claim: Claim) -> str | None:
        """The first field that a claim names and none of the trials has that it is about; None where there is none such."""

        def there(name: str) -> bool:
            return name in COLUMNS or any(has(trial.model_dump(), name) for trial in self.about(claim))

        return next((name for name in claim.fields if not there(name)), None)

    def _nearest(self, name: str, claim: Claim) -> str:
        known = {field for trial in self.about(claim) for field in flat(trial.model_dump())}.union(COLUMNS)
        near = get_close_matches(name, sorted(known), n=3, cutoff=0.5)
        return f"; nearest are {', '.join(near)}" if near else ""

    def metrics(self) -> dict[str, tuple[str, ...]]:
        """What is measured of each task."""
        found = {cell.trial.task.kind: cell.metrics for cell in self.cells}
        if self.search:
            found.setdefault("phonebook", self.search.arms[0].task.metrics)
        return found

    def asked(self, results: Path) -> tuple[Cell, ...]:
        """The cells, with those that the search has come to by the records of a results folder."""
        if self.search is None:
            return self.cells
        found = (Cell(trial=trial) for trial in self.search.asked(reached_in(results, self.search)))
        return union(iter(self.cells), found)

    def manifest(self, results: Path) -> Path:
        """Write the expanded sweep as JSON into a results folder, where `manifest` finds it again."""
        path = manifest_path(self.name, results)
        with atomic(path) as sink:
            sink.write(self.text().encode())
        about = (self.name, self.scale, self.title, self.command, self.search is not None)
        index.write(path, about, self.cells)
        return path

    def text(self) -> str:
        """The manifest: canonical JSON, hashed, a line a cell."""
        claims = TypeAdapter(tuple[AnyClaim, ...])
        checked = claims.validate_python(canonical(self.claims))  # a document may have copied 1 in where 1.0 is meant
        return manifest.text(canonical(self.model_copy(update={"claims": checked})))


def manifest_path(name: str, results: Path) -> Path:
    """Where the manifest of a sweep that was run into this results folder is."""
    return results / "sweeps" / name / "manifest.json"


def grid(
    base: Mapping[str, Any],
    axes: Axes,
    workers: int = 1,
    evaluations: Sequence[Evaluation] = (),
    derived: Mapping[str, str] | None = None,
    lane: Literal["auto", "packed", "group"] = "auto",
) -> Iterator[Cell]:
    """The product of `axes` over `base`, the last axis fastest.

    base: a trial as nested mappings. axes: from a field, `training.lr` or `model.ffn`, to the values that it takes; a value
    that is a mapping is laid over the one in `base`. derived: from a field to the expression that gives it, in the names of
    the others: {"model.ffn.d_ff": "4 * d_model"}; an axis that is no field is there for these alone, as epochs in
    {"training.steps": "epochs * n_entries // batch_size"}. ValueError names the field, the value and what is allowed.
    lane: how the cells are run (sweeps/lanes.py).
    """
    follows = {field: Expression(text) for field, text in (derived or {}).items()}
    for axis, values in axes.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise ValueError(f"axis {axis}: {values!r} is not a list of at least one value")
        if twice := [value for value in values if list(values).count(value) > 1]:
            raise ValueError(f"axis {axis}: {twice[0]!r} stands there twice")
        if axis in follows:
            raise ValueError(f"two axes of one name: {axis} has values, and is derived as {follows[axis].text!r}")
    apart = {axis for axis in axes if axis not in Trial.model_fields and any(axis in one.names for one in follows.values())}
    for values in product(*axes.values()):
        said: dict[str, Any] = canonical(dict(base))
        for axis, value in zip(axes, values, strict=True):
            said = said if axis in apart else laid_over(said, axis.split("."), value)
        for field, expression in follows.items():
            names = declared(said) | {axis: value for axis, value in zip(axes, values, strict=True) if axis in apart}
            said = laid_over(said, field.split("."), expression(names))
        try:
            yield Cell(trial=Trial.model_validate(said), workers=workers, evaluations=tuple(evaluations), lane=lane)
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


def find(name: str, scale: str | None = None) -> Sweep:
    """Expand the sweep `name` (one of ours, or a path to a file) at a scale, by default its first.

    ValueError says in a line what is wrong.

    A user's file is code and is run as such.
    """
    path = Path(paper.__path__[0]) / f"{name}.py" if name in documents() else Path(name)
    if path.suffix == ".json":
        found = read(path)
        if scale not in (None, found.scale):
            raise ValueError(f"{path}: a manifest of scale {found.scale}; others are in the document that it was made from")
        return found
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(f"no sweep {name!r}; there are {', '.join(documents())}, or give a path to a .py file or a manifest")
    if name not in documents() and path.stem in documents():
        raise ValueError(f"{path}: {path.stem} is a sweep that comes with the package; give yours another name")
    if not re.fullmatch(r"[\w.-]+", path.stem, re.ASCII):
        raise ValueError(f"{path}: a sweep's name is letters, digits, dots, dashes and underscores; rename the file")
    try:
        _one_value_a_name(path)
        document = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path}{_line_in(path, error)}: {_said(error)}") from error
    if not callable(document.get("sweep")):
        raise ValueError(f"{path}: defines no function sweep(scale)")
    scales = document.get("SCALES", ("laptop",))
    if not isinstance(scales, (tuple, list)) or not scales or not all(isinstance(one, str) for one in scales):
        raise ValueError(f"{path}: SCALES={scales!r} is not a tuple of names")
    scale = scale or scales[0]
    if scale not in scales:
        raise ValueError(f"no scale {scale!r} in {name}; there are {', '.join(scales)}")
    try:
        declared = document["sweep"](scale)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path}{_line_in(path, error)}: {_said(error)}") from error
    if not isinstance(declared, Sweep):
        raise ValueError(f"{path}: sweep({scale!r}) returned {type(declared).__name__}, not a Sweep")
    title = next(iter((document.get("__doc__") or "").strip().splitlines()), path.stem)
    return declared.model_copy(update={"name": path.stem, "title": title, "scale": scale})


def load(name: str, results: Path) -> Sweep:
    """The sweep as it was last run into this results folder. ValueError if it never was."""
    path = manifest_path(read(Path(name)).name if name.endswith(".json") else Path(name).stem, results)
    if not path.exists():
        raise ValueError(f"{name} was not run into {results}; `parrots run {name}` does it")
    return read(path)


def read(path: Path) -> Sweep:
    """The sweep that a manifest is of. ValueError in a line if it cannot be used."""
    if not path.is_file():
        raise ValueError(f"no manifest {path}")
    said = manifest.parse(path)
    try:
        found = Sweep.model_validate(said)
    except ValidationError as error:
        raise ValueError(f"{path}: {one_line(error)}") from error
    if not re.fullmatch(r"[\w.-]+", found.name, re.ASCII) or found.name.startswith("."):
        raise ValueError(f"{path}: name={found.name!r}: letters, digits, dots, dashes and underscores")
    return found


def _one_value_a_name(path: Path) -> None:
    """ValueError if a mapping in a document has two values of one name, of which Python would keep the last."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            for key in node.keys:
                if isinstance(key, ast.Constant) and keys.count(key.value) > 1:
                    raise _At(f"two values for {key.value!r} in one mapping", key.lineno)


class _At(ValueError):
    """What is wrong at a line of a document."""

    def __init__(self, said: str, lineno: int):
        super().__init__(said)
        self.lineno = lineno


def _said(error: BaseException) -> str:
    if isinstance(error, ValidationError):
        return one_line(error)
    said = next(iter((error.msg if isinstance(error, SyntaxError) else str(error)).splitlines()), "")
    if said and isinstance(error, ValueError):
        return said
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _line_in(path: Path, error: BaseException) -> str:
    """`, line 12` for the last line of the user's file on the way to the error."""
    if isinstance(error, (SyntaxError, _At)) and error.lineno:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""
