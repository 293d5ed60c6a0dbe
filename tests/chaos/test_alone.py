"""Kills at the worst moments, a full disk and a silent MLflow: what is on the disk is whole, and nothing is counted twice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from parrots.frozen import canonical_json
from parrots.record import read
from parrots.training import checkpoint
from sweeps.spec import find

from .conftest import Here, wait_for

DIES = """
import os, signal, sys
import parrots.run as run
import parrots.atomic, parrots.record, parrots.training.checkpoint as checkpoint

count = int(os.environ["DIES_AT"])


def dies(real):
    def instead(*args, **kwargs):
        global count
        count -= 1
        if not count:
            before(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return instead


def before(*args):
    "Half of the bytes, where there is a file to write them to."
    if hasattr(args[-1], "write"):
        args[-1].write(b"half a file")
        args[-1].flush()


match sys.argv.pop(1):
    case "shards":
        checkpoint.dcp.save = dies(checkpoint.dcp.save)
    case "marker":
        checkpoint.digest = dies(checkpoint.digest)
    case "record":
        parrots.record.pq.write_table = dies(parrots.record.pq.write_table)
    case "name of the record":
        parrots.atomic.os.replace = dies(parrots.atomic.os.replace)
sys.exit(run.main(sys.argv[1:]))
"""
ROOT = str(Path(__file__).parents[2])
RUN = [sys.executable, "-m", "parrots.run"]


@pytest.fixture
def cells(here) -> Path:
    path = here.folder / "cells.jsonl"
    found = find(str(here.folder / "six.py"), "alone").cells
    path.write_text("".join(canonical_json(cell) + "\n" for cell in (*found[:1], *found[-1:])))
    return path


def call(line: list[str], cells: Path, out: Path, *more: str, **env: str) -> subprocess.CompletedProcess:
    command = [*line, str(cells), "--out", str(out), "--checkpoint-every", "0.1", *more]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT, **env}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)


def only(undisturbed: dict, here: Here) -> dict:
    done = here.records()
    assert len(done) == 2
    return {key: value for key, value in undisturbed.items() if key[0] in done}


@pytest.mark.parametrize(
    ("where", "at"), [("shards", 3), ("marker", 7), ("record", 1), ("record", 2), ("name of the record", 9)]
)
def test_a_kill_in_the_middle_of_writing_leaves_what_was_there_before(here, cells, undisturbed, where, at):
    (here.folder / "dies.py").write_text(DIES)
    dying = [sys.executable, str(here.folder / "dies.py"), where]
    done = call(dying, cells, here.results, "--checkpoint-every", "0", DIES_AT=str(at))  # as often as it can be asked
    assert done.returncode == -signal.SIGKILL, done.stderr
    for folder in (here.results / "checkpoints").glob("*"):
        assert all(checkpoint.is_whole(one) for one in folder.iterdir() if (one / checkpoint.MARKER).exists())
    read((here.results / "records").glob("*.parquet"))
    done = call(RUN, cells, here.results)
    assert done.returncode == 0, done.stderr
    assert here.values() == only(undisturbed, here)
    assert not list((here.results / "checkpoints").glob("*/*"))


@pytest.mark.parametrize("times", [1, 2])
def test_sigterm_writes_a_checkpoint_and_the_next_call_goes_on_from_it(here, cells, undisturbed, times):
    """Twice at once too, as Slurm's own and a script's."""
    command = [*RUN, str(cells), "--out", str(here.results)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    wait_for(lambda: list((here.results / "data").glob("*/*")) or list((here.results / "data").glob("*")))
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    assert call(RUN, cells, here.results).returncode == 0
    assert here.values() == only(undisturbed, here)


@pytest.fixture
def small_disk(tmp_path):
    """A folder with 1 MiB in all."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("a small tmpfs cannot be mounted here (that needs root)")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_loses_no_record_and_breaks_none(here, cells, undisturbed, small_disk):
    """The disk fills up with the first cell's data; then there is room again."""
    here.results = small_disk
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(2**20 - 30_000))
    done = call(RUN, cells, small_disk)
    assert done.returncode == 1
    assert "No space left on device" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    read((small_disk / "records").glob("*.parquet"))
    ballast.unlink()
    done = call(RUN, cells, small_disk, "--keep", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert here.values() == only(undisturbed, here)
    assert not list(small_disk.glob("*/.*.tmp"))


def test_with_mlflow_down_all_the_time_it_is_mirrored_afterwards_and_once(here, undisturbed):
    from mlflow import MlflowClient

    from sweeps.tracking import store_uri

    down = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
    code, said = here.run("--scale", "alone", **down)
    assert code == 0, said
    assert "MLflow lacks some of this" in said
    assert here.values() == undisturbed
    for _ in range(2):
        code, said = here.run("--scale", "alone")
        assert code == 0, said
        assert "MLflow lacks" not in said
    client = MlflowClient(store_uri(here.results))
    runs = client.search_runs([client.get_experiment_by_name("parrots/phonebook").experiment_id])
    assert sorted(run.data.tags["trial_id"] for run in runs) == sorted(here.records())
    for run in runs:
        points = client.get_metric_history(run.info.run_id, "loss")
        wanted = [key[2] for key in undisturbed if key[:2] == (run.data.tags["trial_id"], "loss")]
        assert [point.step for point in points] == wanted
