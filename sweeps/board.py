"""What the board shows of a results folder, kept up to date: rows that changed or went since a revision, and who is at work.

Everything is read off files that runs write anyway: records, failures, evaluations, manifests, and Tune's `result.json` of the
trials that are under way. So it can be started before, during or after a run, by anybody who can read the folder.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from analysis.board.rows import Row, columns, of_records, unrun
from sweeps import ledger
from sweeps.guard import holder
from sweeps.spec import Sweep, load, manifest_path

AT_ONCE = 20_000  # rows of one reply, about 6 MB: each costs the page a drawing
STEP = 200  # rows between which a reader may look


class Seen(NamedTuple):
    """The files that a row was made of, as they were; a row whose files are the same is the same."""

    record: tuple[Path, int] | None
    """And its time, in nanoseconds: a record may be made again."""
    asked: tuple[tuple[Path, int], ...]
    failures: tuple[Path, ...]
    progress: str
    """The last line that Tune has of it, while it runs."""
    listed: frozenset[str]


class Board:
    """The rows of the trials of some sweeps, or of all that is in a results folder."""

    def __init__(self, results: Path, names: Sequence[str] = ()):
        """ValueError if one of the sweeps was not run into the folder, or there is nothing in it."""
        self.results, self.names = results, tuple(dict.fromkeys(names))
        self.sweeps: dict[str, tuple[int, Sweep]] = {}
        self.lock = Lock()
        self.rows: dict[str, tuple[int, Row]] = {}
        self.seen: dict[str, Seen] = {}
        self.gone: dict[str, int] = {}
        self.revision = 0
        self.loading = True
        self.running = False
        self.problem = ""
        """Why the folder could not be read the last time, in a line, or nothing."""
        for name in self.names:
            load(name, results)
        if not ledger.sweeps(results) and not ledger.read(results).done:
            raise ValueError(f"no sweep was run into {results}; `parrots run SWEEP` does it")

    def about(self, live: bool) -> dict[str, Any]:
        """What the page says of the whole."""
        self._manifests()
        found = [sweep for _, sweep in self.sweeps.values()]
        told = [{"name": s.name, "title": s.title, "scale": s.scale, "command": s.command, "keep": s.keep} for s in found]
        title = ", ".join(s.name for s in found) or str(self.results)
        return {"title": title, "results": str(self.results), "sweeps": told, "live": live}

    def refresh(self) -> None:
        """Read what has changed in the folder since the last time."""
        wanted = self._manifests()
        now = dict(self._seen(wanted))
        changed = [trial_id for trial_id, seen in now.items() if self.seen.get(trial_id) != seen]
        self.running = holder(self.results) is not None
        with self.lock:
            for trial_id in self.seen.keys() - now:
                self.revision += 1
                self.gone[trial_id] = self.revision
                del self.rows[trial_id], self.seen[trial_id]
        for first in range(0, len(changed), STEP):
            some = changed[first : first + STEP]
            made = {trial_id: self._row(trial_id, now[trial_id], wanted) for trial_id in some}
            with self.lock:
                for trial_id, row in made.items():
                    self.revision += 1
                    self.rows[trial_id] = (self.revision, row)
                    self.seen[trial_id] = now[trial_id]
                    self.gone.pop(trial_id, None)
        self.loading = False

    def since(self, revision: int, at_most: int | None = AT_ONCE) -> dict[str, Any]:
        """The rows that are new after a revision, the oldest first, and the ids of those that are gone since."""
        with self.lock:
            new = sorted(((at, row) for at, row in self.rows.values() if at > revision), key=lambda one: one[0])
            some = new if at_most is None else new[:at_most]
            more = len(some) < len(new) or self.loading
            upto = some[-1][0] if len(some) < len(new) else self.revision
            gone = [trial_id for trial_id, at in self.gone.items() if at > revision]
        return {
            "revision": upto,
            "more": more,
            "running": self.running,
            "problem": self.problem,
            "gone": gone,
            "n": len(some),
            "columns": columns([r for _, r in some]),
        }

    def _manifests(self) -> dict[str, tuple[Any, frozenset[str]]]:
        """trial id -> (trial, the sweeps that ask for it), of the sweeps that are shown."""
        sweeps = {}
        for name in self.names or ledger.sweeps(self.results):
            when = manifest_path(Path(name).stem, self.results).stat().st_mtime_ns
            kept = self.sweeps.get(name)
            sweeps[name] = kept if kept and kept[0] == when else (when, load(name, self.results))
        self.sweeps = sweeps  # whole: a page that is asked for meanwhile goes through the ones before
        found: dict[str, tuple[Any, frozenset[str]]] = {}
        for _, sweep in self.sweeps.values():
            for cell in sweep.asked(self.results):
                before = found.get(cell.trial.id, (None, frozenset()))[1]
                found[cell.trial.id] = cell.trial, before | {sweep.name}
        return found

    def _seen(self, wanted: Mapping[str, tuple[Any, frozenset[str]]]) -> Iterator[tuple[str, Seen]]:
        """The files of each trial that is shown, as they are now."""
        records = {path.stem: (path, when) for path, when in files(self.results / "records")}
        asked: dict[str, list[tuple[Path, int]]] = {}
        for path, when in files(self.results / "evaluations"):
            asked.setdefault(path.stem.partition("-")[0], []).append((path, when))
        failures = ledger.read(self.results).failures
        under_way = progress(self.results)
        everything = dict.fromkeys([*wanted, *(() if self.names else (*records, *failures))])
        for trial_id in everything:
            listed = wanted.get(trial_id, (None, frozenset()))[1]
            done, lost = records.get(trial_id), tuple(failures.get(trial_id, ()))
            at = "" if done else under_way.get(trial_id, "")
            yield trial_id, Seen(done, tuple(asked.get(trial_id, ())), lost, at, listed)

    def _row(self, trial_id: str, seen: Seen, wanted: Mapping[str, tuple[Any, frozenset[str]]]) -> Row:
        if seen.record:
            row = of_records([seen.record[0], *(path for path, _ in seen.asked)])
        elif seen.failures:
            row = of_records(seen.failures[-1:])
        else:
            row = unrun(wanted[trial_id][0])
        about = row["about"]
        if seen.listed:
            about["sweep"] = ", ".join(sorted(seen.listed))
        if seen.progress:
            at = json.loads(seen.progress)
            about |= {"state": "running", "progress": at["step"] / at["steps"], "reason": "; ".join(at["alarms"] or ())}
            row["score"]["loss"] = (at["loss"], float("nan"), None)
        return row


def files(folder: Path) -> Iterator[tuple[Path, int]]:
    """The record files of a folder and when they were last written."""
    if folder.is_dir():
        with os.scandir(folder) as found:
            for one in sorted(found, key=lambda one: one.name):
                if one.name.endswith(".parquet"):
                    yield Path(one.path), one.stat().st_mtime_ns


def progress(results: Path) -> dict[str, str]:
    """trial id -> the last that Tune was told of it, of the trials that the run at work has begun and not ended."""
    if holder(results) is None:
        return {}
    began = (results / ".lock").stat().st_mtime
    found = {}
    for path in (results / "tune").glob("*/*/result.json"):
        if path.stat().st_mtime >= began and (line := last_line(path)):
            told = json.loads(line)
            if "step" in told and "status" not in told:
                keep = {name: told.get(name) for name in ("step", "steps", "loss", "alarms")}
                found[path.parent.name] = json.dumps(keep)
    return found


def last_line(path: Path) -> str:
    """The last whole line of a file that another process writes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        lines = file.read().decode(errors="replace").split("\n")
    return lines[-2] if len(lines) > 1 else ""
