"""Verbs on a cluster that `ray up` made: the same commands, on its head, over SSH."""

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from parrots import keys
from sweeps import token
from sweeps.say import out
from sweeps.verbs.options import results_option

RESULTS = "/shared/results"
"""On the cluster; $PARROTS_RESULTS there says another."""
THERE = "cd ~/parrots && if [ -d .venv ]; then . .venv/bin/activate; fi && export RAY_AUTH_MODE=token"


def remotely(context: click.Context, _: click.Parameter, file: Path | None) -> None:
    """Send the command line to the head instead of obeying it, and end with its exit code."""
    if not file or context.resilient_parsing:
        return
    words = without(context.find_root().obj or sys.argv[1:], "--cluster")
    context.exit(submit(file, words) if context.info_name == "run" else execute(file, parrots(words)))


def without(words: Sequence[str], option: str) -> list[str]:
    """A command line but for an option and its value."""
    kept, after = [], False
    for word in words:
        if not after and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        after = word == option
    return kept


cluster_option: Callable[[Any], Any] = click.option(
    "--cluster",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=remotely,
    help="Do it on the cluster that `ray up FILE` made.",
)


def ray(*words: str) -> subprocess.CompletedProcess[str]:
    """One of Ray's commands, from the environment that runs this one."""
    return subprocess.run([sys.executable, "-m", "ray.scripts.scripts", *words], text=True, check=False)


def execute(file: Path, command: str) -> int:
    """Run a shell command in the project's folder on the head; returns 0, or 1 if it failed or the head wasn't reached."""
    return ray("exec", "--disable-usage-stats", str(file), f"bash -lc {shlex.quote(f'{THERE} && {command}')}").returncode


def parrots(words: Sequence[str]) -> str:
    """The command there, whose results go where the machines share files unless it says otherwise."""
    return f"PARROTS_RESULTS=${{PARROTS_RESULTS:-{RESULTS}}} parrots {shlex.join(words)}"


def submit(file: Path, words: Sequence[str]) -> int:
    """Bring this folder's code there and start the run as a Ray job, which goes on when this machine sleeps."""
    if ray("rsync-up", str(file), "./", "~/parrots/").returncode:
        raise ValueError(f"{file}: the code was not brought there; `ray up {file}` brings the cluster up")
    run = f"{THERE} && export RAY_ADDRESS=auto && {parrots(words)}"
    code = execute(file, f"ray job submit --address http://127.0.0.1:8265 --no-wait -- bash -c {shlex.quote(run)}")
    if code == 0:
        out.print(f"it runs there; `parrots status --cluster {file}` tells how far it is, `parrots pull {file}` brings it home")
    return code


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@results_option
@click.option("--from", "there", default=RESULTS, show_default=True, help="The results folder on the cluster.")
def pull(file: Path, results: Path, there: str) -> int:
    """Bring records, manifests and reports of the cluster that `ray up FILE` made home into the results folder here."""
    results.mkdir(parents=True, exist_ok=True)
    for part in ("sweeps", "records", "evaluations", "failures", "reports"):
        (results / part).mkdir(exist_ok=True)
        if ray("rsync-down", str(file), f"{there.rstrip('/')}/{part}/", f"{results / part}/").returncode:
            raise ValueError(
                f"{file}: {there}/{part} was not brought home; `parrots status --cluster {file}` says what is there"
            )
    out.print(f"{len(list((results / 'records').glob('*.parquet'))):,} records in {results}; `parrots report SWEEP` reads them")
    return 0


@click.command(name="token")
def make_token() -> int:
    """Make the token that Ray's servers ask for and the key of checkpoints, which `ray up` brings to a cluster."""
    keys.checkpoint_key()
    out.print(f"{token.ensure()}, mode 0600; set RAY_AUTH_MODE=token wherever Ray starts")
    out.print(f"{keys.folder() / 'checkpoint'}, mode 0600; what checkpoints are signed with")
    return 0
