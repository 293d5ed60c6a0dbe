"""What is missing for no fault of the model's, at its worst and at its best: what a verdict would be at either.

Out of memory, infrastructure, bugs and a rule that ends trials early leave a hole, not a zero (a record says which). A
configuration of which every trial diverged is missing too, and not at random. A verdict that the holes could turn over
says so.
"""

from collections.abc import Iterator, Sequence
from itertools import product

import pandas as pd

from analysis.claims import Claim
from analysis.threshold import subject
from analysis.verdicts import Decision, decide

LOST = ("oom", "failed", "stopped")


def lost(frame: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """Trials without a result that would have been among the chosen: a configuration's seeds, at its learning rate.

    Of a configuration without a chosen rate one trial a seed; those that diverged count there, for then all did.
    """
    rates = chosen.groupby("configuration")["lr"].first()
    at = frame["configuration"].map(rates)
    hole = frame["status"].isin(LOST) & (at.isna() | (frame["lr"] == at) | frame["lr"].isna())
    hole |= (frame["status"] == "diverged") & ~frame["configuration"].isin(chosen["configuration"])
    seeds = set(zip(chosen["configuration"], chosen["seed"], strict=True))
    there = pd.Series([pair in seeds for pair in zip(frame["configuration"], frame["seed"], strict=True)], frame.index)
    return frame[hole & ~there].drop_duplicates(["configuration", "seed"])


def bounded(claim: Claim, frame: pd.DataFrame, chosen: pd.DataFrame) -> Iterator[tuple[str, Decision]]:
    """The decision with all holes of each kind filled by the worst and by the best value: what they are filled with, and it."""
    holes = subject(claim, lost(frame, chosen))
    measured = subject(claim, chosen).get(claim.measured)
    if holes.empty or measured is None or not measured.notna().any():
        return
    share = claim.form == "logistic" or claim.threshold is not None
    ends = (0.0, 1.0) if share else (float(measured.min()), float(measured.max()))
    kinds = list(holes["kind"].unique())
    for values in product(ends, repeat=len(kinds)):
        value = holes["kind"].map(dict(zip(kinds, values, strict=True))).astype(float)
        filled = {claim.measured: value, f"{claim.measured}.n": measured_n(claim, chosen)}
        said = " and ".join(
            f"{(holes['kind'] == kind).sum()} {kind} at {end:.3g}" for kind, end in zip(kinds, values, strict=True)
        )
        yield said, decide(claim, pd.concat([chosen, holes.assign(**filled)]))


def measured_n(claim: Claim, chosen: pd.DataFrame) -> float:
    """On how many trials a share is usually measured."""
    column = f"{claim.measured}.n"
    return float(chosen[column].median()) if column in chosen else float("nan")


def turned_over(decision: Decision, others: Sequence[Decision]) -> str:
    """What the holes mean for a verdict, in a sentence."""
    other = sorted({one.verdict for one in others} - {decision.verdict})
    if not others:
        return ""
    if not other:
        return f"What is missing could not change this: {decision.verdict} at its worst and at its best."
    return f"What is missing could change this: it would be {' or '.join(other)} at the worst or best values."
