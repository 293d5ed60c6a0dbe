"""What becomes of a cell: data, training, evaluation, its records; one alone or many side by side, on any launcher."""

import gc
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch

from parrots.compiling import resolved
from parrots.evaluation.accuracy import answer, score
from parrots.failures import Further, classify, failure, of_group
from parrots.frozen import first_line
from parrots.measurement import Measurement, mean
from parrots.meeting import Apart, leave, meet
from parrots.models.transformer import Transformer
from parrots.placement import Placement
from parrots.provenance import hardware
from parrots.record import Record, evaluation_path, is_done, path_of, read, weights_sha256
from parrots.spec import Cell, Evaluation, Trial
from parrots.store import AT_ONCE, Store
from parrots.tasks.store import load
from parrots.training import checkpoint, weights
from parrots.training.checkpoint import Stopped
from parrots.training.parallel import of_first, precision, prepare, uncompile
from parrots.training.stacked import name_of, train_stacked
from parrots.training.trainer import Trained, train


def run_trial(trial: Trial, place: Placement) -> Record:
    """Data, training, evaluation. Every worker of a group calls it and gets the same record."""
    began, started = time.perf_counter(), datetime.now(UTC)
    examples = load(trial.task, "train", place.data)
    place = resolved(trial, place)
    model = weights.initial(trial, place)
    prepare(model, place)
    trained = train(model, trial, examples, place)
    return scored(trial, model, trained, started, time.perf_counter() - began, place)


def run_stacked(trials: list[Trial], place: Placement) -> list[Record]:
    """The records of `run_trial` for trials of one shape, trained side by side; seconds of training are each one's share."""
    began, started = time.perf_counter(), datetime.now(UTC)
    examples = load(trials[0].task, "train", place.data)
    models = [weights.initial(trial, place) for trial in trials]
    each = train_stacked(models, trials, examples, place)
    share_s = (time.perf_counter() - began) / len(trials)
    records = [scored(*one, started, share_s, place) for one in zip(trials, models, each, strict=True)]
    return [replace(record, stacked=len(trials)) for record in records]


def scored(trial: Trial, model: Transformer, trained: Trained, started: datetime, before_s: float, place: Placement) -> Record:
    """What is left to do after training: its own evaluation, the weights, the record. before_s: what the trial took so far."""
    began, measurements = time.perf_counter(), trained.curves
    uncompile(model)  # for shapes that are met once
    if not trained.diverged:
        own = examine(model, trial, Evaluation(name="own", task=trial.task), trained.steps, place)
        measurements = [*measurements, *validate(model, trial, trained.steps, place), *own]
    sha256 = ""
    if place.weights and not trained.diverged:
        sha256 = weights.keep(model, weights.path_of(trial.id, place.weights), place)
    return Record(
        trial,
        "diverged" if trained.diverged else "done",
        measurements,
        started,
        wall_s=before_s + time.perf_counter() - began,
        hardware=hardware(place.device),
        reason="\n".join(filter(None, (trained.diverged, *trained.alarms))),
        workers=place.world,
        steps=trained.steps,
        train_s=trained.seconds,
        weights_sha256=sha256,
    )


def validate(model: Transformer, trial: Trial, step: int, place: Placement) -> list[Measurement]:
    """The loss that learning rates are chosen by, on examples that are neither trained on nor tested; if the task has any."""
    if not trial.task.validated:
        return []
    examples = load(trial.task, "validation", place.data)
    model.eval()
    with precision(trial.training, place):
        scores = score(model, examples, place)
    return [mean("validation_loss", step, scores.nll_NS[trial.task.counted(examples)])]


def examine(model: Transformer, trial: Trial, asked: Evaluation, step: int, place: Placement) -> list[Measurement]:
    """What trained weights score on an evaluation's examples."""
    examples = load(asked.task, asked.split, place.data)
    examples = examples.take(slice(asked.at_most))
    model.eval()
    with precision(trial.training, place):
        scores = score(model, examples, place, asked.task.routed)
        if asked.task.decoded:
            stop = asked.task.vocabulary.index("<eos>")
            scores = scores._replace(decoded_NS=answer(model, examples, asked.task.decoded, stop, place))
    return asked.task.measure(examples, scores, step)


def evaluate(trial: Trial, asked: Evaluation, results: Path, place: Placement) -> Record:
    """The record of an evaluation, from the weights that the trial kept; by one worker. ValueError as for `kept`."""
    began, started = time.perf_counter(), datetime.now(UTC)
    model = kept(trial, results, place).to(place.device)
    measured = examine(model, trial, asked, trial.training.steps, place)
    wall_s = time.perf_counter() - began
    return Record(
        trial, "done", measured, started, wall_s, hardware(place.device), steps=trial.training.steps, evaluation=asked
    )


def kept(trial: Trial, results: Path, place: Placement) -> Transformer:
    """The trained model, from the weights here or, where these are none or another attempt's, from those in the store.

    ValueError if there are none, or if they are others than its record in `results` was made with.
    """
    assert place.weights is not None
    path, sha256, store = weights.path_of(trial.id, place.weights), weights_sha256(trial.id, results), place.store
    wrong = f"no weights of {trial.id} at {path.parent}"
    for found in (path.exists, lambda: bool(store and store.get(path))):
        try:
            if found():
                return weights.load(trial, path, sha256)
        except ValueError as error:
            wrong = str(error)
    there = ", in the store too" if store else ""
    raise ValueError(f"{wrong}; delete its record{there}, and the next run trains it again")


