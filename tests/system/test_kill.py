"""Real kills of a real sweep: nothing that was finished is lost, and the next run goes on to the same numbers."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parrots.placement import Placement
from parrots.record import path_of, read
from parrots.run import run_trial
from sweeps.spec import find

from ..conftest import processes

SWEEP = '''"""Six trials of a few seconds."""

from sweeps.spec import Sweep, grid, union

BASE = {
    "model": {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn": {"kind": "dense", "d_ff": 16}},
    "task": {"kind": "phonebook", "n_entries": 200, "n_test": 200},
    "training": {"steps": 400, "batch_size": 100, "lr": 1e-2},
}


def sweep(scale):
    return Sweep(cells=union(grid(BASE, {"seed": [0, 1, 2, 3, 4, 5]})))
'''


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict:
    """What each trial gives when nothing happens to it: (trial, metric, step) to value."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "six.py").write_text(SWEEP)
    records = [run_trial(cell.trial, Placement(folder)) for cell in find(str(folder / "six.py"), "laptop").cells]
    return {(r.trial.id, m.metric, m.step): m.value for r in records for m in r.measurements}


@pytest.fixture
def here(tmp_path) -> Path:
    (tmp_path / "six.py").write_text(SWEEP)  # a name that would shadow a library, were this folder on a worker's path
    return tmp_path


def start(here: Path) -> subprocess.Popen:
    command = [Path(sys.executable).with_name("parrots"), "run", "six.py"]
    return subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def records(here: Path) -> set[str]:
    return {path.stem for path in (here / "results" / "records").glob("*.parquet")}


def wait_for(condition, seconds: float = 120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


def session(here: Path) -> Path:
    """Where the Ray that was started from `here` keeps its files; its Tune actors work below."""
    (raylet, *_) = wait_for(lambda: processes("/", here / "results" / "tune"))
    return Path(re.search(r"/tmp/ray/session_[^/]+", Path(f"/proc/{raylet}/cmdline").read_text())[0])


def finish(driver: subprocess.Popen) -> tuple[int, str]:
    said, _ = driver.communicate(timeout=300)
    return driver.returncode, said


def check_that_the_next_run_goes_on(here: Path, done_before: set[str], undisturbed: dict) -> None:
    before = {i: path_of(i, here / "results").stat().st_mtime_ns for i in done_before}
    code, said = finish(start(here))
    assert code == 0, said
    assert {i: path_of(i, here / "results").stat().st_mtime_ns for i in done_before} == before
    rows = read((here / "results" / "records").iterdir()).to_pylist()
    assert len(rows) == len(undisturbed)
    assert {(r["trial_id"], r["metric"], r["step"]): r["value"] for r in rows} == pytest.approx(undisturbed, abs=1e-5)


def test_a_killed_actor_costs_its_own_cell_and_no_other(here, undisturbed):
    driver = start(here)
    wait_for(lambda: records(here))
    victim, *_ = wait_for(lambda: processes("ray::ImplicitFunc", session(here)))
    os.kill(victim, signal.SIGKILL)
    code, said = finish(driver)
    assert code == 1
    assert "1 cell failed" in said
    assert len(records(here)) == 5
    (failure,) = read((here / "results" / "failures").iterdir()).to_pylist()
    assert failure["status"] == "failed"
    assert "infrastructure" in failure["reason"]
    assert failure["value"] is None
    check_that_the_next_run_goes_on(here, records(here), undisturbed)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_driver_that_is_stopped_keeps_what_is_finished_and_leaves_nothing_running(here, undisturbed, how):
    driver = start(here)
    wait_for(lambda: len(records(here)) >= 2)
    ours = here, session(here)
    os.kill(driver.pid, how)
    code, said = finish(driver)
    if how == signal.SIGINT:
        assert code == 130
        assert said.splitlines()[-1].startswith("stopped; finished records and checkpoints stay")
        assert "Traceback" not in said
    # Ray's own agents outlive a killed driver by a minute; what computes must not
    wait_for(lambda: not processes("ray::" if how == signal.SIGINT else "ray::ImplicitFunc", *ours), 30)
    done = records(here)
    assert 2 <= len(done) < 6
    assert not list((here / "results" / "failures").iterdir())
    check_that_the_next_run_goes_on(here, done, undisturbed)
