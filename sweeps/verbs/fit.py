"""`parrots fit`: a law of the field through a table of runs, ours or anyone's."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from analysis.laws import LAWS
from sweeps.say import out, show
from sweeps.verbs.source import pairs, table_options

if TYPE_CHECKING:
    from analysis.regression import Fit


def huber_delta(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """A delta; `none` is infinite, which makes squares of all errors."""
    if value is None:
        return None
    try:
        delta = float("inf") if value == "none" else float(value)
    except ValueError:
        delta = 0.0
    if not delta > 0:
        raise click.BadParameter(f"{value!r} is neither a number above 0 nor `none`")
    return delta


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--form", "forms", multiple=True, required=True, type=click.Choice(list(LAWS)), help="Several are compared.")
@table_options
@click.option("--drop-highest-loss", "drop", type=click.IntRange(min=0), default=0, help="How many runs to leave out.")
@click.option("--cluster", default="", metavar="COLUMN", help="Runs alike in it are one configuration, resampled together.")
@click.option("--weight", type=click.Choice(["none", "n", "stderr"]), default="none", show_default=True)
@click.option("--huber", callback=huber_delta, metavar="DELTA", help="Of the log residuals, or `none`.  [default: the form's]")
@click.option("--fix", "fixed", multiple=True, callback=pairs, metavar="NAME=VALUE", help="Hold a parameter at a value.")
@click.option("--intervals", type=click.Choice(["bootstrap", "profile", "none"]), default="bootstrap", show_default=True)
@click.option("--resamples", type=click.IntRange(min=100), default=1000, show_default=True, help="Of whole configurations.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the resamples.")
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@click.option("--out", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder for a picture and the runs.")
def fit(
    file: Path,
    forms: tuple[str, ...],
    columns: dict[str, str],
    where: str,
    drop: int,
    huber: float | None,
    fixed: dict[str, str],
    as_json: bool,
    folder: Path | None,
    **options: Any,
) -> None:
    """Fit scaling laws to FILE: CSV, TSV, Parquet or JSONL with a row a run, or a results folder of ours.

    N_total and N_active are parameters, D tokens, C FLOPs (each of D and C follows from the other), E experts, `loss` nats a
    token, `accuracy` a share, `accuracy.n` its count. --map says which columns those are.
    """
    from dataclasses import replace

    import analysis
    from analysis.regression import fit as fit_law

    held = {name: _number(name, text) for name, text in fixed.items()}
    frame = analysis.load(file, columns, where)
    laws = [LAWS[form] if huber is None else replace(LAWS[form], huber=huber) for form in dict.fromkeys(forms)]
    found = [fit_law(frame, law, drop_highest=drop, fixed=held, **options) for law in laws]
    files = []
    if folder is not None:
        from analysis.law_report import write

        files = [path for one in found for path in write(one, folder)]
    if as_json:
        _print_json(found, frame.attrs["derived"])
        return
    for one in found:
        _print(one, frame.attrs["derived"])
    if len(found) > 1:
        _print_comparison(found)
    for path in files:
        out.print(f"wrote {path}")


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"--fix {name}={text}: not a number") from None


def _print_json(found: "list[Fit]", derived: list[str]) -> None:
    from analysis.law_report import said

    told = [
        {**said(one), "derived": [way for way in derived if way.split(" = ")[0] in one.points.columns.values()]}
        for one in found
    ]
    click.echo(json.dumps(told[0] if len(told) == 1 else {"fits": told}, indent=2, allow_nan=False))


def _print(found: "Fit", derived: list[str]) -> None:
    """One fit as a table and a few sentences."""
    from analysis.law_report import inside, scale

    if found.first is not None:
        _print(found.first, derived)
    law, at = found.law, found.points
    out.print(f"{law.name}: {law.formula}")
    table = Table(box=None, header_style="bold")
    table.add_column("parameter", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    table.add_column("")
    for name, value in found.values.items():
        low, high = found.intervals[name]
        note = "held" if name in found.fixed else "not told by these runs" if name in found.identifiability.untold else ""
        if share := found.at_bound.get(name):
            note = "at its bound" if share == 1 else f"at its bound in {share:.1%} of the resamples"
        ends = "" if low is None and high is None else f"{_end(low)} to {_end(high)}"
        table.add_row(name, f"{value:.5g}", ends, note)
    show(table)
    taken = ", ".join(f"{name} = {column}" for name, column in at.columns.items() if name != column)
    out.print(
        f"{len(at.y_R)} runs of {at.configurations} configurations{f' ({taken})' if taken else ''}; intervals: {found.method}"
    )
    for why, count in at.left_out.items():
        out.print(f"left out {count}: {why}")
    if used := [way for way in derived if way.split(" = ")[0] in at.columns.values()]:
        out.print(f"derived: {', '.join(used)}")
    agree = "" if found.searches_agree else f"; L-BFGS found {found.by_lbfgs:.6g}: look for a second optimum"
    out.print(f"objective {found.objective:.6g}{agree}; rmse {found.rmse:.3g} of {scale(found)}")
    out.print(f"held out: {_held_out(found)}")
    out.print(_told(found))
    for name, value in law.null.items():
        answer = {True: "holds", False: "does not hold", None: "is too open to say whether it holds"}[inside(found, name)]
        out.print(f"{name} = {value:g}: the interval {answer} it")
    out.print(f"source: {law.source}")


def _end(end: float | None) -> str:
    return "open" if end is None else f"{end:.4g}"


def _held_out(found: "Fit") -> str:
    """The errors on runs that were not fitted."""
    held = found.held_out
    folds = "too few configurations" if held.folds is None else f"rmse {held.folds:.3g}"
    largest = "too few smaller ones" if held.extrapolated is None else f"rmse {held.extrapolated:.3g}"
    return f"configurations left out {folds}; the largest fifth by {held.ordered_by} from the smaller {largest}"


def _told(found: "Fit") -> str:
    """What the runs can tell about the parameters one by one."""
    told = found.identifiability
    flat = (
        "; ".join(f"{', '.join(names)} trade against each other" for names in told.together)
        or "each parameter is told by itself"
    )
    return f"condition number {told.condition:.3g}: {flat}"


def _print_comparison(found: "list[Fit]") -> None:
    table = Table(
        title="Side by side, errors on runs that were not fitted", title_justify="left", box=None, header_style="bold"
    )
    for name in ("form", "parameters", "rmse", "left out", "extrapolated", "errors of"):
        table.add_column(name, justify="left" if name in ("form", "errors of") else "right")
    from analysis.law_report import scale

    for one in found:
        held = [("-" if value is None else f"{value:.3g}") for value in (one.held_out.folds, one.held_out.extrapolated)]
        table.add_row(one.law.name, str(len(one.law.parameters)), f"{one.rmse:.3g}", *held, scale(one))
    show(table)
