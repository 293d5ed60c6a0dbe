"""A trial as one row of the board: what was declared, its sizes, its final metrics, how it ended; and many rows as columns.

A row has groups: `field` (dotted names of the trial), `size`, `score` (value, stderr, n of each metric) and `about`. A cell
that has not run yet has the first two.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from parrots.frozen import one_line
from parrots.record import read
from parrots.spec import Trial

ABOUT = ("status", "reason", "attempt", "workers", "started", "wall_s", "train_s", "commit", "hardware", "sweep")
READ = ("trial", "tokens", "flops", "evaluation", "metric", "step", "value", "stderr", "n", *ABOUT)
Row = dict[str, dict[str, Any]]


def unrun(trial: Trial) -> Row:
    """The row of a trial that nothing is known of but its declaration."""
    fields = dict(flat(trial.model_dump(mode="json")))
    model = trial.model
    names = {"id": trial.id, "state": "missing", "name": trial.name, "task": trial.task.kind, "model": model.name}
    names["scores"] = " ".join(trial.task.metrics)
    experts = {"kind": "MoE" if model.n_experts > 1 else "dense", "n_experts": model.n_experts, "top_k": model.top_k}
    for said_again in ("task.kind", "model.ffn.kind", "model.ffn.n_experts", "model.ffn.top_k"):
        fields.pop(said_again, None)
    sizes = {"N_total": trial.total.N, "N_active": trial.active.N, "tokens": trial.tokens, "flops": trial.flops}
    return {"about": names, "field": experts | fields, "size": sizes, "score": {}}


def flat(said: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    """Nested mappings as dotted names and values; a list is told as text."""
    for name, value in said.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", str(value) if isinstance(value, list) else value


def of_records(paths: Sequence[Path]) -> Row:
    """The row of a trial that has a record: the first of `paths`; the others are of what its model was asked besides.

    A file that is no record, or of another version, is a row that says so: one bad file closes no page.
    """
    try:
        tables = [read([path], READ) for path in paths]
        first = {name: tables[0][name][0].as_py() for name in ("trial", "tokens", "flops", *ABOUT)}
        row = unrun(Trial.model_validate_json(first["trial"]))
    except (ValueError, ValidationError) as error:
        said = one_line(error) if isinstance(error, ValidationError) else str(error)
        about = {"id": paths[0].stem.partition("-")[0], "state": "unreadable", "reason": said}
        return {"about": about, "field": {}, "size": {}, "score": {}}
    row["size"] |= {"tokens": first["tokens"], "flops": first["flops"]}
    row["about"] |= {name: first[name] for name in ABOUT} | {"state": first["status"], "started": first["started"].isoformat()}
    del row["about"]["status"]
    for table in tables:
        row["score"] |= last(table)
    return row


def last(rows: Any) -> dict[str, tuple[float, float, int]]:
    """metric -> (value, stderr, n) where it was measured last; those of an evaluation have its name before them."""
    at: dict[str, int] = {}
    steps = rows["step"].to_pylist()
    for i, metric in enumerate(rows["metric"].to_pylist()):
        if metric is not None and steps[i] >= steps[at.get(metric, i)]:
            at[metric] = i
    asked = rows["evaluation"][0].as_py()
    before = f"{asked}/" if asked else ""
    return {f"{before}{m}": tuple(rows[c][i].as_py() for c in ("value", "stderr", "n")) for m, i in at.items()}


def curves(path: Path) -> dict[str, list[tuple[int, float]]]:
    """What was measured more than once: metric -> (step, value), in order."""
    rows = read([path], ("metric", "step", "value"))
    found: dict[str, list[tuple[int, float]]] = {}
    for metric, step, value in zip(*(rows[c].to_pylist() for c in ("metric", "step", "value")), strict=True):
        if metric is not None and math.isfinite(value):
            found.setdefault(metric, []).append((step, value))
    return {metric: sorted(points) for metric, points in found.items() if len(points) > 1}


def columns(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as JSON columns: name, group, and `all` where every row has the same value, else `values`.

    A score has its standard errors and counts beside it. What is not finite is null.
    """
    found = []
    for group in ("about", "field", "size", "score"):
        for name in dict.fromkeys(name for row in rows for name in row[group]):
            values = [row[group].get(name) for row in rows]
            if group == "score":
                value, stderr, n = ([v[i] if v else None for v in values] for i in range(3))
                found.append({"name": name, "group": group, **told(value), "stderr": told(stderr), "n": told(n)})
            else:
                found.append({"name": name, "group": group, **told(values)})
    return found


def told(values: Sequence[Any]) -> dict[str, Any]:
    """A column's values, once if they are all the same."""
    finite = [None if isinstance(v, float) and not math.isfinite(v) else v for v in values]
    return {"all": finite[0]} if all(v == finite[0] for v in finite) else {"values": finite}
