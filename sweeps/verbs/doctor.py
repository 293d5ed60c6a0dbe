"""`parrots doctor`: what of this machine, or of a cluster, would stop a run."""

from itertools import chain
from pathlib import Path

import click

from sweeps.how import store_option
from sweeps.say import out
from sweeps.verbs.options import results_option


@click.command()
@results_option
@click.option(
    "--ray",
    "address",
    default="",
    envvar="RAY_ADDRESS",
    metavar="ADDRESS",
    help="Every node of this cluster too, which is $RAY_ADDRESS unless named; `local` starts one here.",
)
@store_option
def doctor(results: Path, address: str, store: str | None) -> int:
    """Look at what a run needs, each failure with its remedy. Exit code 1 if a run would fail."""
    from sweeps.doctor import checks
    from sweeps.doctor_nodes import nodes

    found = []
    for check in chain(checks(results, store), nodes(address, results, store) if address else ()):
        found.append(check)
        mark = {"ok": "ok   ", "note": "note ", "fails": "FAILS"}[check.state]
        out.print(f"{mark}  {check.what}: {check.found}" + (f"; {check.remedy}" if check.remedy else ""))
    failing = sum(check.state == "fails" for check in found)
    out.print(f"{failing} of {len(found)} would stop a run" if failing else f"{len(found)} looked at, nothing stops a run")
    return 1 if failing else 0
