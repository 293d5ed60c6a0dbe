"""Arguments and options that several verbs take."""

from pathlib import Path

import click

from parrots.provenance import cores

sweep_argument = click.argument("sweep")
scale_option = click.option("--scale", help="One of the sweep's scales.  [default: its first]")
slots_option = click.option("--slots", type=click.IntRange(min=1), default=cores, help="Trials at once.  [default: one a core]")
results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    default="results",
    envvar="PARROTS_RESULTS",
    show_default=True,
    help="Folder of records, reports and MLflow's store; also $PARROTS_RESULTS.",
)
