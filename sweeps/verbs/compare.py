"""`parrots compare`: which size predicts a metric. `parrots claims`: what was declared, held against runs."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from analysis.paper_claims import PAPERS
from sweeps.say import out, show
from sweeps.verbs.options import results_option
from sweeps.verbs.source import runs_of, table_options

if TYPE_CHECKING:
    from analysis.predictors import Axes
    from analysis.verdicts import Decision

FORMS = ("power", "logistic", "linear")


@click.command()
@click.argument("source", metavar="SWEEP|FILE|FOLDER")
@click.option("--metric", required=True, help="The column that sizes are to predict.")
@click.option("--form", type=click.Choice(FORMS), help="What is linear in log size.  [default: logistic for shares, or power]")
@table_options
@results_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def compare(
    source: str, metric: str, form: str | None, columns: dict[str, str], where: str, results: Path, as_json: bool
) -> None:
    """Tell which size predicts a metric: N_total, N_active, both, perplexity, width, FLOPs or tokens a parameter.

    Of a sweep's records, a results folder or any table (CSV, TSV, Parquet, JSONL) with N_total and N_active. Errors on
    configurations left out and on the largest by the smaller, AICc and BIC, the worth of an inactive parameter, and MoE
    beside dense models at equal size.
    """
    from analysis.predictors import axes
    from analysis.runs import check_units, no_column
    from analysis.table import with_best_lr

    frame, _ = runs_of(source, columns, where, results)
    if metric not in frame:
        raise ValueError(f"--metric {metric}: {no_column(metric, frame)}")
    if frame[metric].dtype.kind not in "fiu":
        raise ValueError(f"--metric {metric}: a column of numbers is compared, and in this one is {frame[metric].iloc[0]!r}")
    chosen = with_best_lr(frame)
    chosen = chosen[chosen[metric].notna()]
    if chosen.empty:
        raise ValueError(f"--metric {metric}: no finished run has a value of it")
    check_units(chosen, [metric])
    if chosen["task"].nunique() > 1:
        tasks = ", ".join(map(str, chosen["task"].unique()))
        raise ValueError(f"{metric} is of several tasks, {tasks}; take one with --filter 'task == \"NAME\"'")
    form = form or ("logistic" if chosen[metric].between(0, 1).all() else "power")
    found = axes(chosen, metric, form)
    if as_json:
        click.echo(json.dumps({"metric": metric, "form": form, **plain(found)}, indent=2, allow_nan=False))
    else:
        _print(found, metric, form)


def plain(found: "Axes") -> dict[str, Any]:
    """All of it as numbers and text; what is not known is null."""
    ranking = [
        {
            "predictor": row["predictor"],
            **{name: _number(row[name]) for name in ("left_out", "extrapolated", "AICc", "BIC")},
            "behind": [_number(row["behind"].value), _number(row["behind"].low), _number(row["behind"].high)],
        }
        for row in found.ranking.to_dict("records")
    ]
    return {
        "configurations": found.configurations,
        "runs": found.runs,
        "ranking": ranking,
        "not_tried": found.absent,
        "extrapolated_by": found.ordered_by,
        "rate": None
        if found.rate is None
        else {
            "r": found.rate.value,
            "bootstrap": [found.rate.low, found.rate.high],
            "profile": list(found.profile),
            "inverse": _inverse(found.rate.value),
            "inverse_profile": [_inverse(found.profile[1]), _inverse(found.profile[0])],
        },
        "worth": found.worth,
        "undecided": found.tied,
        "moe_less_dense": {at: [one.value, one.low, one.high] for at, one in found.offsets.items()},
        "moe_less_dense_unknown": found.apart,
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _inverse(rate: float) -> float | None:
    return 1 / rate if rate else None


def _print(found: "Axes", metric: str, form: str) -> None:
    table = Table(
        title=f"{metric} ({form}): {found.configurations} configurations, {found.runs} runs",
        title_justify="left",
        box=None,
        header_style="bold",
    )
    for name in ("predictor", "left out", "behind the best", "extrapolated", "AICc", "BIC"):
        table.add_column(name, justify="left" if name == "predictor" else "right", no_wrap=name == "predictor")
    for i, row in enumerate(found.ranking.to_dict("records")):
        cells = ["-" if (one := _number(row[name])) is None else f"{one:.3g}" for name in ("extrapolated", "AICc", "BIC")]
        table.add_row(row["predictor"], f"{row['left_out']:.3g}", f"{row['behind']:.3f}" if i else "", *cells)
    show(table)
    out.print(f"extrapolated: the largest quarter by {found.ordered_by} from the smaller; AICc and BIC: above the least")
    for name, why in found.absent.items():
        out.print(f"not tried: {name}: {why}")
    out.print(found.worth)
    if found.tied:
        out.print(f"undecided: {found.tied}")
    for at, distance in found.offsets.items():
        out.print(f"MoE less dense at equal {at}: {distance}")
    for at, why in found.apart.items():
        out.print(f"MoE beside dense at equal {at}: {why}")


@click.command()
@click.argument("source", metavar="SWEEP|FILE|FOLDER")
@click.option(
    "--of",
    "declared",
    multiple=True,
    metavar="NAME",
    help="Claims of parrots, sparsity or a sweep.  [default: its own]",
)
@table_options
@results_option
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON.")
def claims(source: str, declared: tuple[str, ...], columns: dict[str, str], where: str, results: Path, as_json: bool) -> None:
    """Hold declared claims against runs: supported, contradicted or undecided, and what more would decide.

    Of a sweep's records, a results folder or any table. The claims of "Mixture of Parrots" and of "Optimal Sparsity" are
    declared as parrots and sparsity; those of one table or sweep are decided together (Holm, 5 %).
    """
    from analysis.table import with_best_lr
    from analysis.verdicts import family

    frame, own = runs_of(source, columns, where, results)
    asked = [claim for name in declared for claim in claims_of(name, results)] or list(own)
    if not asked:
        raise ValueError(f"{source} declares no claims; name some with --of {'|'.join(PAPERS)} or --of SWEEP")
    decisions = family(asked, with_best_lr(frame), frame[frame["status"] == "done"])
    if as_json:
        click.echo(json.dumps([said(one) for one in decisions], indent=2, allow_nan=False))
        return
    for one in decisions:
        out.print(one.headline, style="bold")
        out.print(f"  {one.evidence} {one.family}".rstrip())
        if one.more:
            out.print(f"  {one.more}")


def claims_of(name: str, results: Path) -> tuple[Any, ...]:
    """The claims of a paper or of a sweep."""
    from sweeps.spec import load

    return PAPERS[name] if name in PAPERS else load(name, results).claims


def said(one: "Decision") -> dict[str, Any]:
    """A decision as plain numbers and text."""
    found = one.found
    return {
        "claim": one.claim.name,
        "statement": one.claim.statement,
        "test": one.claim.test,
        "verdict": one.verdict,
        "value": None if found is None else _number(found.interval.value),
        "interval": None if found is None else [_number(found.interval.low), _number(found.interval.high)],
        "cells": None if found is None else found.cells,
        "unit": None if found is None else found.unit,
        "evidence": one.evidence,
        "more": one.more,
        "family": one.family,
    }
