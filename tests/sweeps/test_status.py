"""How far a sweep is, which of its cells are tried again, and how it is ended."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeps import ledger
from sweeps.cli import main
from sweeps.guard import holder, lock
from sweeps.spec import find, load

from ..test_record import record

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path, monkeypatch):
    """quickstart's smoke cells: one done, one out of memory, one failed twice, one ended early, the others missing."""
    monkeypatch.chdir(tmp_path)
    found, folder = find("quickstart", "smoke"), tmp_path / "results"
    found.model_copy(update={"command": "parrots run quickstart"}).manifest(folder)
    trials = [cell.trial for cell in found.cells]
    record(trials[0]).write(folder)
    record(trials[1], "oom", [], reason="MemoryError: 3 GiB").write(folder)
    record(trials[2], "oom", [], reason="MemoryError").write(folder)
    record(trials[2], "failed", [], reason="ValueError: it broke", attempt=2, failure="bug").write(folder)
    record(trials[3], "stopped", [], reason="ended early by asha", early_stop="asha").write(folder)
    return folder


def said(capsys, *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_every_sweep_that_was_run_is_listed_with_its_states(results, capsys):
    find("figure4a", "smoke").manifest(results)
    rows = [line.split() for line in said(capsys, "status").splitlines()]
    assert rows[0] == ["sweep", "scale", "done", "failed", "missing"]
    assert ["quickstart", "smoke", "1", "3", "8"] in rows
    assert rows[1][:2] == ["figure4a", "smoke"]


def test_a_part_of_a_sweep_has_its_own_states(results, capsys):
    told = said(capsys, "status", "quickstart", "--where", "task == 'phonebook' and seed == 0")
    assert re.search(r"phonebook +1 +3 +2\n", told)
    assert "length2_path" not in told


def test_a_hundred_thousand_records_are_counted_without_reading_one_or_the_manifest(results, capsys, monkeypatch):
    """Takes 1.4 s; the manifest of as many cells alone would take twenty."""
    path = results / "sweeps" / "quickstart" / "cells.json"
    about, _ = json.loads(path.read_text())
    path.write_text(json.dumps([about, [[f"{i:016x}", "phonebook", "d16", []] for i in range(100_000)]]))
    for i in range(0, 100_000, 10):
        (results / "records" / f"{i:016x}.parquet").touch()
    monkeypatch.setattr("sweeps.verbs.status.load", lambda *_: pytest.fail("reads the manifest"))
    monkeypatch.setattr("sweeps.verbs.status.read", lambda *_: pytest.fail("reads a record"))
    assert re.search(r"phonebook +10,000 +0 +90,000\n", said(capsys, "status", "quickstart"))


def test_an_index_older_than_its_manifest_is_not_believed(results, capsys):
    time.sleep(0.02)
    path = results / "sweeps" / "quickstart" / "manifest.json"
    kept = path.with_name("cells.json").read_bytes()
    find("quickstart", "laptop").manifest(results)
    path.with_name("cells.json").write_bytes(kept)
    os.utime(path.with_name("cells.json"), (0, 0))
    assert "quickstart (laptop)" in said(capsys, "status", "quickstart")


@pytest.mark.parametrize(
    ("wanted", "chosen"), [("oom", [1]), ("failed", [2]), ("oom,failed", [1, 2]), ("stopped", [3]), ("bug,stopped", [2, 3])]
)
def test_retry_runs_the_cells_whose_last_attempt_ended_so_and_forgets_their_attempts(
    results, capsys, monkeypatch, wanted, chosen
):
    ran = []

    def run_found(found, folder, how, only, tell):
        ran.extend([found, only])
        return 0

    monkeypatch.setattr("sweeps.verbs.status.run_found", run_found)
    said(capsys, "retry", "quickstart", "--status", wanted)
    whole, only = ran
    trials = [cell.trial.id for cell in load("quickstart", results).cells]
    assert len(whole.cells) == 12
    assert only == {trials[i] for i in chosen}
    books = ledger.read(results)
    attempts = {1: 1, 2: 2, 3: 1}
    assert {i: books.attempts(trials[i]) for i in attempts} == {i: 0 if i in chosen else n for i, n in attempts.items()}
    assert len(list((results / "failures" / "retried").iterdir())) == sum(attempts[i] for i in chosen)


def test_what_cannot_be_tried_again_is_one_line(results, capsys):
    assert main(["retry", "quickstart", "--status", "diverged"]) == 2
    assert "--status diverged: oom, failed (any other), infrastructure or bug" in capsys.readouterr().err
    assert main(["retry", "depth"]) == 2
    assert "depth was not run into" in capsys.readouterr().err
    (results / "failures").rename(results / "gone")
    assert "no cell of quickstart has ended with failed or oom" in said(capsys, "retry", "quickstart")


def test_stop_ends_the_run_that_holds_the_results_and_nothing_else(results, capsys):
    assert main(["stop"]) == 2
    assert "no run is at work in results" in capsys.readouterr().err
    code = (
        "import signal, time; from pathlib import Path; from sweeps.course import interrupt; from sweeps.guard import lock\n"
        "signal.signal(signal.SIGTERM, interrupt)\n"
        "with lock(Path('results')):\n    print('held', flush=True)\n    time.sleep(60)"
    )
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "env": {"PYTHONPATH": str(ROOT)}}
    running = subprocess.Popen([sys.executable, "-c", code], cwd=results.parent, **quiet)
    try:
        assert running.stdout.readline() == b"held\n"
        assert f"a run is at work here (process {running.pid} on " in said(capsys, "status", "quickstart")
        assert "stopped; finished records and checkpoints stay" in said(capsys, "stop")
        assert running.wait(10) not in (0, -signal.SIGKILL)
    finally:
        running.kill()
    assert holder(results) is None


def test_a_lock_names_its_holder_only_while_it_is_held(tmp_path):
    with lock(tmp_path):
        pass
    assert holder(tmp_path) is None
    assert holder(tmp_path / "absent") is None
