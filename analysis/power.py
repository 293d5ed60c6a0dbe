"""What more would decide a claim that is undecided: how many configurations or seeds, from the noise that was seen."""

import math

import pandas as pd

from analysis.claims import FEWEST, FEWEST_PAIRS, Claim
from analysis.compare import Estimate
from analysis.examine import Found, examine

DEAR = 50  # times the cells at hand: more than that is said to be out of reach


def lacking(found: Found) -> str:
    """What a mere direction needs to become a verdict."""
    if found.unit == "pairs":
        return f"A verdict takes {FEWEST_PAIRS} pairs; there are {found.cells}."
    return f"A verdict takes {FEWEST} configurations, two of them dense and two MoE; there are {found.cells}."


def more(claim: Claim, found: Found, runs: pd.DataFrame) -> str:
    """How many cells or seeds would decide, if the estimate stayed where it is and the noise as it is.

    An interval shrinks as one over the root of what it stands on; the part of its variance that seeds make is that of an
    interval from resampled seeds alone.
    """
    distance, reach = _short(claim, found.interval)
    times = (reach / distance) ** 2 if distance > 0 else math.inf
    if times > DEAR:
        return (
            f"The estimate lies {distance:.2g} from the margin and its interval reaches {reach:.2g} towards it: "
            f"{DEAR} times the {found.cells} {found.unit} at hand would not decide it."
        )
    needed = max(math.ceil(found.cells * times), found.cells + 1)
    said = f"If the estimate stays where it is, about {needed} {found.unit} would decide it; there are {found.cells}."
    return said if found.unit == "pairs" else f"{said} {_seeds(claim, found, runs, distance / reach)}"


def _seeds(claim: Claim, found: Found, runs: pd.DataFrame, shrink: float) -> str:
    """shrink: what part of its reach the interval may keep."""
    seeds = runs.groupby("configuration").size()
    if seeds.max() < 2:
        return "Each has one seed, so what seeds would add is not known."
    own = examine(claim, runs.assign(stratum=runs["configuration"])).interval
    share = min(1.0, ((own.high - own.low) / (found.interval.high - found.interval.low)) ** 2)
    if shrink**2 <= 1 - share:
        return f"More seeds alone would not: they make {share:.0%} of its variance."
    return f"Or {math.ceil(seeds.median() * share / (shrink**2 - 1 + share)) + 1} seeds of each in place of {seeds.median():g}."


def _short(claim: Claim, interval: Estimate) -> tuple[float, float]:
    """How far the estimate lies from the nearest margin, and how far its interval reaches that way."""
    low, high = claim.region
    value = interval.value
    nearest = min((bound for bound in (low, high) if math.isfinite(bound)), key=lambda bound: abs(value - bound))
    both = low < value < high and math.isfinite(low) and math.isfinite(high)
    ends = interval.narrow if both else (interval.low, interval.high)
    return abs(value - nearest), ends[1] - value if nearest > value else value - ends[0]
