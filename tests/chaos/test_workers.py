"""Workers that share a trial leave it at one step and take it up again, as many of them or one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from parrots.failures import failure
from parrots.frozen import canonical_json
from parrots.placement import Placement
from parrots.record import path_of, read
from parrots.spec import Cell

from ..conftest import MOE, PATH, make

RUN = [sys.executable, "-m", "parrots.run"]
TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "parrots.run"]


def call(line: list[str], out: Path, *more: str, **env: str) -> subprocess.CompletedProcess:
    env = {**os.environ, "OMP_NUM_THREADS": "1", **env}
    return subprocess.run([*line, "--out", str(out), *more], capture_output=True, text=True, env=env, timeout=120)


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
    stopped_at = []
    for steps in ("3", "4"):  # asked after every tenth step at the latest, and before the first trial
        call(stopping, tmp_path / "out", PYTHONPATH=str(Path.cwd()), STEPS=steps)
        stopped_at.append(max(int(at.name) for at in (tmp_path / "out" / "checkpoints" / trials[0].id).iterdir()))
    assert 0 < stopped_at[0] < stopped_at[1] < 60
    done = call([*(TWO if then == 2 else RUN), str(cells)], tmp_path / "out")
    assert done.returncode == 0, done.stderr
    one, other = values(tmp_path / "undisturbed"), values(tmp_path / "out")
    assert other == (one if then == 2 else pytest.approx(one, rel=1e-4, abs=1e-5))


FULL = """
import os, sys, torch
import parrots.run as run
from parrots import meeting
from parrots.training import trainer

meeting.PATIENCE_S = 3.0
real, steps, rank = trainer.micro_step, [0], os.environ["RANK"]

def micro_step(model, batch, *rest):
    steps[0] += 1
    full = rank in os.environ["FULL"] and steps[0] > 4 and len(batch.inputs_BS) > 5
    if full and os.environ["WHERE"] == "forward":
        raise torch.OutOfMemoryError("no room for more than five")
    done = real(model, batch, *rest)
    if full:
        raise torch.OutOfMemoryError("no room for more than five")
    return done

trainer.micro_step = micro_step
code = run.main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)
"""


@pytest.mark.parametrize(("full", "where"), [("1", "forward"), ("0", "backward"), ("01", "forward")])
def test_out_of_memory_on_one_of_two_workers_halves_the_micro_batch_of_both(tmp_path, full, where):
    """Where one alone has met it the other stands in a collective: both processes end, and torchrun starts them again."""
    trials = [make(MOE), make(task=PATH)]
    cells = tmp_path / "cells.jsonl"
    cells.write_text("".join(canonical_json(Cell(trial=trial)) + "\n" for trial in trials))
    assert call([*TWO, str(cells)], tmp_path / "undisturbed").returncode == 0
    (tmp_path / "full.py").write_text(FULL)
    restarts = ["--max-restarts", "2"] if len(full) == 1 else []
    line = [*TWO[:-2], *restarts, str(tmp_path / "full.py"), str(cells)]
    done = call(line, tmp_path / "out", PYTHONPATH=str(Path.cwd()), FULL=full, WHERE=where)
    assert done.returncode == 0, done.stderr
    assert values(tmp_path / "out") == pytest.approx(values(tmp_path / "undisturbed"), rel=1e-4, abs=1e-5)
    failures = read(sorted((tmp_path / "out" / "failures").iterdir())).to_pylist()
    assert sorted((one["trial_id"], one["failure"], one["attempt"]) for one in failures) == sorted(
        (trial.id, "oom", 1) for trial in trials
    )
    assert {json.loads(path.read_bytes())["micro_batch"] for path in (tmp_path / "out" / "fits").iterdir()} == {5}


BROKEN = """
import os, sys
import parrots.run as run
from parrots import execution, meeting

meeting.PATIENCE_S = 3.0
real = execution.load

def load(task, *rest):
    if task.kind == "phonebook" and os.environ["RANK"] in os.environ["BROKEN"]:
        raise KeyError("a page")
    return real(task, *rest)

execution.load = load
code = run.main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)
"""


@pytest.mark.parametrize("broken", ["0", "01"])
def test_a_cell_that_fails_on_a_worker_leaves_its_reason_and_stops_no_other(tmp_path, broken):
    bad, good = make(), make(task=PATH)
    cells = tmp_path / "cells.jsonl"
    cells.write_text("".join(canonical_json(Cell(trial=trial)) + "\n" for trial in (bad, good)))
    (tmp_path / "broken.py").write_text(BROKEN)
    restarts = ["--max-restarts", "1"] if len(broken) == 1 else []
    line = [*TWO[:-2], *restarts, str(tmp_path / "broken.py"), str(cells)]
    done = call(line, tmp_path / "out", PYTHONPATH=str(Path.cwd()), BROKEN=broken)
    assert done.returncode == 1
    assert {trial_id for trial_id, _, _ in values(tmp_path / "out")} == {good.id}
    failures = read(sorted((tmp_path / "out" / "failures").iterdir())).to_pylist()
    assert {(one["trial_id"], one["failure"]) for one in failures} == {(bad.id, "bug")}
    assert {one["reason"].splitlines()[-1] for one in failures} == {"KeyError: 'a page'"}


APART = """
import os, sys
import parrots.run as run

