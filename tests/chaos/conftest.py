"""A sweep that is small enough to be disturbed often, and what it gives when nothing happens to it."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from parrots.execution import run_trial
from parrots.placement import Placement
from parrots.record import read
from sweeps.spec import find

from ..conftest import processes

SWEEP = '''"""Six cells of a second or two, and one of them with experts."""

from sweeps.spec import Sweep, grid, union

BASE = {
    "model": {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn": {"kind": "dense", "d_ff": 16}},
    "task": {"kind": "phonebook", "n_entries": 60, "n_test": 40},
    "training": {"steps": 400, "batch_size": 30, "lr": 1e-2},
}
MOE = {"model.ffn": [{"kind": "moe", "d_ff": 16, "n_experts": 4}]}
SCALES = ("alone", "together")


def sweep(scale):
    if scale == "together":
        return Sweep(cells=union(grid(BASE, {"seed": [0, 1, 2]}, workers=2)))
    return Sweep(cells=union(grid(BASE, {"seed": [0, 1, 2, 3, 4]}, lane="packed"), grid(BASE, MOE, lane="packed")))
'''


class Here:
    """A folder with the sweep in it, and what happens there."""

    def __init__(self, folder: Path):
        self.folder, self.results = folder, folder / "results"
        # a name that would shadow a library, were this folder on a worker's path
        (folder / "six.py").write_text(SWEEP)

    def start(self, *more: str, **env: str) -> subprocess.Popen:
        """`parrots run` of the sweep, begun. Its cells write checkpoints all the time."""
        command = [Path(sys.executable).with_name("parrots"), "run", "six.py", "--stack", "1", "--checkpoint-every", "0.1"]
        env = {**os.environ, **env}
        return subprocess.Popen(
            [*command, *more], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
        )

    def finish(self, driver: subprocess.Popen) -> tuple[int, str]:
        """Its exit code, and what it said."""
        said, _ = driver.communicate(timeout=500)
        return driver.returncode, said

    def run(self, *more: str, **env: str) -> tuple[int, str]:
        return self.finish(self.start(*more, **env))

    def records(self) -> set[str]:
        return {path.stem for path in (self.results / "records").glob("*.parquet")}

    def checkpoints(self) -> list[Path]:
        """Those that are complete."""
        return sorted((self.results / "checkpoints").glob("*/*/complete.json"))

    def begun(self) -> set[str]:
        """Trials that have one."""
        return {path.parent.parent.name for path in self.checkpoints()}

    def failures(self) -> list[dict]:
        return read(sorted((self.results / "failures").glob("*.parquet"))).to_pylist()

    def values(self) -> dict:
        """(trial, metric, step) to value, each there once."""
        rows = read(sorted((self.results / "records").glob("*.parquet"))).to_pylist()
        found = [(row["trial_id"], row["metric"], row["step"]) for row in rows]
        assert max(Counter(found).values()) == 1
        return dict(zip(found, (row["value"] for row in rows), strict=True))


def wait_for(condition, seconds: float = 240.0):
    """What `condition` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return found


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def session(results: Path) -> Path:
    """Where the Ray of the last run into these results keeps its files; its Tune actors work below."""
    (*_, raylet) = wait_for(lambda: processes("/", results / "tune"))
    return Path(re.search(r"/tmp/ray/session_[^/]+", Path(f"/proc/{raylet}/cmdline").read_text())[0])


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> dict:
    """What each cell for one worker gives when nothing happens to it: (trial, metric, step) to value."""
    here = Here(tmp_path_factory.mktemp("undisturbed"))
    cells = find(str(here.folder / "six.py"), "alone").cells
    records = [run_trial(cell.trial, Placement(here.folder)) for cell in cells]
    return {(r.trial.id, m.metric, m.step): m.value for r in records for m in r.measurements}


@pytest.fixture
def here(tmp_path) -> Here:
    return Here(tmp_path)
