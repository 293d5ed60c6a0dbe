"""docs/EXTENDING.md does what it says: the file that it shows, added to a copy, is a task."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parrots.record import read

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs" / "EXTENDING.md").read_text()


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.M | re.S)
    return code


@pytest.fixture
def extended(tmp_path):
    """A copy of the platform with one file more."""
    shutil.copytree(ROOT / "parrots", tmp_path / "parrots", ignore=shutil.ignore_patterns("__pycache__"))
    (named,) = re.findall(r"This one is `(parrots/tasks/\w+\.py)`", TEXT)
    (tmp_path / named).write_text(block("python"))
    return tmp_path


def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


def test_a_task_is_one_file_and_a_trial_of_it_leaves_its_record(extended):
    assert sum(bool(line.strip()) for line in block("python").splitlines()) <= 40, "it is meant to be short"
    (extended / "cells.jsonl").write_text(block("json"))
    (command,) = re.findall(r"^python (-m parrots\.run .*)$", TEXT, re.M)
    done = run(extended, *command.split())
    assert done.returncode == 0, done.stderr
    rows = read((extended / "results" / "records").iterdir()).to_pylist()
    assert {(row["task"], row["task_version"], row["status"]) for row in rows} == {("addition", 1, "done")}
    final = {row["metric"]: row for row in rows}
    assert final["exact_match"]["n"] == 9
    assert final["test_loss"]["stderr"] > 0
    assert final["loss"]["step"] == 40


def test_its_errors_are_one_line(extended):
    (extended / "cells.jsonl").write_text(block("json").replace('"n_test": 9', '"n_test": 49'))
    done = run(extended, "-m", "parrots.run", "cells.jsonl", "--out", "results")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("task: n_test=49: less than the n^2=49 pairs that there are")
    assert len(done.stderr.splitlines()) == 1
