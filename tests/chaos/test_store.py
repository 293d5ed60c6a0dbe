"""Machines with disks of their own that end at the worst moment: another goes on from the store, to the same numbers."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parrots.frozen import canonical_json
from parrots.record import read
from parrots.spec import Cell
from parrots.training.checkpoint import MARKER
from sweeps.spec import find

from ..conftest import MOE, PATH, make, processes
from ..object_store import CREDENTIALS, SECRET
from .conftest import kill, session, wait_for
from .test_workers import STOP_AT, values

ROOT = str(Path(__file__).parents[2])
RUN = [sys.executable, "-m", "parrots.run"]
ENV = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, **CREDENTIALS}


@pytest.fixture
def there(s3, tmp_path) -> str:
    """The address of a store of this test's own, with the name of its folder."""
    return s3.uri(tmp_path.name)


def begin(cells: Path, out: Path, store: str, *line: str, **env: str) -> subprocess.Popen:
    command = [*(line or RUN), str(cells), "--out", str(out), "--store", store, "--checkpoint-every", "0.1"]
    env = {**os.environ, **ENV, **env}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)


def finish(process: subprocess.Popen) -> str:
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said


@pytest.fixture
def cells(here) -> Path:
    path = here.folder / "cells.jsonl"
    found = find(str(here.folder / "six.py"), "alone").cells
    path.write_text("".join(canonical_json(cell) + "\n" for cell in (*found[:1], *found[-1:])))
    return path


def test_a_machine_that_is_lost_costs_the_steps_since_its_checkpoint_in_the_store(
    s3, here, tmp_path, there, cells, undisturbed
):
    process = begin(cells, tmp_path / "lost", there)
    wait_for(lambda: [key for key in s3.keys(tmp_path.name) if key.endswith(MARKER)])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (_, trial_id, *_), *_ = (key.split("/") for key in s3.keys(tmp_path.name) if key.endswith(MARKER))
    shutil.rmtree(tmp_path / "lost")
    process = begin(cells, here.results, there)
    wait_for((here.results / "checkpoints" / trial_id).exists)
    finish(process)
    assert here.values() == {key: value for key, value in undisturbed.items() if key[0] in here.records()}
    kept = {
        f"{folder}/{i}.{end}" for i in here.records() for folder, end in (("records", "parquet"), ("weights", "safetensors"))
    }
    assert set(s3.keys(tmp_path.name)) == kept


def test_a_store_that_is_away_for_seconds_loses_nothing(s3, here, tmp_path, there, cells, undisturbed):
    process = begin(cells, here.results, there)
    for _ in range(2):
        wait_for(lambda: [key for key in s3.keys(tmp_path.name) if key.endswith(MARKER)])
        s3.pause()
        time.sleep(8)
        s3.go_on()
    finish(process)
    assert here.values() == {key: value for key, value in undisturbed.items() if key[0] in here.records()}
    assert len(here.records()) == 2
    assert not list((here.results / "failures").glob("*"))


def two(cells: Path, tmp_path: Path, names: tuple[str, str], store: str, line: list[str], **env: str) -> list[subprocess.Popen]:
    """Two workers of a group on machines of their own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **env}
    return [
        begin(cells, tmp_path / name, store, *line, RANK=str(rank), LOCAL_RANK="0", **group) for rank, name in enumerate(names)
    ]


@pytest.mark.parametrize("then", [2, 1])
def test_workers_on_machines_of_their_own_write_one_checkpoint_and_empty_machines_go_on_from_it(s3, tmp_path, there, then):
    trials = [make(steps=60), make({**MOE, "n_experts": 3}, task=PATH, steps=60)]
    cells = tmp_path / "cells.jsonl"
    cells.write_text("".join(canonical_json(Cell(trial=trial)) + "\n" for trial in trials))
    for process in two(cells, tmp_path, ("a", "b"), s3.uri(f"{tmp_path.name}-undisturbed"), RUN):
        finish(process)
    (tmp_path / "stop.py").write_text(STOP_AT)
    stopping = [sys.executable, str(tmp_path / "stop.py")]
    stopped_at = []
    for steps, names in (("3", ("c", "d")), ("4", ("e", "f"))):  # asked after every tenth step at the latest
        for process in two(cells, tmp_path, names, there, stopping, STEPS=steps):
            finish(process)
        found = [Path(key) for key in s3.keys(f"{tmp_path.name}/checkpoints/{trials[0].id}")]
        stopped_at.append(max(int(path.parent.name) for path in found))
        newest = {path.name for path in found if path.parent.name == str(stopped_at[-1])}
        assert newest == {".metadata", "__0_0.distcp", "__1_0.distcp", "curves.npz", MARKER}
    assert 0 < stopped_at[0] < stopped_at[1] < 60
    if then == 2:
        for process in two(cells, tmp_path, ("g", "h"), there, RUN):
            finish(process)
    else:
        finish(begin(cells, tmp_path / "g", there))
    one, other = values(tmp_path / "a"), values(tmp_path / "g")
    assert other == (one if then == 2 else pytest.approx(one, rel=1e-4, abs=1e-5))
    assert not list((tmp_path / "g" / "checkpoints").glob("*/*"))
    assert not [key for key in s3.keys(tmp_path.name) if key.startswith("checkpoints")]


SLOW = """
import os, sys, time
import parrots.run as run

