"""What a law is fitted to: the runs of a table that have its columns, and those left out with the reason."""

# R runs, K configurations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.formula import TO_SCALE
from analysis.laws import Law, Variable
from analysis.runs import check_units, no_column

WEIGHTS = ("none", "n", "stderr")


@dataclass(frozen=True)
class Points:
    """Runs as arrays, and what they were made of."""

    x: Mapping[str, np.ndarray]
    y_R: np.ndarray
    """The response on the scale of the errors: a logarithm, or the share itself."""
    n_R: np.ndarray | None
    """Trials behind each share; None where unknown."""
    side_R: np.ndarray
    """0 for a value, 1 where the value lies above what is written, -1 where it lies below."""
    w_R: np.ndarray
    config_R: np.ndarray
    """Which configuration a run is of: what is resampled and left out together."""
    columns: Mapping[str, str]
    """Variable or response -> the column that was taken for it."""
    left_out: Mapping[str, int]
    """Reason -> how many runs."""
    index: pd.Index

    @property
    def configurations(self) -> int:
        """How many there are."""
        return int(self.config_R.max(initial=-1)) + 1

    @property
    def settings(self) -> int:
        """Different values of the variables together."""
        return len(np.unique(np.stack(list(self.x.values())), axis=1).T)


def points(
    frame: pd.DataFrame, law: Law, drop_highest: int = 0, cluster: str = "", weight: str = "none", held: int = 0
) -> Points:
    """The runs of `frame` that `law` can be fitted to.

    drop_highest: how many of the highest responses are left out. cluster: the column that tells configurations apart;
    `configuration` where there is one, or else each run is its own. weight: none, n (of the response) or stderr. held:
    how many parameters are not fitted.
    ValueError if a column is not there, a unit cannot be, or too few runs are left.
    """
    taken = {name: column_of(frame, variable, name, law) for name, variable in law.variables.items()}
    response = column_of(frame, law.response, law.response.columns[0], law)
    check_units(frame.rename(columns={response: law.response.columns[0]}), [law.response.columns[0], *taken.values()])
    usable, left_out = _usable(frame, [*taken.values(), response], law, response)
    if drop_highest:
        highest = frame.loc[usable, response].sort_values(kind="stable").index[-drop_highest:]
        usable &= ~frame.index.isin(highest)
        left_out[f"the {drop_highest} highest {response}"] = len(highest)
    some = frame[usable]
    n_R = _numbers(some, f"{response}.n") if law.errors == "binomial" else None
    found = Points(
        {name: some[column].to_numpy(float) for name, column in taken.items()},
        TO_SCALE[law.errors](some[response].to_numpy(float)),
        n_R,
        _sides(some, response),
        _weights(some, response, weight, law),
        pd.factorize(some[_cluster(some, cluster)])[0] if _cluster(some, cluster) else np.arange(len(some)),
        {**taken, law.response.columns[0]: response},
        left_out,
        some.index,
    )
    enough(found, law, held)
    return found


def column_of(frame: pd.DataFrame, variable: Variable, name: str, law: Law) -> str:
    """The column of a variable; ValueError names what to map."""
    for column in variable.columns:
        if column in frame:
            return column
    either = " or ".join(dict.fromkeys(variable.columns))
    raise ValueError(f"{law.name} needs {either}: {no_column(name, frame)}; say which with --map {variable.columns[0]}=COLUMN")


def enough(found: Points, law: Law, held: int) -> None:
    """ValueError if a law has more parameters than the runs could ever tell, or if nothing but bounds is known."""
    need, R = len(law.parameters) - held + 1, len(found.y_R)
    if R and (found.side_R != 0).all():
        raise ValueError(
            f"undecided: all {R} values are censored (above or below the sizes tried); try larger and smaller ones"
        )
    if found.settings < need or found.configurations < need:
        have = f"{found.settings} different settings of {', '.join(law.variables)}"
        have += f" in {found.configurations} configurations ({R} runs)"
        gone = "".join(f"; {count} left out: {why}" for why, count in found.left_out.items())
        raise ValueError(
            f"{law.name} has {need - 1} free parameters and needs at least {need} different settings; here are {have}{gone}"
        )


def _usable(frame: pd.DataFrame, columns: list[str], law: Law, response: str) -> tuple[pd.Series, dict[str, int]]:
    """Which runs have every number, and why the others have not."""
    status = frame.get("status", pd.Series("done", index=frame.index)).astype(str)
    told = frame.get("reason", pd.Series("", index=frame.index)).fillna("").astype(str)
    usable = (status == "done") & frame[columns].notna().all(axis=1)
    positive = [c for c, v in zip(columns, law.variables.values(), strict=False) if not v.may_be_zero]
    why = told.where(status == "missing", status).where(status != "done", "")
    for column in columns:
        why = why.where((why != "") | frame[column].notna(), f"{column} is missing")
    bad = usable & (frame[positive] <= 0).any(axis=1) if positive else usable & False
    if law.errors != "binomial":
        bad |= usable & (frame[response] <= 0)
    why = why.where(~bad, "a value of 0 or less, which has no logarithm")
    return usable & ~bad, dict(Counter(why[~usable | bad]))


def _numbers(frame: pd.DataFrame, column: str) -> np.ndarray | None:
    """A column of counts, if every run has one."""
    if column not in frame or frame[column].isna().any() or (frame[column] <= 0).any():
        return None
    return frame[column].to_numpy(float)


def _sides(frame: pd.DataFrame, response: str) -> np.ndarray:
    """+1 where `censored` says above, -1 where it says below; of values read off an axis."""
    said = frame.get(f"{response}.censored", frame.get("censored", pd.Series("", index=frame.index))).fillna("").astype(str)
    return said.str.startswith("above").to_numpy(int) - said.str.startswith("below").to_numpy(int)


def _weights(frame: pd.DataFrame, response: str, weight: str, law: Law) -> np.ndarray:
    """Weights of the runs, one on average."""
    if weight not in WEIGHTS:
        raise ValueError(f"weight {weight!r}; there are {', '.join(WEIGHTS)}")
    if weight == "none":
        return np.ones(len(frame))
    if weight == "n" and law.errors == "binomial":
        raise ValueError(f"{law.name} heeds n already: its likelihood is binomial")
    column = f"{response}.{weight}"
    known = _numbers(frame, column)
    if known is None:
        raise ValueError(f"--weight {weight} needs {column} above 0 for every run; map it with --map {column}=COLUMN")
    if weight == "n":
        w_R = known
    else:
        w_R = (frame[response].to_numpy(float) / known) ** 2 if law.errors != "binomial" else known**-2.0
    return w_R / w_R.mean()


def _cluster(frame: pd.DataFrame, cluster: str) -> str:
    """The column that tells configurations apart."""
    if cluster and cluster not in frame:
        raise ValueError(f"--cluster {cluster}: {no_column(cluster, frame)}")
    return cluster or ("configuration" if "configuration" in frame else "")
