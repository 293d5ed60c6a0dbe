"""clusters/slurm.sbatch under Slurm: an array of jobs shares out the cells, one out of time is queued again, and one that is
cancelled is not. And clusters/slurm-ray.sbatch: one Ray over the nodes of a job."""

import time
from pathlib import Path

import pytest

from parrots.record import read
from sweeps.spec import find

from ..conftest import make
from ..object_store import CREDENTIALS, Server
from .slurm import missing, started

REASON = missing()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with started(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def document(folder: Path, seeds: int, **training) -> Path:
    base = make(**training).model_dump()
    path = folder / "mine.py"
    path.write_text(
        '"""Mine."""\nfrom sweeps.spec import Sweep, grid, union\n'
        f"def sweep(scale):\n    return Sweep(cells=union(grid({base!r}, {{'seed': range({seeds})}})), keep='none')\n"
    )
    return path


def training(folder: Path, log: Path) -> None:
    """Wait until a job trains."""
    end = time.monotonic() + 240
    while not (folder / "results" / "records").exists():  # made when all was read, before the first cell
        assert time.monotonic() < end, log.read_text() if log.exists() else "no log"
        time.sleep(0.1)
    time.sleep(10)  # some steps


def test_an_array_shares_out_the_cells_and_none_is_run_twice(slurm, tmp_path):
    path = document(tmp_path, seeds=3)
    job = slurm.batch(tmp_path, "--array=3-4", "--wait", "--", str(path), "--where", "seed < 3")
    told = [(tmp_path / f"parrots-{job}-{number}.log").read_text() for number in (3, 4)]
    assert [slurm.state(f"{job}_{number}")["JobState"] for number in (3, 4)] == ["COMPLETED", "COMPLETED"], told
    assert ["2 cells, 0 have" in told[0], "1 cells, 0 have" in told[1]] == [True, True]
    rows = read(sorted((tmp_path / "results" / "records").glob("*.parquet"))).to_pandas()
    assert set(rows["trial_id"]) == {cell.trial.id for cell in find(str(path)).cells}
    assert set(rows["sweep"]) == {"mine"}


def test_nodes_that_share_a_store_and_no_folder_run_nothing_twice(slurm, tmp_path):
    path, server = document(tmp_path, seeds=1), Server(tmp_path, slurm.address)
    try:
        slurm.environment |= CREDENTIALS | {"PARROTS_STORE": server.uri("sweeps")}
        for node, said in (("parrots21", "1 to run"), ("parrots22", "0 to run")):
            told = {"PARROTS_RESULTS": str(tmp_path / node)}
            slurm.environment |= told
            words = ("--array=0", "--gpus=0", f"--nodelist={node}", "--wait")
            job = slurm.batch(tmp_path, *words, "--", str(path))
            assert said in (tmp_path / f"parrots-{job}-0.log").read_text()
            assert len(list((tmp_path / node / "records").glob("*.parquet"))) == 1
    finally:
        for name in (*CREDENTIALS, "PARROTS_STORE", "PARROTS_RESULTS"):
            slurm.environment.pop(name, None)
        server.end()


def test_a_job_out_of_time_is_queued_again_and_goes_on_from_its_checkpoint(slurm, tmp_path):
    path = document(tmp_path, seeds=1, steps=20_000)
    job = slurm.batch(tmp_path, "--array=3", "--", str(path))
    log = tmp_path / f"parrots-{job}-3.log"
    training(tmp_path, log)
    slurm("scancel", "--signal=USR1", "--batch", f"{job}_3")  # as Slurm does two minutes before the end
    done = slurm.until(f"{job}_3", "COMPLETED", "FAILED", "CANCELLED")
    assert (done["JobState"], done["Restarts"]) == ("COMPLETED", "1"), log.read_text()
    (row, *_) = read(sorted((tmp_path / "results" / "records").glob("*.parquet"))).to_pylist()
    assert (row["status"], row["attempt"]) == ("done", 1)
    assert log.read_text().count("1 cells, 0 have") == 2, "one log tells of both"


def test_a_job_that_is_cancelled_leaves_its_checkpoint_and_is_not_queued_again(slurm, tmp_path):
    job = slurm.batch(tmp_path, "--array=3", "--", str(document(tmp_path, seeds=1, steps=10**6)))
    training(tmp_path, tmp_path / f"parrots-{job}-3.log")
    slurm("scancel", f"{job}_3")
    assert slurm.until(f"{job}_3", "CANCELLED", "COMPLETED", "PENDING")["Restarts"] == "0"
    assert list((tmp_path / "results" / "checkpoints").rglob("complete.json"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_minutes_before_its_time_is_up_a_job_is_queued_again_until_it_is_done(slurm, tmp_path):
    job = slurm.batch(tmp_path, "--array=3", "--time=3", "--", str(document(tmp_path, seeds=1, steps=100_000)))
    done = slurm.until(f"{job}_3", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", seconds=900)
    log = (tmp_path / f"parrots-{job}-3.log").read_text()
    assert done["JobState"] == "COMPLETED", log
    assert int(done["Restarts"]) >= 1
    (row, *_) = read(sorted((tmp_path / "results" / "records").glob("*.parquet"))).to_pylist()
    assert (row["status"], row["attempt"]) == ("done", 1)
    assert not list((tmp_path / "results" / "failures").glob("*"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_node_runs_the_line_and_the_first_one_the_sweep(slurm, tmp_path):
    base, path = make(steps=200).model_dump(), tmp_path / "mine.py"
    path.write_text(
        '"""Mine."""\nfrom sweeps.spec import Sweep, grid, union\nBASE = ' + repr(base) + "\n"
        "def sweep(scale):\n"
        "    cells = union(grid(BASE, {'seed': range(3)}), grid(BASE, {'seed': [9]}, workers=2))\n"
        "    return Sweep(cells=cells, keep='none')\n"
    )
    job = slurm.batch(tmp_path, "--nodes=3", "--wait", "--", str(path), "--slots", "3", file="slurm-ray.sbatch")
    log = (tmp_path / f"parrots-{job}.log").read_text()
    assert slurm.state(job)["JobState"] == "COMPLETED", log
    rows = read(sorted((tmp_path / "results" / "records").glob("*.parquet"))).to_pandas()
    assert len(set(rows["trial_id"])) == 4, log
    assert (rows["status"] == "done").all()
    assert (slurm.folder / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
