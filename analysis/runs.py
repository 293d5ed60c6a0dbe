"""A table of runs, ours or anyone's, as one typed frame: a row a run, columns under this project's names.

What is missing is missing with a reason: `status` and `reason` say for each run what it lacks and why. N_total and N_active
are parameters, D tokens, C FLOPs, E experts, S = 1 - k/E, `loss` nats a token, `accuracy` a share.
"""

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import table
from parrots.expressions import Expression
from parrots.record import STATUSES

READERS = {
    ".csv": pd.read_csv,
    ".tsv": lambda path: pd.read_csv(path, sep="\t"),
    ".parquet": pd.read_parquet,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
    ".ndjson": lambda path: pd.read_json(path, lines=True),
}
FUNCTIONS = {"log": np.log, "log10": np.log10, "log2": np.log2, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs}
DERIVED = {  # name: what it is made of and how, each tried where the name is absent; the first that can be made is
    "D": ("tokens", "C / (6 * N)", "C / (6 * N_total)", "C / (6 * N_active)"),
    "C": ("flops", "6 * N * D", "6 * N_active * D", "6 * N_total * D"),
    "E": ("n_experts",),
    "S": ("1 - top_k / n_experts", "1 - k / E"),
}
STATES = (*STATUSES, "missing")
"""Those of a record, and `missing`: a row of another's table that lacks a number."""


def load(source: str | Path, columns: Mapping[str, str] | None = None, where: str = "") -> pd.DataFrame:
    """The runs in a results folder of ours, or in a CSV, TSV, Parquet or JSONL file.

    Ours at another learning rate than their configuration's best are `missing`, with that reason (see `with_best_lr`).
    columns: our name -> the file's column, or an expression of its columns (`acc / 100`). where: an expression that the runs
    have to meet. ValueError names a column that is not there, with the nearest ones, and a unit that cannot be.
    """
    frame = _read(Path(source))
    asked = columns or {}
    made = {name: _made(frame, text, f"--map {name}={text}") for name, text in asked.items()}
    for name, text in asked.items():
        made |= {f"{name}{end}": frame[f"{text}{end}"] for end in (".n", ".stderr") if f"{text}{end}" in frame}
    frame = frame.assign(**made)
    if where:
        frame = frame[_met(frame, where)].copy()
    derived = derive(frame)
    frame = _with_reasons(frame, asked)
    check_units(frame, asked)
    frame.attrs["derived"] = derived
    return frame


def _read(source: Path) -> pd.DataFrame:
    if source.is_dir():
        ids = sorted({path.stem for path in (source / "records").glob("*.parquet")})
        ids += sorted({path.stem.rpartition("-")[0] for path in (source / "failures").glob("*.parquet")} - set(ids))
        if not ids:
            raise ValueError(f"{source}: no records in this folder")
        return _chosen(table.load(source, ids))
    if not source.exists():
        raise ValueError(f"{source}: no such file or folder")
    reader = READERS.get(source.suffix.lower())
    if reader is None:
        raise ValueError(f"{source}: {source.suffix or 'a file without a suffix'} is not read; {', '.join(READERS)} are")
    try:
        frame: pd.DataFrame = reader(source)
    except (ValueError, OSError) as error:
        raise ValueError(f"{source}: not read ({str(error).splitlines()[0]})") from error
    frame.columns = [str(name) for name in frame.columns]
    if not len(frame):
        raise ValueError(f"{source}: no rows")
    return frame


def _chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """Our trials, of which those at another learning rate than the chosen one are missing."""
    status = frame["status"].cat.add_categories(["missing"])
    if table.CURVE not in frame:
        return frame.assign(status=status)
    passed = (status == "done") & ~frame.index.isin(table.with_best_lr(frame).index)
    reason = frame["reason"].where(~passed, "another learning rate was chosen")
    return frame.assign(status=status.where(~passed, "missing"), reason=reason)


def _made(frame: pd.DataFrame, text: str, about: str) -> pd.Series:
    """A column by its name, or what an expression makes of several."""
    if text in frame:
        return frame[text]
    try:
        expression = Expression(text, FUNCTIONS)
    except ValueError as error:
        raise ValueError(
            f"{about}: {error}" if set(text) & set("()[]+*/=<>") else f"{about}: {no_column(text, frame)}"
        ) from error
    known = {name: frame[name] for name in expression.names if name in frame}
    if missing := [name for name in expression.names if name not in known]:
        raise ValueError(f"{about}: {no_column(missing[0], frame)}")
    value = expression(known)
    return value if isinstance(value, pd.Series) else pd.Series(value, index=frame.index)


