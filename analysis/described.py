"""Anybody's table of runs with the columns that comparisons, claims and figures go by.

A table needs N_total (or N), and N_active or the number of experts where it has MoE. The rest follows or is optional: what
is not told apart by sizes, shape, tokens and learning rate is a seed of one configuration.
"""

import json

import numpy as np
import pandas as pd

from analysis.picture import quantity
from analysis.runs import no_column
from analysis.threshold import UNNAMED

ALIASES = {
    "N_total": ("N",),
    "d_model": ("width",),
    "n_layers": ("depth",),
    "n_experts": ("E",),
    "top_k": ("k",),
    "tokens": ("D",),
    "flops": ("C",),
}
IDENTITY = ("task", "kind", "label", "N_total", "N_active", "d_model", "n_layers", "d_ff", "n_experts", "top_k", "tokens")
"""What tells configurations apart, of the columns that are there."""
KINDS = {"dense": "dense", "moe": "MoE", "sparse": "MoE"}
MOE = 1.01  # times its active parameters that a model has, from which on it is sparse


def described(frame: pd.DataFrame) -> pd.DataFrame:
    """The runs of `analysis.load`, described; our records are already. ValueError names a column that is needed."""
    frame = frame.copy()
    for name, others in ALIASES.items():
        if name not in frame and (there := next((one for one in others if one in frame), "")):
            frame[name] = frame[there]
    if "N_total" not in frame:
        raise ValueError(f"runs are compared by N_total: {no_column('N_total', frame)}; say which with --map N_total=COLUMN")
    if "kind" not in frame:
        frame["kind"] = np.where(_sparse(frame), "MoE", "dense")
    frame["kind"] = _kinds(frame["kind"])
    if "N_active" not in frame:
        if (frame["kind"] == "MoE").any():
            raise ValueError(f"MoE need N_active: {no_column('N_active', frame)}; say which with --map N_active=COLUMN")
        frame["N_active"] = frame["N_total"]
    if "configuration" not in frame:
        told = frame[[name for name in IDENTITY if name in frame]].astype(object)
        frame["configuration"] = [json.dumps(row, default=str) for row in told.to_numpy().tolist()]
    return with_derived(frame.assign(**{name: value for name, value in _absent(frame).items() if name not in frame}))


def with_derived(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs with tokens for each total parameter, and perplexity where a loss on held-out tokens is there."""
    more = {}
    if "tokens" in frame and "tokens_per_parameter" not in frame:
        more["tokens_per_parameter"] = frame["tokens"].astype(float) / frame["N_total"].astype(float)
    loss = next((name for name in ("validation_loss", "test_loss") if name in frame), "")
    if loss and "perplexity" not in frame:
        more["perplexity"] = np.exp(frame[loss].astype(float).clip(upper=700))
    return frame.assign(**more)


def _sparse(frame: pd.DataFrame) -> pd.Series:
    if "n_experts" in frame:
        return frame["n_experts"].fillna(1) > 1
    if "N_active" in frame:
        return frame["N_total"] > MOE * frame["N_active"]
    return pd.Series(False, index=frame.index)


def _kinds(column: pd.Series) -> pd.Series:
    """dense or MoE, however they are spelt."""
    known = column.astype(str).str.casefold().map(KINDS)
    if known.isna().any():
        raise ValueError(f"kind is {column[known.isna()].iloc[0]!r}; it has to be dense or MoE")
    return known


def _absent(frame: pd.DataFrame) -> dict[str, object]:
    """What a table may leave out, and what stands in its place."""
    named = next((frame[one] for one in ("name", "run_name", "model") if one in frame), None)
    label = named.astype(str) if named is not None else [quantity(n) for n in frame["N_total"].astype(float)]
    return {
        "task": UNNAMED,
        "n_experts": frame["kind"].eq("MoE").map({True: np.nan, False: 1}),
        "top_k": np.nan,
        "d_model": np.nan,
        "d_ff": np.nan,
        "n_layers": np.nan,
        **{"label": label, "name": label},
        "seed": 0,
        "lr": np.nan,
        "loss": np.nan,
        "status": "done",
        "reason": "",
        "workers": 1,
        **{"wall_s": np.nan, "train_s": np.nan},
        **{"hardware": "", "commit": ""},
    }
