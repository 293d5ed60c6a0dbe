"""Verbs on a cluster that `ray up` made: the same commands, on its head, over SSH; a run becomes a Ray job there."""

import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from parrots import keys
from parrots.store import READ, Store, checked
from sweeps import token
from sweeps.devices import NUMBER
from sweeps.narrow import Narrowing
from sweeps.say import out
from sweeps.spec import Sweep, find
from sweeps.verbs.options import again, results_option

RESULTS = "/shared/results"
"""On the cluster; $PARROTS_RESULTS there says another."""
ENTER = "if [ -d ~/parrots/.venv ]; then . ~/parrots/.venv/bin/activate; fi; export RAY_AUTH_MODE=token"
THERE = f"cd ~/parrots || exit 1; {ENTER}"
MANIFEST = "submitted.json"
"""In the project's folder there: what `parrots run` was asked, expanded here."""
JOB = "~/.parrots-job"
"""A file there with the id of the last job."""
SERVER = "http://127.0.0.1:8265"
LOGS = (
    f"id=$(tail -n 1 {JOB} 2>/dev/null) || {{ echo 'error: nothing was sent to this cluster yet'; exit 1; }}; "
    f'ray job status --address {SERVER} $id >/dev/null 2>&1 || {{ echo "error: Ray was started anew after $id, and has '
    f'nothing of its log; parrots status --cluster tells how far it came"; exit 1; }}; ray job logs --address {SERVER} $id'
)
JOBS = ("run", "retry")
"""Verbs that go on when this machine sleeps."""
NARROWING = ("--scale", "--set", "--where", "--seeds", "--max-trials")
"""Options of `run` that its manifest has obeyed already."""


def remotely(context: click.Context, _: click.Parameter, file: Path | None) -> None:
    """Send the command line to the head instead of obeying it, and end with its exit code."""
    if not file or context.resilient_parsing:
        return
    well_formed(file)
    verb, words = str(context.info_name), without(context.find_root().obj or sys.argv[1:], "--cluster")
    if words[words.index(verb) + 1 :] == [] and verb == "logs":
        context.exit(execute(file, LOGS))
    given = context.command.make_context(verb, words[words.index(verb) + 1 :], parent=context.parent)
    check(given)
    if verb == "run":
        found, words = asked(given, words, file)
        context.exit(submit(file, words, given, found))
    words = [*words, "--ray", "auto"] if verb == "doctor" else words
    context.exit(submit(file, words, given) if verb in JOBS else execute(file, parrots(words)))


def well_formed(file: Path) -> None:
    """ValueError, before Ray meets it, for a file that is not YAML or none of a cluster."""
    import yaml

    try:
        said = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: not YAML ({' '.join(str(error).split())})") from error
    wanted = ("cluster_name", "provider", "auth")
    if absent := [name for name in wanted if not isinstance(said, dict) or name not in said]:
        raise ValueError(f"{file}: not a file for `ray up`, which says {', '.join(absent)}; cluster.yaml is one")


def without(words: Sequence[str], option: str) -> list[str]:
    """A command line but for an option and its value."""
    kept, after = [], False
    for word in words:
        if not after and word != option and not word.startswith(f"{option}="):
            kept.append(word)
        after = word == option
    return kept


def check(given: click.Context) -> None:
    """ValueError for files that are not there, results that each machine would look for in its own place, secrets in a job."""
    results = given.params["results"]
    if given.params.get("notify") and given.get_parameter_source("notify") is ParameterSource.COMMANDLINE:
        raise ValueError("--notify: a job's command line is no place for a secret; on the cluster set $PARROTS_NOTIFY instead")
    price = given.params.get("price")
    if price and not NUMBER.fullmatch(price) and (Path(price).is_absolute() or not Path(price).exists()):
        raise ValueError(f"--price {price}: with --cluster a number, or a table in this folder, which is brought there")
    if given.get_parameter_source("results") is ParameterSource.COMMANDLINE and not results.is_absolute():
        raise ValueError(f"--results {results}: with --cluster name a folder that all its machines share, as {RESULTS}")


def asked(given: click.Context, words: Sequence[str], file: Path) -> tuple[Sweep, list[str]]:
    """The sweep of a `run`, expanded and narrowed here, and the command line that runs its manifest there.

    What is wrong with the document or the options is so told here and now, not in the log of a job.
    """
    of = given.params
    narrowing = Narrowing(of["axes"], of["where"], of["seeds"], of["max_trials"])
    found = narrowing.of(find(of["sweep"], of["scale"]))
    rest = reduce(without, NARROWING, list(words))
    rest[rest.index(of["sweep"])] = MANIFEST
    store = of["store"] if given.get_parameter_source("store") is ParameterSource.COMMANDLINE else None
    command = f"{again(of['sweep'], of['scale'], Path('results'), narrowing, store=store)} --cluster {shlex.quote(str(file))}"
    return found, [*rest, "--command", command]


cluster_option: Callable[[Any], Any] = click.option(
    "--cluster",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    is_eager=True,
    expose_value=False,
    callback=remotely,
    help="Do it on the cluster that `ray up FILE` made.",
)