def finish(
    cell: Cell, results: Path, place: Placement, about: Mapping[str, Any], record: Record | None = None
) -> Record | None:
    """Train the cell's trial unless it has its record, then evaluate what has none; each is written as soon as it is there.

    about: fields of the records, such as the sweep's name. record: the trial's new one, if it was trained beside others and is
    written. Of several workers each trains, the first writes and evaluates. Returns the trial's new record.
    """
    trial = cell.trial
    if not of_first(path_of(trial.id, results).exists(), place):
        record = replace(run_trial(trial, place), **about)
        if place.rank == 0:
            record.write(results, place.store)
    if place.rank == 0 or place.store:  # also where who wrote the record was lost before it came to this
        forget(trial.id, place)
    if place.rank == 0 and not is_done(cell, results):
        alone = replace(place, world=1)
        for asked in cell.evaluations:
            if not evaluation_path(asked.of(trial), results).exists():
                replace(evaluate(trial, asked, results, alone), **about).write(results, place.store)
    return record


def endeavour(
    cell: Cell, results: Path, place: Placement, sweep: str, record: Record | None = None, early_stop: str = ""
) -> Record | None:
    """`finish`, and again as often as the class of its failure allows; each failed attempt leaves a record of its own.

    Every worker of a group calls it, and after each attempt they agree on what has come of it, since one may have failed alone.
    `Stopped` passes; `Apart` says that there is no group any more.
    """
    left = Further(cell.trial.training.batch_size // place.world if place.world > 1 else 1)
    while True:
        found, lost, kind = record, None, None
        try:
            catch_up([cell], results, place.store)
            found = finish(cell, results, place, about(cell.trial, results, sweep, early_stop), record)
        except Stopped:
            raise
        except Exception as error:
            kind = classify(error)
            lost = replace(failure(cell.trial, error, place, kind), **about(cell.trial, results, sweep, early_stop))
        if kind:
            let_go(place)
        met = meet(kind, cell.trial.id, place)
        if met.whole and not any(met.said):
            return found
        kind = of_group(met.said)
        if lost and place.rank == met.said.index(kind):
            write_failure(lost, results, place.store)
        if not met.whole:
            leave(place)
            raise Apart(lost.reason.splitlines()[-1] if lost else "another worker has ended")
        if not left.takes(kind):
            return lost or found
        time.sleep(left.pause_s(kind))


def let_go(place: Placement) -> None:
    """Free what a failed attempt held, on its GPU too: a model whose references go round in a circle. It takes 150 ms."""
    gc.collect()
    if place.device.startswith("cuda"):
        torch.cuda.empty_cache()


def catch_up(cells: Sequence[Cell], results: Path, store: Store | None) -> None:
    """Have what these cells left on other machines here, and what they left here in the store, if there is one."""
    if store:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(partial(_catch_up, results=results, store=store), cells))


def _catch_up(cell: Cell, results: Path, store: Store) -> None:
    trial_id = cell.trial.id
    kept, record = weights.path_of(trial_id, results / "weights"), path_of(trial_id, results)
    if kept.exists() and record.exists():
        store.share(kept)
    for path in (record, *(evaluation_path(one.of(cell.trial), results) for one in cell.evaluations)):
        store.share(path)
    store.put_away((results / "failures").glob(f"{trial_id}-*.parquet"))
    attempts = (results / "failures" / f"{trial_id}-{number}.parquet" for number in count(1))
    next(path for path in attempts if not store.share(path))


def write_failure(record: Record, results: Path, store: Store | None = None) -> None:
    """Write the record of a failed attempt, here and into the store.

    Where that fails too (a full disk), say so: the cell counts as missing.
    """
    try:
        path = record.write(results)
        if store:
            store.put(path)
    except OSError as error:
        print(f"{record.trial.name}: {error}; {record.reason.splitlines()[-1]}", file=sys.stderr)


def forget(name: str, place: Placement) -> None:
    """Remove the checkpoints of what has its record, or of this worker where only the first writes it."""
    if place.checkpoints:
        checkpoint.drop(place.checkpoints / name, place)


def side_by_side(stack: list[Trial], results: Path, place: Placement, sweep: str) -> dict[str, Record]:
    """Train together those of a stack that have no record; returns what is written, by trial_id.

    All of them again where one was killed as it wrote its records: the others' numbers are those that it would have written.
    Nothing where there is one, or where they fail: then each is run alone, so that only what fails alone has failed.
    """
    stack = list({trial.id: trial for trial in stack}.values())
    done = {trial.id for trial in stack if path_of(trial.id, results).exists()}
    torn = any(read([path_of(trial_id, results)])["stacked"][0].as_py() == len(stack) for trial_id in done)
    todo = [trial for trial in stack if torn or trial.id not in done]
    if len(stack) > 1 and len(done) == len(stack):  # whoever wrote their records was lost before it came to this
        forget(name_of(stack), place)
    if len(todo) < 2 or len(done) == len(stack):
        return {}
    try:
        records = [replace(record, **about(record.trial, results, sweep)) for record in run_stacked(todo, place)]
        records = [record for record in records if record.trial.id not in done]
        for record in records:
            record.write(results, place.store)
    except Stopped:
        raise
    except Exception as error:
        print(f"\r{len(todo)} trials side by side: {first_line(error)}; one after another instead", file=sys.stderr)
    else:
        forget(name_of(todo), place)
        return {record.trial.id: record for record in records}
    let_go(place)
    with suppress(OSError):  # a full disk may be why
        forget(name_of(todo), place)
    return {}


def about(trial: Trial, results: Path, sweep: str, early_stop: str = "") -> dict[str, Any]:
    """What a record says of its execution: for which sweep, which attempt it is, by which rule it may be ended."""
    failures = (results / "failures").glob(f"{trial.id}-*.parquet")
    last = max((int(path.stem.rpartition("-")[2]) for path in failures), default=0)  # of another machine's some may be missing
    return {"sweep": sweep, "attempt": last + 1, "early_stop": early_stop}
