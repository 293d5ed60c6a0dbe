"""Each sweep of the paper at its smallest scale, from cells to verdicts; in one process, without Ray, which quickstart has."""

import resource

import pytest

from analysis.table import load, with_best_lr
from analysis.verdicts import family
from parrots import run
from parrots.frozen import canonical_json
from sweeps.spec import documents, find

# shift first: it has figure4b's models, and questions to them
NAMES = sorted(set(documents()) - {"quickstart"}, key=lambda name: (name != "shift", name))
MOST_S = 60  # CPU-seconds of a sweep
pytestmark = pytest.mark.timeout(1800)  # all of them take 75 CPU-seconds, and some minutes beside other jobs


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with the records of all of them, and the CPU-seconds that each took."""
    folder, took = tmp_path_factory.mktemp("smoke"), {}
    for name in NAMES:
        cells = folder / f"{name}.jsonl"
        cells.write_text("\n".join(map(canonical_json, find(name, "smoke").cells)))
        before = cpu_s()
        assert run.main([str(cells), "--out", str(folder), "--sweep", name]) == 0
        took[name] = cpu_s() - before
    return folder, took


def cpu_s() -> float:
    """CPU-seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", NAMES)
def test_the_smallest_scale_runs_and_each_claim_is_told_something(results, name):
    folder, took = results
    assert took[name] < MOST_S
    found = find(name, "smoke")
    frame = load(folder, [cell.trial.id for cell in found.cells])
    assert len(frame) == len(found.cells)
    assert (frame["status"] == "done").all()
    asked = {f"{one.name}/{metric}" for cell in found.cells for one in cell.evaluations for metric in one.task.metrics}
    assert frame[sorted(asked)].notna().all(axis=None)
    decisions = family(found.claims, with_best_lr(frame), frame)
    assert [decision.claim.name for decision in decisions] == [claim.name for claim in found.claims]
    assert all(decision.verdict and decision.evidence for decision in decisions)
