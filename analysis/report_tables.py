"""The tables of a report: configurations, what was read off an axis, what a shift cost, and what is missing."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.claims import Claim
from analysis.contrast import field_of
from analysis.paper_figures import BOOKS
from analysis.predictors import axes
from analysis.rates import movement
from analysis.table import CEILINGS, several_rates
from analysis.threshold import readings, runs_of, subject
from analysis.verdicts import Decision, decide


def rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """A frame as a template likes it."""
    return frame.to_dict("records")


def by_configuration(chosen: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """A row a configuration: sizes, chosen learning rate, seeds, and each claimed metric's mean with its range over seeds."""
    table = []
    varied = {task: varying(runs) for task, runs in chosen.groupby("task", sort=False)} if "declared" in chosen else {}
    for _, runs in chosen.groupby("configuration", sort=False):
        first = runs.iloc[0]
        row = {k: first[k] for k in ("task", "label", "kind", "d_model", "d_ff", "n_experts", "N_total", "N_active", "lr")}
        declared = json.loads(first["declared"]) if varied else {}
        for field in varied.get(first["task"], ()):
            row[field.rpartition(".")[2]] = "" if (value := field_of(declared, field)) is None else value
        row["seeds"] = len(runs)
        for metric in dict.fromkeys(c.measured for c in claims):
            if metric in runs and runs[metric].notna().any():
                row[metric] = runs[metric].mean()
                row[f"{metric} range"] = f"{number(runs[metric].min())} to {number(runs[metric].max())}"
                if (ceiling := CEILINGS.get(metric, "")) in runs and runs[ceiling].notna().any():
                    row[ceiling] = runs[ceiling].mean()
        table.append(row)
    return pd.DataFrame(table).dropna(axis=1, how="all")


def predictors(chosen: pd.DataFrame, claims: Sequence[Claim]) -> Iterator[dict[str, Any]]:
    """For each claimed metric, which size predicts it: a ranking, what could not be tried, the kinds beside each other."""
    for claim in {(claim.task, claim.metric): claim for claim in claims if claim.kind != "contrast"}.values():
        try:
            found = axes(runs_of(claim, chosen), claim.metric, claim.form)
        except ValueError:  # the claim's own verdict says why
            continue
        table = found.ranking.rename(columns={"left_out": "left-out error", "AICc": "AICc, above the least"})
        table = table.rename(columns={"BIC": "BIC, above the least"})
        table["behind the best"] = [f"{one:.3f}" if i else "" for i, one in enumerate(table.pop("behind"))]
        order = ["predictor", "left-out error", "behind the best", "extrapolated", *(c for c in table if "above" in c)]
        ties = [found.tied] if found.tied else []
        apart = [f"{one:.3f} at equal {at}" for at, one in found.offsets.items()]
        yield {
            "title": f"{claim.task}: which size predicts {claim.metric}",
            "rows": rows(table[order]),
            "worth": found.worth,
            "tied": ties,
            "offsets": apart,
            "absent": list(found.absent.items()),
            "note": (
                f"{found.configurations} configurations, {found.runs} runs; errors are root mean squares {claim.scale}. "
                "Left out: each configuration by the fit to the others. Behind the best: how much larger that error is, with "
                f"the bootstrap's 95 % interval. Extrapolated: the largest quarter by {found.ordered_by} from the smaller. "
                "AICc and BIC take a configuration once and normal errors."
            ),
        }


def movements(chosen: pd.DataFrame, frame: pd.DataFrame) -> Iterator[str]:
    """For each task of which several learning rates were tried, how the best one moves, or why that is not known."""
    for task, runs in chosen.groupby("task", sort=False):
        tried = frame[frame["task"] == task]
        if several_rates(tried):
            try:
                said = str(movement(runs, tried))
            except ValueError as error:
                said = f"How the best learning rate moves with size is not known: {error}."
            yield f"{task}: {said}"


def with_books(chosen: pd.DataFrame, claims: Sequence[Claim]) -> pd.DataFrame:
    """The runs with the largest book that each model knows, where a claim reads one off: figure 4a's measure."""
    read = [claim for claim in claims if claim.threshold and claim.metric in BOOKS]
    known = [runs for claim in read if len(runs := runs_of(claim, chosen)) and claim.metric in runs]
    return pd.concat([chosen, *known[:1]]) if known else chosen


def varying(runs: pd.DataFrame) -> list[str]:
    """The fields of their task in which these runs differ, and those of their models that no column of every table shows."""
    said = [json.loads(text) for text in runs["declared"].unique()]
    fields = [*(f"task.{field}" for field in said[0]["task"]), "model.n_layers"]
    differ = [field for field in fields if len({json.dumps(field_of(one, field)) for one in said}) > 1]
    for field in ("model.ffn.top_k", "model.ffn.router"):  # dense models have none
        if len({field_of(one, field) for one in said} - {None}) > 1:
            differ.append(field)
    return differ


def edges(chosen: pd.DataFrame, frame: pd.DataFrame) -> Iterator[str]:
    """A sentence for each task of which some configurations want a learning rate beyond those tried."""
    for task, runs in chosen.groupby("task", sort=False):
        some = frame[frame["task"] == task]
        tried = some["lr"]
        for end, rate in (("highest", tried.max()), ("lowest", tried.min())):
            at = runs.loc[runs["lr"] == rate, "configuration"].nunique()
            if at and several_rates(some):
                yield f"{task}: {at} of {runs['configuration'].nunique()} chose the {end} rate tried, {rate:g}."


