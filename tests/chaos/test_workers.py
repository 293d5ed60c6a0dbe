"""Workers that share a trial leave it at one step and take it up again, as many of them or one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from parrots.frozen import canonical_json
from parrots.record import read
from parrots.spec import Cell

from ..conftest import MOE, PATH, make

RUN = [sys.executable, "-m", "parrots.run"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "parrots.run"]


def call(line: list[str], out: Path, *more: str, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run([*line, "--out", str(out), *more], capture_output=True, text=True, env=env, timeout=300)


def values(out: Path) -> dict:
    rows = read(sorted((out / "records").glob("*.parquet"))).to_pylist()
    return {(r["trial_id"], r["metric"], r["step"]): r["value"] for r in rows}


STOP_AT = """
import os, sys
from dataclasses import replace
import parrots.run as run
from parrots.training import trainer

class After:
    left = int(os.environ["STEPS"])
    def __call__(self):
        self.left -= 1
        return self.left <= 0

run.Interrupt = After
code = run.main(sys.argv[1:])
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.parametrize("then", [2, 1])
def test_two_workers_go_on_from_a_checkpoint_of_two_and_so_does_one(tmp_path, then):
    """Shards of two workers; for one they are put together, and the values agree to rounding as they do without a stop."""
    trials = [make(steps=60), make({**MOE, "n_experts": 3}, task=PATH, steps=60)]
    cells = tmp_path / "cells.jsonl"
    cells.write_text("".join(canonical_json(Cell(trial=trial)) + "\n" for trial in trials))
    done = call([*TWO, str(cells)], tmp_path / "undisturbed")
    assert done.returncode == 0, done.stderr
    shutil.copytree(tmp_path / "undisturbed" / "data", tmp_path / "out" / "data")
    (tmp_path / "stop.py").write_text(STOP_AT)
    stopping = [*TWO[:-2], str(tmp_path / "stop.py"), str(cells)]
    for steps, at in (("3", "20"), ("4", "50")):  # asked every tenth step, and before the first trial
        call(stopping, tmp_path / "out", PYTHONPATH=str(Path.cwd()), STEPS=steps)
        assert (tmp_path / "out" / "checkpoints" / trials[0].id / at).exists()
    done = call([*(TWO if then == 2 else RUN), str(cells)], tmp_path / "out")
    assert done.returncode == 0, done.stderr
    one, other = values(tmp_path / "undisturbed"), values(tmp_path / "out")
    assert other == (one if then == 2 else pytest.approx(one, rel=1e-4, abs=1e-5))