real = run.catch_up

def catch_up(*args):
    time.sleep(2 * int(os.environ["RANK"]))
    real(*args)

run.catch_up = catch_up
code = run.main(sys.argv[1:])
sys.stdout.flush()
os._exit(code)
"""


def test_what_one_machine_of_a_group_had_before_is_not_run_again(s3, tmp_path, there):
    """The first has an empty disk, the second records that are not in the store yet, and is slower."""
    cells = tmp_path / "cells.jsonl"
    cells.write_text("".join(canonical_json(Cell(trial=make(seed=seed))) + "\n" for seed in range(3)))
    finish(begin(cells, tmp_path / "b", s3.uri(f"{tmp_path.name}-before")))
    (tmp_path / "slow.py").write_text(SLOW)
    first, second = two(cells, tmp_path, ("a", "b"), there, [sys.executable, str(tmp_path / "slow.py")])
    assert "3 cells, 3 have their record, 0 to run" in finish(first)
    finish(second)
    assert values(tmp_path / "a") == values(tmp_path / "b")


def test_a_new_head_with_an_empty_disk_resumes_the_sweep_from_the_store_alone(s3, here, tmp_path, there, undisturbed):
    driver = here.start("--scale", "alone", "--store", there, **CREDENTIALS)
    wait_for(lambda: here.records() and here.checkpoints())
    ours = here.folder, session(here.results)
    kill(driver.pid)
    here.finish(driver)
    wait_for(lambda: not processes("ray::ImplicitFunc", *ours), 60)
    before = {key for key in s3.keys(tmp_path.name) if key.startswith("records/")}
    assert 1 <= len(before) < 6
    written = {key: s3.read(f"{tmp_path.name}/{key}") for key in before}
    here.results.rename(here.folder / "lost")
    code, said = here.run("--scale", "alone", "--store", there, **CREDENTIALS)
    assert code == 0, said
    assert here.values() == undisturbed
    assert {key: s3.read(f"{tmp_path.name}/{key}") for key in before} == written
    assert "Traceback" not in said
    everything = [s3.read(f"{tmp_path.name}/{key}") for key in s3.keys(tmp_path.name)]
    everything += [path.read_bytes() for path in here.folder.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in one for one in (said.encode(), *everything))

    def parrots(*words: str) -> str:
        command = [str(Path(sys.executable).with_name("parrots")), *words]
        done = subprocess.run(command, cwd=tmp_path, env={**os.environ, **CREDENTIALS}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "6" in parrots("status", "six", "--results", "home", "--store", there).splitlines()[-1].split()
    assert "6 records in other" in parrots("pull", there, "--results", "other", "--weights")
    assert len(list((tmp_path / "other" / "weights").glob("*.safetensors"))) == 6
    parrots("report", "six", "--results", "other")


def test_a_run_against_a_store_that_is_not_there_begins_nothing(here):
    code, said = here.run(
        "--scale", "alone", "--store", "s3://parrots/r?scheme=http&endpoint_override=127.0.0.1:9", **CREDENTIALS
    )
    assert code == 2
    (line,) = said.splitlines()
    assert line.startswith("error: store s3://parrots/r")
    assert not (here.results / "sweeps" / "six").exists()
    assert not list((here.results / "tune").iterdir())


def test_retried_cells_are_retried_for_every_machine(s3, here, tmp_path, there):
    """Their earlier attempts are out of the way in the store too."""
    (here.results / "data").mkdir(parents=True)
    words = ("--scale", "alone", "--where", "seed == 0", "--where", "n_experts == 1", "--store", there)
    trial_id = find(str(here.folder / "six.py"), "alone").cells[0].trial.id
    blocked = here.results / "weights" / f"{trial_id}.safetensors"
    blocked.mkdir(parents=True)
    code, _ = here.run(*words, **CREDENTIALS)
    assert code == 1
    assert [key for key in s3.keys(tmp_path.name) if key == f"failures/{trial_id}-1.parquet"]
    blocked.rmdir()
    command = [str(Path(sys.executable).with_name("parrots")), "retry", "six", "--store", there]
    done = subprocess.run(command, cwd=here.folder, env={**os.environ, **CREDENTIALS}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    keys = s3.keys(tmp_path.name)
    assert f"records/{trial_id}.parquet" in keys
    assert not [key for key in keys if key.startswith("failures/") and "retried" not in key]
    assert read([here.results / "records" / f"{trial_id}.parquet"])["attempt"][0].as_py() == 1
