"""Verbs about one trial: how it went, what it answers, what it scores elsewhere, and how to run it again."""

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from parrots.frozen import canonical, one_line
from parrots.spec import Evaluation, Trial
from parrots.tasks.task import Split
from sweeps import run_manifest, trials
from sweeps.say import columns, out, visible
from sweeps.verbs.options import results_option, stored

trial_argument = click.argument("trial_id", metavar="TRIAL")


@click.command()
@trial_argument
@results_option
@stored
def logs(trial_id: str, results: Path) -> None:
    """Show each attempt at TRIAL (the first characters of its id): when, where, how it ended and why; then what it measured.

    With --cluster and without TRIAL: what the last run there has said.
    """
    found = trials.one(trial_id, results, failed=True)
    tried = trials.attempts(found, results)
    out.print(f"{found}  {tried[-1].about['task']} {tried[-1].about['name']}", style="bold")
    for one in tried:
        about = one.about
        when = f"{about['started']:%Y-%m-%d %H:%M:%S} UTC"
        out.print(f"attempt {about['attempt']}: {about['status']} after {about['wall_s']:.0f} s, begun {when}")
        out.print(f"  on {about['hardware']}, {about['workers']} worker(s), commit {about['commit'][:12] or 'unknown'}")
        for line in about["reason"].splitlines():
            out.print(f"  | {line}")
    measured = tried[-1].measured
    rows = [
        (one["metric"], f"{one['step']:,}", f"{one['value']:.5g}", f"{one['stderr']:.2g}", f"{one['n']:,}") for one in measured
    ]
    if rows:
        columns(("metric", "step", "value", "stderr", "n"), rows, left=("metric",))


@click.command()
@trial_argument
@results_option
@click.option("-n", "number", type=click.IntRange(min=1), default=6, show_default=True, help="Answers of each kind at most.")
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@click.option(
    "--among", type=click.IntRange(min=1), default=1000, show_default=True, help="Examples looked at, from the first."
)
@click.option("--only", type=click.Choice(["right", "wrong"]), help="One kind of answers.")
def samples(trial_id: str, results: Path, number: int, split: Split, among: int, only: str | None) -> None:
    """Show right and wrong answers of TRIAL beside the gold, and the experts that each token was sent to."""
    from parrots.evaluation.samples import answered

    found = trials.one(trial_id, results)
    trial = trials.trial(found, results)
    shown = answered(trial, results, split, among)
    right = [sample for sample in shown if sample.right]
    wrong = [sample for sample in shown if not sample.right]
    out.print(f"{trial.task.kind} {trial.name}: {len(right)} of {len(shown)} {split} examples right", style="bold")
    for said, kind in (("right", right), ("wrong", wrong)):
        for sample in kind[:number] if only in (None, said) else []:
            out.print(f"#{sample.number} {said}")
            out.print(f"  prompt  {' '.join(sample.prompt) or '(vectors)'}")
            out.print(f"  gold    {' '.join(sample.gold)}")
            out.print(f"  answer  {' '.join(sample.answer)}")
            for layer, experts in enumerate(sample.experts):
                told = " ".join(
                    f"{token}:{'+'.join(map(str, at)) or '-'}" for token, at in zip(sample.read, experts, strict=True)
                )
                out.print(f"  layer {layer} {told}")


@click.command("eval")
@click.argument("trial_ids", metavar="TRIAL...", nargs=-1, required=True)
@results_option
@click.option("--tasks", multiple=True, required=True, metavar="TASK", help="KIND[:FIELD=VALUE,...], JSON, or a file of JSON.")
@click.option("--split", type=click.Choice(["test", "train"]), default="test", show_default=True)
@click.option("--at-most", type=click.IntRange(min=1), help="Examples asked.  [default: all]")
def evaluate(trial_ids: tuple[str, ...], results: Path, tasks: tuple[str, ...], split: Split, at_most: int | None) -> None:
    """Ask finished trials something else, without training: a record besides for each TRIAL and TASK.

    TASK: `own` or the trial's kind, with fields that differ, as in own:data_seed=1 or shortest_path:p=0.3,n_test=500.
    """
    from dataclasses import replace

    from parrots.execution import evaluate as ask
    from parrots.placement import Placement
    from parrots.record import evaluation_path
    from parrots.spec import Cell

    place = Placement(results / "data", results / "weights")
    asked = []
    for found in (trials.one(trial_id, results) for trial_id in trial_ids):
        trial = trials.trial(found, results)
        evaluations = tuple(one for text in tasks for one in evaluations_in(text, trial, split, at_most))
        try:
            asked.append(Cell(trial=trial, evaluations=evaluations))
        except ValidationError as error:
            raise ValueError(one_line(error)) from error
    rows = []
    for cell in asked:
        for one in cell.evaluations:
            path = evaluation_path(one.of(cell.trial), results)
            if not path.exists():
                made = ask(cell.trial, one, results, place)
                replace(made, sweep=trials.attempts(cell.trial.id, results)[-1].about["sweep"]).write(results)
            for value in trials.attempt(path).measured:
                score = (f"{value['value']:.5g}", f"{value['stderr']:.2g}", f"{value['n']:,}")
                rows.append((cell.trial.id, f"{one.name}/{value['metric']}", *score))
    columns(("trial", "metric", "value", "stderr", "n"), rows, left=("trial", "metric"))


