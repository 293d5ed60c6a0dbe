"""`parrots ingest`: records made elsewhere, on a bare GPU machine or under Slurm, taken into a results folder."""

from pathlib import Path

import click

from parrots.atomic import atomic
from parrots.frozen import first_line
from parrots.record import weights_sha256
from sweeps.guard import lock, writable
from sweeps.intake import RefusedError, Taken, files, looked_at
from sweeps.say import out
from sweeps.verbs.options import results_option


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@results_option
def ingest(folder: Path, results: Path) -> int:
    """Take the records, evaluations, failures and weights of results FOLDER in, refusing what does not validate.

    What is here already stays. Exit code 1 if something was refused.
    """
    found = list(files(folder))
    if not found:
        raise ValueError(f"no records in {folder}; what `python -m parrots.run` wrote with --out {folder} has some")
    if folder.resolve() == results.resolve():
        raise ValueError(f"{folder} is the results folder itself")
    good, refused = [], 0
    for path in found:
        try:
            good.append(looked_at(path))
        except RefusedError as error:
            refused += 1
            out.print(f"refused {path}: {error}")
    if not good:
        raise ValueError(f"none of {len(found)} files in {folder} is a record of this version")
    writable(results)
    with lock(results):
        taken, there, other = put(good, results)
        weighed = sum(weights_of(one, folder, results) for one in good if one.place.parent.name == "records")
    out.print(f"{taken} taken, {there} were here already, {refused + other} refused; weights of {weighed} trials")
    return 1 if refused + other else 0


def put(good: list[Taken], results: Path) -> tuple[int, int, int]:
    """Write what is new; returns how many were, how many were here already, and how many are here with other content."""
    taken = there = other = 0
    for one in good:
        path = results / one.place
        if not path.exists():
            with atomic(path) as sink:
                sink.write(one.content)
            taken += 1
        elif path.read_bytes() == one.content:
            there += 1
        else:
            other += 1
            out.print(f"refused {one.path}: {path} is another record of this trial, and stays")
    return taken, there, other


def weights_of(one: Taken, folder: Path, results: Path) -> bool:
    """Take a trial's weights, if they are there, not here, those of its model, and those of the record that is here."""
    from parrots.training import weights

    path, place = weights.path_of(one.trial.id, folder / "weights"), weights.path_of(one.trial.id, results / "weights")
    if place.exists() or not path.is_file() or path.is_symlink():
        return False
    if weights_sha256(one.trial.id, results) != one.weights_sha256:  # another record of this trial stayed, which was told
        return False
    try:
        content = weights.content(one.trial, path, one.weights_sha256)
    except Exception as error:  # safetensors and torch have errors of their own for what is not a model's weights
        out.print(f"refused {path}: not the weights of {one.trial.name} ({first_line(error).removeprefix(f'{path}: ')[:200]})")
        return False
    with atomic(place) as sink:
        sink.write(content)
    return True