code = run.main([*sys.argv[1:], "--out", os.environ["OUT"] + os.environ["RANK"]])
sys.stdout.flush()
os._exit(code)
"""


def test_of_workers_with_disks_of_their_own_the_first_says_what_there_is_to_do(tmp_path):
    """The second has the record of a failed attempt at the first cell, which would come last, and that of the last cell."""
    trials = [make(seed=seed) for seed in range(3)]
    cells = tmp_path / "cells.jsonl"
    cells.write_text("".join(canonical_json(Cell(trial=trial)) + "\n" for trial in trials))
    assert call([*TWO, str(cells)], tmp_path / "undisturbed").returncode == 0
    failure(trials[0], ValueError(), Placement(tmp_path)).write(tmp_path / "out1")
    there = path_of(trials[2].id, tmp_path / "out1")
    there.parent.mkdir(parents=True)
    shutil.copy(path_of(trials[2].id, tmp_path / "undisturbed"), there)
    (tmp_path / "apart.py").write_text(APART)
    line = [*TWO[:-2], str(tmp_path / "apart.py"), str(cells)]
    done = call(line, tmp_path, PYTHONPATH=str(Path.cwd()), OUT=str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert values(tmp_path / "out0") == values(tmp_path / "undisturbed")


LATE = """
import os, sys
import parrots.run as run

code = run.main([*sys.argv[1:], *(["--begin-for", "1"] if os.environ["RANK"] == "1" else [])])
sys.stdout.flush()
os._exit(code)
"""


def test_where_it_is_late_for_one_worker_none_begins_another_cell(tmp_path):
    cells = tmp_path / "cells.jsonl"
    cells.write_text("".join(canonical_json(Cell(trial=make(steps=300, seed=seed))) + "\n" for seed in range(2)))
    (tmp_path / "late.py").write_text(LATE)
    done = call([*TWO[:-2], str(tmp_path / "late.py"), str(cells)], tmp_path / "out", PYTHONPATH=str(Path.cwd()))
    assert done.returncode == 0, done.stderr
    assert "1 cells left; the same command goes on" in done.stdout
    assert len(list((tmp_path / "out" / "records").iterdir())) == 1


MEET = """
import os, time
from pathlib import Path
from parrots.meeting import form, meet
from parrots.placement import Placement

form("gloo")
place = Placement(Path(), rank=int(os.environ["RANK"]), world=2)
for said in (None, "bug"):
    time.sleep(place.rank)
    met = meet(said if place.rank else None, "a trial", place)
    assert met == ([None, said], True), met
os._exit(0)
"""


def test_at_a_second_meeting_over_one_trial_nobody_hears_what_was_said_at_the_first(tmp_path):
    (tmp_path / "meet.py").write_text(MEET)
    env = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run([*TWO[:-2], str(tmp_path / "meet.py")], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr


DIES = """
import os, signal, sys
import parrots.run as run
from parrots.training import trainer

real, steps = trainer.micro_step, [0]

def micro_step(*args):
    steps[0] += 1
    if os.environ["RANK"] == "0" and steps[0] > 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args)

trainer.micro_step = micro_step
code = run.main(sys.argv[1:])
sys.stderr.flush()
os._exit(code)
"""


def test_a_worker_that_is_left_without_the_store_they_met_in_writes_why_and_ends(tmp_path):
    """Without torchrun the first worker holds it."""
    (tmp_path / "dies.py").write_text(DIES)
    (tmp_path / "cells.jsonl").write_text(canonical_json(Cell(trial=make())))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    line = [sys.executable, str(tmp_path / "dies.py"), str(tmp_path / "cells.jsonl"), "--out", str(tmp_path / "out")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    env |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    first, second = (subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env={**env, "RANK": rank}) for rank in "01")
    said = [process.communicate(timeout=120)[1] for process in (first, second)]
    assert (first.returncode, second.returncode) == (-signal.SIGKILL, 1), said
    assert "the same command goes on from here" in said[1]
    assert "Traceback" not in said[1]
    (lost,) = read((tmp_path / "out" / "failures").iterdir()).to_pylist()
    assert lost["failure"] == "infrastructure"
