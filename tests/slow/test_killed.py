"""quickstart, killed three times and resumed: its report equals the undisturbed one's.

`python -m tests.slow.test_killed` does it with quickstart as it is, 25 minutes on two quiet cores, and prints what it
found; the test does it with 60 steps a cell.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from ..chaos.conftest import kill, session, wait_for
from ..conftest import processes

KILLS = 3
OF_THE_CLOCK = re.compile(r"written \d{4}-|Seconds that each of|\(plan\.|s of training over")
"""Lines of report.md that tell when, and how long it took."""
OF_A_GROUP = re.compile(r"^(\| \S+ \| \w+ \| 2 \| )([\d.,k]+)( \| \S+ \|)$", re.MULTILINE)
"""The row of a trial over two workers, with its seconds of training."""
TIMED = ["attempt", "started", "wall_s", "train_s"]
RUN = [str(Path(sys.executable).with_name("parrots")), "run", "quickstart", "--checkpoint-every", "2"]


def run(folder: Path, more: Sequence[str], kills: int) -> list[int]:
    """quickstart in a folder of its own, ended by so many SIGKILLs to its driver; returns the records that there were at each.

    The first comes as the first checkpoint is whole, the others when further records have been written since.
    """
    results, at = folder / "results", []
    folder.mkdir()
    for number in range(kills):
        with (folder / "said").open("a") as said:
            driver = subprocess.Popen([*RUN, *more], cwd=folder, stdout=said, stderr=said)
        before = len(list(results.glob("records/*.parquet")))
        wait_for(partial(moment, results, before + (8 if number else 0), driver), 1800)
        assert driver.poll() is None, (folder / "said").read_text()[-3000:]
        ray = session(results)
        kill(driver.pid)
        driver.wait()
        wait_for(lambda ray=ray: not processes("ray::ImplicitFunc", ray), 120)
        at.append(len(list(results.glob("records/*.parquet"))))
    done = subprocess.run([*RUN, *more], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return at


def moment(results: Path, records: int, driver: subprocess.Popen) -> bool:
    """Whether there are so many records, and a checkpoint to go on from; or the driver has ended, which it should not."""
    there = len(list(results.glob("records/*.parquet"))) >= records and any(results.glob("checkpoints/*/*/complete.json"))
    return there or driver.poll() is not None


def report(folder: Path) -> str:
    """report.md without what tells of the clock."""
    text = (folder / "results" / "reports" / "quickstart" / "report.md").read_text()
    text = OF_A_GROUP.sub(r"\1-\3", text)
    return "\n".join(line for line in text.splitlines() if not OF_THE_CLOCK.search(line))


def trials(folder: Path) -> pd.DataFrame:
    """trials.csv without the columns that tell of the clock."""
    table = pd.read_csv(folder / "results" / "reports" / "quickstart" / "trials.csv")
    return table.drop(columns=TIMED).sort_values("trial_id", ignore_index=True)


def compared(folder: Path, more: Sequence[str] = ()) -> str:
    """Run both and compare them; returns what to say of it."""
    began = time.monotonic()
    run(folder / "undisturbed", more, 0)
    took = time.monotonic() - began
    at = run(folder / "killed", more, KILLS)
    one, other = trials(folder / "undisturbed"), trials(folder / "killed")
    pd.testing.assert_frame_equal(one, other, check_exact=True)
    assert report(folder / "killed").splitlines() == report(folder / "undisturbed").splitlines()
    assert len(one) == len(list((folder / "killed" / "results" / "records").glob("*.parquet")))
    return (
        f"{len(one)} trials; killed when {', '.join(map(str, at))} had their record. All {one.shape[1]} columns of trials.csv "
        f"are equal but for the clock's, and so is report.md. Undisturbed {took:.0f} s, with kills "
        f"{time.monotonic() - began - took:.0f} s."
    )


@pytest.mark.timeout(3600)
def test_quickstart_killed_three_times_has_the_report_of_an_undisturbed_one(tmp_path):
    compared(tmp_path, ["--set", "steps=60", "--checkpoint-every", "0.2"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as here:
        print(compared(Path(here)))