def ray(verb: str, *words: str) -> int:
    """One of Ray's commands, from the environment that runs this one; returns its exit code.

    ValueError where Ray cannot find the cluster, in the last line of what it says then.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", verb, *words]
    done = subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False)  # nosec B603 # no shell here
    if "Traceback" in done.stderr:
        kind, _, why = done.stderr.strip().splitlines()[-1].partition(": ")
        raise ValueError(f"{why or kind}; `ray up FILE` brings a cluster up")
    sys.stderr.write(done.stderr)
    return done.returncode


def execute(file: Path, command: str) -> int:
    """Run a shell command in the project's folder on the head; returns 0, or 1 if it failed or the head wasn't reached."""
    return ray("exec", "--disable-usage-stats", str(file), f"bash -lc {shlex.quote(f'{THERE}; {command}')}")


def parrots(words: Sequence[str]) -> str:
    """The command there, whose results go where the machines share files unless it says otherwise."""
    return f"PARROTS_RESULTS=${{PARROTS_RESULTS:-{RESULTS}}} python -m sweeps.cli {shlex.join(words)}"


def submit(file: Path, words: Sequence[str], given: click.Context, found: Sweep | None = None) -> int:
    """Bring this folder's code and the manifest there and start a Ray job, which goes on when this machine sleeps.

    Not where a run is at work in these results: its job is the one that `parrots logs` tells of.

    Each process of the job, on whichever machine, has the code as it is now: Ray passes it round as the job's package.
    """
    named = given.get_parameter_source("results") is ParameterSource.COMMANDLINE
    lock = (shlex.quote(str(given.params["results"])) if named else f'"${{PARROTS_RESULTS:-{RESULTS}}}"') + "/.lock"
    busy = "echo 'error: a run is at work there; `parrots stop --cluster FILE` ends it'"
    held = f"flock --shared --nonblock --conflict-exit-code 75 {lock} true"
    if execute(file, f"[ ! -e {lock} ] || {held} || [ $? != 75 ] || {{ {busy}; exit 1; }}"):
        return 1
    with tempfile.TemporaryDirectory() as folder:
        sent = [("./", "~/parrots/")]
        if found:
            (manifest := Path(folder) / MANIFEST).write_text(found.text())
            sent.append((str(manifest), f"~/parrots/{MANIFEST}"))
        for source, target in sent:
            if ray("rsync-up", str(file), source, target):
                raise ValueError(f"{file}: {source} was not brought there; `ray up {file}` brings the cluster up")
    name = f"parrots-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    # with .git, from which records take their commit; Ray would leave it out
    excluded = "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES=.venv,__pycache__"
    package = shlex.quote(json.dumps({"excludes": [".venv", "/results"]}))
    run = shlex.quote(f"{ENTER}; export RAY_ADDRESS=auto; {parrots(words)}")
    options = f"--address {SERVER} --no-wait --submission-id {name} --working-dir . --runtime-env-json {package}"
    code = execute(file, f"{excluded} ray job submit {options} -- bash -lc {run} && echo {name} > {JOB}")
    if code == 0:
        out.print(
            f"job {name} runs there: `parrots status --cluster {file}` tells how far it is, `parrots logs --cluster {file}` "
            f"what it says, `parrots pull {file}` brings it home"
        )
    return code


@click.command()
@click.argument("source", metavar="FILE|URI")
@results_option
@click.option("--from", "there", default=RESULTS, show_default=True, help="The results folder on the cluster.")
@click.option("--weights", is_flag=True, help="From a store the trained models too.")
def pull(source: str, results: Path, there: str, weights: bool) -> int:
    """Bring records and manifests home into the results folder here.

    Those of the cluster that `ray up FILE` made, with its reports; or those of a store, s3://BUCKET/FOLDER or gs://..., which
    needs no cluster.
    """
    if "://" in source:
        store = Store(checked(source), results)
        store.look()
        store.fetch(*READ, *(["weights"] if weights else []))
        return say_pulled(results)
    if not (file := Path(source)).is_file():
        raise ValueError(f"no file {source}; one that `ray up` was given, or the address of a store")
    well_formed(file)
    if weights:
        raise ValueError("--weights: from a store alone")
    results.mkdir(parents=True, exist_ok=True)
    for part in ("sweeps", "records", "evaluations", "failures", "reports"):
        (results / part).mkdir(exist_ok=True)
        if ray("rsync-down", str(file), f"{there.rstrip('/')}/{part}/", f"{results / part}/"):
            raise ValueError(
                f"{file}: {there}/{part} was not brought home; `parrots status --cluster {file}` says what is there"
            )
    return say_pulled(results)


def say_pulled(results: Path) -> int:
    """How much is here now."""
    out.print(f"{len(list((results / 'records').glob('*.parquet'))):,} records in {results}; `parrots report SWEEP` reads them")
    return 0


@click.command(name="token")
def make_token() -> int:
    """Make the token that Ray's servers ask for and the key of checkpoints, which `ray up` brings to a cluster."""
    keys.checkpoint_key()
    out.print(f"{token.ensure()}, mode 0600; set RAY_AUTH_MODE=token wherever Ray starts")
    out.print(f"{keys.folder() / 'checkpoint'}, mode 0600; what checkpoints are signed with")
    return 0