def _met(frame: pd.DataFrame, where: str) -> pd.Series:
    met = _made(frame, where, f"--filter {where!r}")
    if met.dtype != bool:
        raise ValueError(f"--filter {where!r} is neither true nor false for a run; compare something")
    if not met.any():
        parts = [f"{name} is {_some(frame[name])}" for name in Expression(where, FUNCTIONS).names]
        raise ValueError(f"--filter {where!r} leaves none of {len(frame)} runs; {'; '.join(parts)}")
    return met


def _some(column: pd.Series) -> str:
    """A few of a column's values."""
    values = column.dropna().unique()
    return ", ".join(map(str, values[:5])) + (f", ... ({len(values)} values)" if len(values) > 5 else "")


def no_column(name: str, frame: pd.DataFrame) -> str:
    """That a column is not there, with the nearest names."""
    folded = {column.casefold(): column for column in frame.columns}
    near = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.5)
    near += [one for one in folded if name.casefold() in one and one not in near][:3]
    some = [folded[one] for one in near] or list(frame.columns[:8])
    return f"no column {name!r}; {'nearest' if near else 'there'} are {', '.join(some)}"


def derive(frame: pd.DataFrame) -> list[str]:
    """Add D, C, E and S where they follow from other columns; how each was made."""
    said = []
    for name, ways in DERIVED.items():
        for way in ways:
            names = Expression(way, FUNCTIONS).names
            if name in frame or not set(names) <= set(frame.columns) or not all(map(_numeric, (frame[one] for one in names))):
                continue
            frame[name] = _made(frame, way, name)
            said.append(f"{name} = {way}")
    return said


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def _with_reasons(frame: pd.DataFrame, asked: Collection[str]) -> pd.DataFrame:
    """The asked columns as numbers, and for each run that lacks one of them the reason."""
    frame = frame.assign(**{name: value for name, value in (("status", "done"), ("reason", "")) if name not in frame})
    if strange := sorted({str(one) for one in frame["status"].dropna()} - set(STATES)):
        raise ValueError(f"status is {strange[0]!r} in some runs; it has to be one of {', '.join(STATES)}")
    status, reason = frame["status"].astype(object), frame["reason"].astype(object).fillna("")
    for name in asked:
        if _numeric(frame[name]):
            number = frame[name].astype(float).replace([np.inf, -np.inf], np.nan)
        elif name in ("status", "reason") or not frame[name].map(_like_a_number).any():
            continue  # a label
        else:
            number = pd.to_numeric(frame[name], errors="coerce")
        lost = number.isna() & (status == "done")
        reason[lost] = [f"{name} is empty" if pd.isna(text) else f"{name} is {text!r}" for text in frame.loc[lost, name]]
        status[lost] = "missing"
        frame = frame.assign(**{name: number})
    return frame.assign(status=pd.Categorical(status, categories=list(STATES)), reason=reason)


def _like_a_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def check_units(frame: pd.DataFrame, names: Collection[str]) -> None:
    """ValueError for a number that cannot be of its unit: an accuracy of 37, a loss below zero, a model of no parameters."""
    for name in names:
        if name not in frame or not _numeric(frame[name]):
            continue
        column = frame[name].dropna()
        if name == "accuracy":
            _refuse(
                column,
                column > 1,
                name,
                "an accuracy is a share between 0 and 1; if it is in per cent, map accuracy='COLUMN / 100'",
            )
            _refuse(column, column < 0, name, "an accuracy is a share between 0 and 1")
        elif name == "S":
            _refuse(column, (column < 0) | (column >= 1), name, "the sparsity 1 - k/E is at least 0 and below 1")
        elif name in ("loss", "task_loss", "N", "N_total", "N_active", "D", "C", "E", "G"):
            _refuse(column, column <= 0, name, "it has to be above 0")


def _refuse(column: pd.Series, bad: pd.Series, name: str, why: str) -> None:
    if bad.any():
        worst = column[bad].iloc[0]
        raise ValueError(f"{name} {worst:g} ({int(bad.sum())} of {len(column)} runs): {why}")