def evaluations_in(text: str, trial: Trial, split: Split, at_most: int | None) -> list[Evaluation]:
    """What a TASK of the command line means for a trial. ValueError in a line."""
    try:
        if text.endswith(".json") or text.lstrip().startswith(("{", "[")):
            said = json.loads(Path(text).read_text() if text.endswith(".json") else text)
            return [Evaluation.model_validate(one) for one in (said if isinstance(said, list) else [said])]
        kind, _, fields = text.partition(":")
        own = trial.task.model_dump() if kind in ("own", trial.task.kind) else {"kind": kind}
        changed = dict(part.split("=", 1) for part in fields.split(",") if part)
        name = "-".join([kind, *(f"{key}-{value}" for key, value in changed.items())])
        task = own | {key.strip(): _value(value) for key, value in changed.items()}
        name = "".join(c if c.isalnum() or c in "_-" else "_" for c in name)
        return [Evaluation.model_validate({"name": name, "task": task, "split": split, "at_most": at_most})]
    except OSError as error:
        raise ValueError(f"--tasks {text}: {error.strerror}") from error
    except ValueError as error:
        told = one_line(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise ValueError(f"--tasks {text}: {told}") from error


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command()
@trial_argument
@results_option
@click.option("--out", "folder", default="reproduced", show_default=True, help="Results folder of the new run.")
def reproduce(trial_id: str, results: Path, folder: str) -> None:
    """Print the command that runs TRIAL again with what it was run with: its commit, device, threads and workers.

    And that asks its model again what it was asked besides.
    """
    found = trials.one(trial_id, results, failed=True)
    last = trials.attempts(found, results)[-1].about
    manifest = run_manifest.of(last["sweep"], last["started"], results)
    for line in again(last, folder, manifest, trials.evaluations(found, results)):
        click.echo(line)


def again(about: dict[str, Any], folder: str, manifest: Path | None = None, asked: Sequence[Evaluation] = ()) -> list[str]:
    """A shell script of one command after comments that say what the machine, the code and the packages were.

    How experts were computed is in no record; by default it follows from device and shape.

    What a record says of them is somebody's text: it stays on its line, and in the command it is a number or quoted.
    """
    commit, changed = about["commit"].removesuffix("+"), about["commit"].endswith("+")
    lines = [
        f"# {about['task']} {about['name']}: {about['status']} on {about['hardware']}, {about['started']:%Y-%m-%d %H:%M} UTC"
    ]
    lines.append("# " + ", ".join(f"{name} {version}" for name, version in about["versions"]))
    if commit:
        lines.append(
            f"# git checkout {commit}" + ("; and what differed from it, which the run's manifest has" if changed else "")
        )
    if manifest:
        lines.append(f"# the run's manifest: {manifest}")
    if about["stacked"] > 1:
        lines.append(f"# trained side by side with {about['stacked'] - 1} others; alone its numbers are these to rounding")
    threads = re.search(r", ([0-9]+) threads$", about["hardware"])  # of a CPU; a GPU goes by its name alone
    environment = f"OMP_NUM_THREADS={threads[1]} " if threads else ""
    start = f"torchrun --nproc-per-node {about['workers']} -m" if about["workers"] > 1 else "python -m"
    said = " ".join(shlex.quote(json.dumps(one, sort_keys=True)) for one in cells(about["trial"], asked))
    file = shlex.quote(f"{about['trial_id']}.jsonl")
    lines = [visible(line).replace("\n", "\\n") for line in lines]
    options = f"--device {'cpu' if threads else 'cuda'} --out {shlex.quote(folder)}"
    lines.append(f"printf '%s\\n' {said} > {file} && {environment}{start} parrots.run {file} {options}")
    return lines


def cells(trial: str, asked: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """A trial and what it was asked besides, as JSON data: a cell, and others where two evaluations go by one name."""
    found: list[dict[str, Evaluation]] = [{}]
    for one in asked:
        if one.name in found[-1]:
            found.append({})
        found[-1][one.name] = one
    return [{"trial": json.loads(trial), "evaluations": canonical([*some.values()])} for some in found]
