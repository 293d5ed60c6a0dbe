"""Slurm's own end of a job's time, and clusters/slurm-ray.sbatch: one Ray over the nodes of a job."""

import pytest

from parrots.record import read

from ..conftest import make
from ..e2e.slurm import missing, started
from ..e2e.test_slurm import document

REASON = missing()
pytestmark = [pytest.mark.skipif(bool(REASON), reason=REASON), pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with started(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def test_two_minutes_before_its_time_is_up_a_job_is_queued_again_until_it_is_done(slurm, tmp_path):
    job = slurm.batch(tmp_path, "--array=3", "--time=3", "--", str(document(tmp_path, seeds=1, steps=100_000)))
    done = slurm.until(f"{job}_3", "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", seconds=900)
    log = (tmp_path / f"parrots-{job}-3.log").read_text()
    assert done["JobState"] == "COMPLETED", log
    assert int(done["Restarts"]) >= 1
    (row, *_) = read(sorted((tmp_path / "results" / "records").glob("*.parquet"))).to_pylist()
    assert (row["status"], row["attempt"]) == ("done", 1)
    assert not list((tmp_path / "results" / "failures").glob("*"))


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
