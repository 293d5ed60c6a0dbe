"""How the best learning rate moves with size and experts: a plane in logarithms through each configuration's choice."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from analysis.compare import Estimate, estimate, weightings
from analysis.fit import censored, linear

FEWEST = 4  # configurations
RESAMPLES = 1000


@dataclass(frozen=True)
class Movement:
    """log10 of the best rate in log10 of what varies: an exponent each."""

    exponents: dict[str, Estimate]
    configurations: int
    at_edge: int
    """Configurations whose best was the highest or lowest rate tried, which is a bound and no value (Tobit)."""

    def __str__(self) -> str:
        told = ", ".join(f"{name}^{one:.2f}" for name, one in self.exponents.items())
        edge = f"; {self.at_edge} of them at the edge of the rates tried, counted as bounds" if self.at_edge else ""
        return f"The best learning rate moves as {told}, on {self.configurations} configurations{edge}."


def movement(chosen: pd.DataFrame, frame: pd.DataFrame) -> Movement:
    """How the chosen rates of one task move with N_active and, where there are MoE, with their experts.

    frame: all trials, for the rates that were tried. ValueError, with the reason, where nothing can be said.
    """
    tried = frame.loc[frame["status"].isin(["done", "diverged"]), "lr"].dropna()
    if tried.nunique() < 3:
        raise ValueError(f"{tried.nunique()} learning rates tried; how the best one moves takes three")
    best = chosen.groupby("configuration", sort=False).first()
    best = best.assign(configuration=best.index, n_experts=best["n_experts"].fillna(1))
    names = [name for name in ("N_active", "n_experts") if best[name].max() > 1.5 * best[name].min()]
    if len(best) < max(FEWEST, len(names) + 3) or not names:
        need = max(FEWEST, len(names) + 3)
        raise ValueError(f"{len(best)} configurations that differ in {' and '.join(names) or 'no size'}; it takes {need}")
    size_PR = np.log10(best[names].to_numpy(float).T)
    design_RP = np.vstack([np.ones(len(best)), size_PR - size_PR.mean(1, keepdims=True)]).T
    rate_R = best["lr"].to_numpy(float)
    side_R = (rate_R == tried.max()).astype(float) - (rate_R == tried.min())
    if (side_R != 0).all():
        raise ValueError(f"all {len(best)} configurations chose the highest or lowest rate tried; try others beyond them")
    w_MR = weightings(best, RESAMPLES)
    fit = partial(censored, side_R=side_R) if side_R.any() else linear
    b_MP = fit(design_RP, np.log10(rate_R), w_MR=w_MR)
    found = {name: estimate(b_MP[:, 1 + p]) for p, name in enumerate(names)}
    return Movement(found, len(best), int((side_R != 0).sum()))