def sensitivity(decision: Decision, frame: pd.DataFrame) -> list[tuple[str, str]]:
    """The verdict had the learning rate been fixed for all configurations, for each rate tried: (rule, verdict)."""
    runs = subject(decision.claim, frame)
    runs = runs[runs["status"] == "done"]
    if not several_rates(runs):
        return []
    rates = sorted(runs["lr"].dropna().unique())
    fixed = [(lr, decide(decision.claim, runs[runs["lr"] == lr])) for lr in rates]
    return [(f"lr = {lr:g} for all", f"{d.verdict}; {d.evidence}") for lr, d in fixed]


def thresholds(chosen: pd.DataFrame, claims: Sequence[Claim]) -> Iterator[dict[str, Any]]:
    """A table for each claim whose metric is read off an axis: what was read, and where it could not be."""
    for claim in {claim.metric: claim for claim in claims if claim.threshold}.values():
        assert claim.threshold
        read = readings(subject(claim, chosen), claim.threshold)
        if len(read):
            value = read["value"].astype(object).where(read["censored"] == "", read["censored"])
            shown = read[["label", "N_total", "N_active", "seed"]].assign(
                **{claim.metric: value, "misses below": read["failed_below"]}
            )
            note = (
                f"{claim.threshold.axis} at which {claim.threshold.metric} reaches {claim.threshold.target:g} "
                f"({claim.threshold.reading}). "
                "One above or below all that were tried enters the fit as that bound (Tobit). "
                "Misses below: smaller values tried that did not reach it."
            )
            yield {"title": f"{claim.task}: {claim.metric}, read off {claim.threshold.axis}", "rows": rows(shown), "note": note}


def capacities(chosen: pd.DataFrame, claims: Sequence[Claim]) -> Iterator[dict[str, Any]]:
    """What each model remembers by every measure that is claimed of a phone-book, side by side; the mean over seeds."""
    about = [claim for claim in claims if claim.task == "phonebook"]
    if len({claim.metric for claim in about}) < 2:
        return
    parts = []
    for claim in about:
        runs = runs_of(claim, chosen)
        if claim.metric not in runs or runs.empty:
            continue
        means = runs.groupby(["label", "N_total", "N_active"], sort=False)[claim.metric].mean()
        parts.append(means)
        if claim.metric == "memory_bits":
            for size in ("N_total", "N_active"):
                parts.append((means / means.index.get_level_values(size)).rename(f"bits per {size}"))
            parts.append(runs.groupby(["label", "N_total", "N_active"], sort=False).apply(interval).rename("95 % interval"))
            parts.append(runs.groupby(["label", "N_total", "N_active"], sort=False)["exposures"].mean())
    if parts:
        table = pd.concat({part.name: part for part in parts}, axis=1).reset_index().sort_values("N_total")
        note = (
            "Exposures: how often each entry of the book in which bits were counted was a training example. The interval is "
            "that of the bits over the book's entries, for these weights; it says nothing of other seeds. Bits are "
            "log2 M!/(M - N)!, N draws out of M in an order, less N times the negative log-likelihood. Taking names as a set, "
            "log2 C(M, N), would give log2 N! fewer, though the likelihood pays for the order: log2 N an entry."
        )
        yield {"title": "phonebook: capacity by each measure", "rows": rows(table), "note": note}


def interval(runs: pd.DataFrame) -> str:
    """The 95 % interval of the bits that these runs hold on average."""
    middle, half = runs["memory_bits"].mean(), 1.96 * np.sqrt((runs["memory_bits.stderr"] ** 2).sum()) / len(runs)
    return f"{number(middle - half)} to {number(middle + half)}"


def shifts(chosen: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Each trained model on what it was not tested on in its trial: score, and its distance from the trial's own test."""
    for task, runs in chosen.groupby("task", sort=False) if "declared" in chosen else ():
        for metric in [name for name in runs if "/" in name and "." not in name and runs[name].notna().any()]:
            own = metric.rpartition("/")[2]
            table = []
            for _, some in runs[runs[metric].notna()].groupby("configuration", sort=False):
                gap = (some[metric] - some[own]).mean()
                half = 1.96 * np.sqrt((some[f"{metric}.stderr"] ** 2 + some[f"{own}.stderr"] ** 2).sum()) / len(some)
                row = {"model": some["label"].iloc[0], "seeds": len(some), own: some[own].mean(), metric: some[metric].mean()}
                table.append(row | {"difference": gap, "95 % interval": f"{number(gap - half)} to {number(gap + half)}"})
            note = "The interval is that of the test examples, for these weights; it says nothing of other seeds."
            yield {"title": f"{task}: {metric}", "rows": table, "note": note}


def number(value: Any) -> str:
    """A value as a table shows it: counts with separators, measures to three digits, text as it is."""
    if isinstance(value, float):
        if math.isnan(value):
            return "none"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) or re.fullmatch(r"int\d+", type(value).__name__):
        return f"{value:,}"
    return str(value)
