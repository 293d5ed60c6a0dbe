"""The command `parrots`. Verbs import what is heavy when they are called, so that a plan never waits for torch or ray."""

import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from parrots.models.config import GROUPS
from parrots.provenance import commit, processor, versions
from sweeps import ledger
from sweeps.course import fetched, interrupt, readable, run_found
from sweeps.guard import LOOPBACK, free, lock, unlocked, writable
from sweeps.how import How, how_options
from sweeps.narrow import Narrowing
from sweeps.notify import Teller
from sweeps.say import count_published, out, say_theory, show, visible
from sweeps.spec import find
from sweeps.verbs import bench, plan
from sweeps.verbs.board import board
from sweeps.verbs.cluster import cluster_option, make_token, pull
from sweeps.verbs.compare import claims, compare
from sweeps.verbs.diff import diff
from sweeps.verbs.doctor import doctor
from sweeps.verbs.export import export
from sweeps.verbs.fit import fit
from sweeps.verbs.gc import gc
from sweeps.verbs.imported import import_model
from sweeps.verbs.ingest import ingest
from sweeps.verbs.mlflow import database, environment, mlflow, server
from sweeps.verbs.options import again, narrowing_options, notify_option, results_option, scale_option, sweep_argument
from sweeps.verbs.report import report
from sweeps.verbs.status import retry, status, stop
from sweeps.verbs.train import train
from sweeps.verbs.trial import evaluate, logs, reproduce, samples


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def cli() -> None:
    """Scaling sweeps for dense and mixture-of-experts transformers: plan, run, compare, decide.

    SWEEP is the name of one that comes with the package (quickstart) or a path to a file of your own.
    """


cli.add_command(plan.plan)
cli.add_command(bench.bench)
for verb in (train, logs, samples, evaluate, reproduce, status, retry, stop, diff):
    cli.add_command(verb)
for verb in (ingest, gc, doctor, mlflow, board, pull, make_token):
    cli.add_command(verb)


@cli.command()
@click.argument("sweep", required=False)
@scale_option
@narrowing_options
@click.option("--paper", is_flag=True, help="The published models instead, beside the sizes that the papers print.")
def count(sweep: str | None, scale: str | None, narrowing: Narrowing, paper: bool) -> None:
    """Show the parameters of each model of SWEEP by group, and its FLOPs a token."""
    if paper:
        count_published()
        return
    if sweep is None:
        raise ValueError("name a sweep, or --paper")
    found = narrowing.of(find(sweep, scale))
    table = Table(title=found.title, title_justify="left", box=None, header_style="bold")
    table.add_column("task", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for name in (*GROUPS, "N_total", "N_active", "FLOPs/token"):
        table.add_column(name, justify="right")
    for trial in {(cell.trial.task.kind, cell.trial.model): cell.trial for cell in found.cells}.values():
        total = asdict(trial.total)
        groups = (f"{total[group]:,}" for group in GROUPS)
        sizes = (f"{trial.total.N:,}", f"{trial.active.N:,}", f"{trial.flops / trial.tokens:.2e}")
        table.add_row(trial.task.kind, trial.model.name, *groups, *sizes)
    show(table)
    out.print("N_total and N_active leave out embedding and head. FLOPs are those of a training step, forward and backward.")


@cli.command()
@sweep_argument
@scale_option
@results_option
@narrowing_options
@how_options
@notify_option
@click.option("--command", default="", hidden=True, help="What whoever wants to run it again should type.")
def run(
    sweep: str,
    scale: str | None,
    results: Path,
    narrowing: Narrowing,
    how: How,
    notify: tuple[str, ...],
    command: str,
) -> int:
    """Run the cells of SWEEP that have no record yet, mirror them to MLflow and write the report."""
    signal.signal(signal.SIGTERM, interrupt)
    found = narrowing.of(find(sweep, scale))
    tell = Teller(found.name, notify)
    readable(found, results)
    writable(results)
    found = found.model_copy(update={"command": command or again(sweep, scale, results, narrowing, store=how.store)})
    with lock(results):
        if how.store:
            fetched(how, results)
            readable(found, results)
        return run_found(found, results, how, tell=tell)


@cli.command()
@results_option
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of every vector, graph and router drawn."
)
@click.option(
    "--scale", type=click.Choice(["full", "smoke"]), default="full", show_default=True, help="smoke: seconds, and says less."
)
def theory(results: Path, seed: int, scale: str) -> int:
    """Build the weights of the theorems of "Mixture of Parrots" and check them: a minute or two, and a report.

    Exit code 1 if something that ought to hold does not; a bound of a proof that is only looked at may break and is told.
    """
    from parrots.theory.check import SMOKE, Sizes
    from parrots.theory.theorems import THEOREMS

    writable(results)
    sizes, began, parts = (SMOKE if scale == "smoke" else Sizes()), time.perf_counter(), []
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=out, transient=True) as progress:
        task = progress.add_task("theorems", total=len(THEOREMS))
        for theorem in THEOREMS:
            parts.append(theorem(sizes, seed))
            progress.advance(task)
            states = Counter(finding.holds for finding in parts[-1].findings)
            told = ", ".join(f"{count} {state}" for state, count in states.items())
            out.print(f"{parts[-1].theorem:<12} {parts[-1].seconds:5.1f} s  {parts[-1].title}: {told}")
    words = ["parrots", "theory", "--seed", str(seed), *(["--scale", scale] if scale != "full" else [])]
    made_by = {"hardware": processor(), "commit": commit(), "versions": versions(), "seed": seed, "scale": scale}
    made_by["seconds"] = time.perf_counter() - began
    return say_theory([asdict(part) for part in parts], results, shlex.join(words), made_by)


