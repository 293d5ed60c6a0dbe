"""`parrots diff SWEEP@A SWEEP@B`: which scores moved between two commits, or between two results folders."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from parrots.frozen import canonical_json
from parrots.spec import Cell, Trial
from sweeps.fields import flat
from sweeps.say import columns, out
from sweeps.spec import find, load, manifest_path
from sweeps.verbs.options import results_option, scale_option

MOVED = 2.0  # standard errors of the difference


class Score(NamedTuple):
    """A metric of one configuration at one side."""

    mean: float
    stderr: float
    """Of the mean over seeds; of one seed, over what was asked."""
    n: int


Key = tuple[str, str]
"""A configuration (a trial's canonical JSON without its seed) and a metric."""


class Side(NamedTuple):
    """What one argument names."""

    label: str
    cells: Sequence[Cell]
    scores: dict[Key, Score]


@click.command()
@click.argument("before", metavar="SWEEP@A")
@click.argument("after", metavar="SWEEP@B")
@scale_option
@results_option
@click.option("--all", "everything", is_flag=True, help="What did not move too.")
def diff(before: str, after: str, scale: str | None, results: Path, everything: bool) -> int:
    """Show what moved between two sides of a sweep: A and B are commits (their first characters) or results folders.

    Configurations stand beside each other whatever their ids, so a bumped version does not part them. Moved: by more than
    two standard errors of the difference. Exit code 1 if something did.
    """
    old, new = (side(text, scale, results) for text in (before, after))
    shared = [key for key in old.scores if key in new.scores]
    if not shared:
        raise ValueError(f"{before} and {after} share no finished configuration")
    rows, moved, called = [], 0, names([*old.cells, *new.cells])
    for key in shared:
        a, b = old.scores[key], new.scores[key]
        by = b.mean - a.mean
        error = math.hypot(a.stderr, b.stderr)
        far = abs(by) > MOVED * error if error > 0 else by != 0 if math.isfinite(by) else False
        moved += far
        if far or everything:
            sigmas = f"{by / error:+.1f}" if error > 0 else "-"
            values = (f"{a.mean:.4g}", f"{b.mean:.4g}", f"{by:+.3g}", sigmas, f"{a.n}, {b.n}")
            rows.append((*called[key[0]], key[1], *values, "moved" if far else ""))
    head = ("task", "configuration", "metric", old.label, new.label, "difference", "in stderr", "seeds", "")
    columns(head, rows, left=("task", "configuration", "metric", ""))
    alone = (len(old.scores) - len(shared), len(new.scores) - len(shared))
    out.print(f"{moved} of {len(shared)} scores moved; {alone[0]} only at {old.label}, {alone[1]} only at {new.label}")
    return 1 if moved else 0


def side(text: str, scale: str | None, results: Path) -> Side:
    """The scores that SWEEP@A names. ValueError if there are none."""
    name, at, where = text.rpartition("@")
    if not at or not name or not where:
        raise ValueError(f"{text}: SWEEP@COMMIT or SWEEP@FOLDER")
    folder, commit = (Path(where), "") if Path(where).is_dir() else (results, where)
    was_run = manifest_path(Path(name).stem, folder).exists()
    sweep = load(name, folder) if was_run and scale is None else find(name, scale)
    scores = scored(sweep.asked(folder), folder, commit)
    if not scores:
        raise ValueError(f"{text}: no record of {sweep.name} in {folder}" + (f" is of commit {commit}" if commit else ""))
    return Side(where if len(where) < 20 else where[-19:], sweep.asked(folder), scores)


def scored(cells: Sequence[Cell], folder: Path, commit: str) -> dict[Key, Score]:
    """Final scores over seeds; of diverged trials none. Records of a changed tree are its commit's too."""
    from parrots.record import evaluations_of, path_of, read

    values: dict[Key, list[tuple[float, float]]] = {}
    for trial in (cell.trial for cell in cells if path_of(cell.trial.id, folder).exists()):
        for path in (path_of(trial.id, folder), *evaluations_of(trial.id, folder)):
            for row in read([path]).to_pylist():
                final = row["evaluation"] or row["metric"] in trial.task.metrics
                if final and row["status"] == "done" and row["commit"].startswith(commit):
                    metric = f"{row['evaluation']}/{row['metric']}" if row["evaluation"] else row["metric"]
                    values.setdefault((configuration(trial), metric), []).append((row["value"], row["stderr"]))
    return {key: _score(pairs) for key, pairs in values.items()}


def configuration(trial: Trial) -> str:
    """What trials that differ in their seed share."""
    return canonical_json(trial.model_copy(update={"seed": 0}))


def names(cells: Sequence[Cell]) -> dict[str, tuple[str, str]]:
    """For people, the task and name of each configuration, with the fields in which it differs from others of its name."""
    by_name: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for trial in (cell.trial for cell in cells):
        alike = by_name.setdefault((trial.task.kind, trial.name.rpartition("-s")[0]), {})
        alike.setdefault(configuration(trial), flat(trial.model_dump(exclude={"seed"})))
    found = {}
    for (task, name), alike in by_name.items():
        differ = [field for field in next(iter(alike.values())) if len({str(one.get(field)) for one in alike.values()}) > 1]
        for key, one in alike.items():
            found[key] = task, " ".join([name, *(f"{field.rpartition('.')[2]}={one.get(field)}" for field in differ)])
    return found


def _score(pairs: Sequence[tuple[float, float]]) -> Score:
    values = [value for value, _ in pairs]
    mean, n = sum(values) / len(values), len(values)
    within = math.sqrt(sum(stderr**2 for _, stderr in pairs if not math.isnan(stderr))) / n
    if n == 1:
        return Score(mean, within, n)
    between = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return Score(mean, max(between, within), n)
