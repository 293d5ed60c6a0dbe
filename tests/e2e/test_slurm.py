"""clusters/slurm.sbatch as Slurm runs it: an array of jobs shares out the cells, and one out of time is queued again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from parrots.record import read
from sweeps.spec import find

from ..conftest import make

HERE = Path(__file__).parents[2]


def document(folder: Path, seeds: int, **training) -> Path:
    base = make(**training).model_dump()
    path = folder / "mine.py"
    path.write_text(
        '"""Mine."""\nfrom sweeps.spec import Sweep, grid, union\n'
        f"def sweep(scale):\n    return Sweep(cells=union(grid({base!r}, {{'seed': range({seeds})}})), keep='none')\n"
    )
    return path


def job(folder: Path, number: int, count: int, *words: str, **env: str) -> subprocess.Popen[str]:
    """One job of the array, with a `scontrol` that writes down what it is asked."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {folder}/scontrol\n')
    (tools / "parrots").write_text(f'#!/bin/sh\nexec {sys.executable} -m sweeps.cli "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    told = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(3 + number), "SLURM_ARRAY_TASK_MIN": "3"}
    told |= {"SLURM_ARRAY_TASK_COUNT": str(count), "SLURM_SUBMIT_DIR": str(folder)}
    told |= {"PARROTS_RESULTS": str(folder / "results"), "PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": str(HERE)}
    command = ["bash", str(HERE / "clusters" / "slurm.sbatch"), *words]
    return subprocess.Popen(command, env=os.environ | told | env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_an_array_shares_out_the_cells_and_none_is_run_twice(tmp_path):
    path = document(tmp_path, seeds=3)
    jobs = [job(tmp_path, number, 2, str(path), "--where", "seed < 3") for number in range(2)]
    told = [one.communicate(timeout=240)[0] for one in jobs]
    assert [one.returncode for one in jobs] == [0, 0], told
    assert ["2 cells, 0 have" in told[0], "1 cells, 0 have" in told[1]] == [True, True]
    rows = read(sorted((tmp_path / "results" / "records").glob("*.parquet"))).to_pandas()
    assert set(rows["trial_id"]) == {cell.trial.id for cell in find(str(path)).cells}
    assert set(rows["sweep"]) == {"mine"}
    assert not (tmp_path / "scontrol").exists()


def test_nodes_that_share_a_store_and_no_folder_run_nothing_twice(tmp_path, s3, credentials):
    path, uri = document(tmp_path, seeds=1), s3.uri(tmp_path.name)
    for node, said in (("one", "1 to run"), ("another", "0 to run")):
        shared = job(tmp_path, 0, 1, str(path), PARROTS_STORE=uri, PARROTS_RESULTS=str(tmp_path / node))
        told, _ = shared.communicate(timeout=240)
        assert shared.returncode == 0, told
        assert said in told
        assert len(list((tmp_path / node / "records").glob("*.parquet"))) == 1


def test_a_job_out_of_time_writes_its_checkpoint_and_is_queued_again(tmp_path):
    path = document(tmp_path, seeds=1, steps=100_000)
    one = job(tmp_path, 0, 1, str(path))
    started = tmp_path / "results" / "records"  # made when all was read, before the first cell
    end = time.monotonic() + 240
    while not started.exists():
        assert one.poll() is None, one.stdout.read()
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(5)  # some steps
    one.send_signal(signal.SIGUSR1)
    told, _ = one.communicate(timeout=120)
    assert one.returncode == 130, told
    assert (tmp_path / "scontrol").read_text() == "requeue 7_3\n"
    assert list((tmp_path / "results" / "checkpoints").rglob("complete.json"))