@cli.command()
@click.argument("sweep", required=False)
@results_option
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
def ui(sweep: str | None, results: Path, port: int) -> None:
    """Open MLflow on the loopback address over the results, and print where SWEEP's runs are compared.

    Where $MLFLOW_TRACKING_URI is a server's address, runs are compared there, and none is started.
    """
    from sweeps.tracking import Store, answering, store_uri

    if sweep and Path(sweep).suffix in (".py", ".json"):
        sweep = Path(sweep).stem
    own, uri = results / "mlflow.db", store_uri(results)
    if not own.exists() and "MLFLOW_TRACKING_URI" not in os.environ:
        raise ValueError(f"no MLflow store in {results}; `parrots run SWEEP` makes one")
    there = urlsplit(uri)
    served = there.scheme in ("http", "https")
    address = f"{there.scheme}://{there.netloc.rpartition('@')[2]}{there.path.rstrip('/')}"
    base = address if served else f"http://{LOOPBACK}:{port}"
    if not served:
        database(uri, "MLFLOW_TRACKING_URI")
        free(port)
        unlocked(own)
    with answering(uri):
        store = Store(results)
        links = {name: store.compare_links(name, base) for name in ([sweep] if sweep else ledger.sweeps(results))}
    if sweep and not links[sweep]:
        raise ValueError(f"no runs of {sweep} in {results}; there are {', '.join(ledger.sweeps(results)) or 'none'}")
    for name, pages in links.items():
        for shown, link in pages.items():
            out.print(f"compare {name}, {shown}: {link}")
    if served:
        return
    out.print(f"MLflow is at {base} until Ctrl-C")
    command = server(results, LOOPBACK, port, names=[])
    given = environment({"MLFLOW_BACKEND_STORE_URI": uri})
    os.execve(sys.executable, command, given)  # nosec B606 # words of ours, and no shell


cli.add_command(fit)
cli.add_command(compare)
cli.add_command(claims)
cli.add_command(export)
cli.add_command(import_model)
cli.add_command(report)
for verb in (run, status, logs, retry, stop, report, doctor):
    cluster_option(verb)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code: 0, 1 if a cell failed or a theorem did, 2 for bad input, 130 after Ctrl-C."""
    try:
        return cli.main(argv, prog_name="parrots", standalone_mode=False, obj=argv) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 2
    except click.exceptions.NoSuchCommand as error:
        problem = f"no command {error.command_name!r}; there are {', '.join(sorted(cli.commands))}"
    except click.ClickException as error:
        problem = error.format_message()
    except ValueError as error:
        problem = str(error).splitlines()[0]
    except OSError as error:  # a full disk, a folder that is a file
        problem = " ".join(filter(None, (error.strerror or type(error).__name__, str(error.filename or ""))))
    except (KeyboardInterrupt, click.Abort) as error:
        why = f" ({error})" if str(error) else ""
        said = f"stopped{why}; finished records and checkpoints stay, and the next `parrots run` goes on from here"
        click.echo(said, err=True)
        return 130
    click.echo(f"error: {visible(problem)}", err=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
