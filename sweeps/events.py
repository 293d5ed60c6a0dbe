"""What a run does about Tune's events: it tells them on, writes records for processes that died, and ends when it is asked.

All of it on the driver, which waits for no store: what did not come into one now comes when the sweep is next run.
"""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from ray import tune

from parrots.execution import about, catch_up, write_failure
from parrots.failures import classify, failure
from parrots.placement import Placement
from parrots.provenance import hardware
from parrots.record import Record
from parrots.spec import Cell
from parrots.store import Store
from sweeps import stopping
from sweeps.how import How
from sweeps.watch import Watch
from sweeps.work import Given, device

GRACE_S = 120.0  # for what is under way when a run is asked to end: to its checkpoint, or through data or evaluation
RAISED = "ray::"  # how Ray begins to tell what a process raised; one that died could not


class Ending(tune.Stopper):
    """Ends a lane that is asked to, when what was under way has come to its checkpoint; asks when the budget is spent."""

    def __init__(self, watch: Watch, results: Path, how: How):
        self.watch, self.results, self.how = watch, results, how
        self.asked, self.store, self.told = stopping.Asked(results), how.stored(results), False
        self.underway: set[str] | None = None
        self.until = inf

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        spent = self.watch.device_s() / 3600
        if spent > self.how.max_device_hours and not self.asked():
            stopping.request(self.results, f"{spent:.3g} device-hours are spent")
        if not self.asked():
            return False
        if self.store and not self.told:  # workers on other machines look there
            with suppress(OSError):
                self.store.impatient.put(stopping.path_of(self.results))
                self.told = True
        running = set(self.watch.share)
        if self.underway is None:
            self.underway, self.until = running, time.monotonic() + GRACE_S
        return not (self.underway & running) or time.monotonic() > self.until


class Watching(tune.Callback):
    """Passes Tune's events on; writes the record of a cell whose process died, which could not write its own."""

    def __init__(self, watch: Watch, given: Given):
        self.watch, self.given, self.store = watch, given, given.store and given.store.impatient

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks for a restore, which the ledger makes needless

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.started(trial.config["trial_id"])

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any) -> None:
        trial_id = trial.config["trial_id"]
        if "status" in result:
            self._fetched(trial)
            if "score" in result:
                trial.config["score"] = result["score"]  # of results, `tune list-trials` shows none but its own names
            self.watch.ended(trial_id, result["status"], result.get("train_seconds", 0.0), result.get("failure", ""))
        elif "step" in result:
            progress = result["step"] / result["steps"]
            self.watch.progressed(trial_id, progress, result["tokens"], result["alarms"], result["seconds"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A cell that ends without having said so was ended by the rule."""
        at, given, watch = trial.last_result or {}, self.given, self.watch
        if given.early_stop and "percent" in at and "status" not in at and not stopping.path_of(given.results).exists():
            cell, store = self._fetched(trial)
            reason = f"ended early by {given.early_stop} at step {at['step']} of {at['steps']}, loss {at['loss']:.4g}"
            here = hardware(device())
            record = Record(cell.trial, "stopped", [], datetime.now(UTC), 0.0, here, reason, steps=at["step"])
            told = about(cell.trial, given.results, given.sweep, given.early_stop)
            write_failure(replace(record, **told), given.results, store)
            watch.ended(cell.trial.id, "ended early")

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.watch.lost[self._lost(trial).failure] += 1

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        record = self._lost(trial)
        self.watch.ended(trial.config["trial_id"], record.status, failure=record.failure)

    def _lost(self, trial: Any) -> Record:
        given, (cell, store) = self.given, self._fetched(trial)
        told = Path(trial.error_file).read_text().strip() if trial.error_file else "and said nothing"
        error = RuntimeError(f"its process ended, {told.splitlines()[-1]}")
        kind = classify(RuntimeError(told)) if RAISED in told.rpartition("Failure #")[2] else "infrastructure"
        record = failure(cell.trial, error, Placement(given.results, world=given.workers, device=device()), kind)
        told_of = about(cell.trial, given.results, given.sweep, given.early_stop)
        write_failure(replace(record, **told_of), given.results, store)
        return record

    def _fetched(self, trial: Any) -> tuple[Cell, Store | None]:
        """Its cell, with what another machine left of it here, and the store; no store where that is away.

        What it has comes at the end of the lane then, and until that a number for an attempt may be taken there.
        """
        cell = self.given.cell(trial.config["trial_id"])
        try:
            catch_up([cell], self.given.results, self.store)
        except OSError:
            return cell, None
        return cell, self.store
