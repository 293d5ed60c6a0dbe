"""What a plan is told of a task, beside its data."""

import numpy as np
import pytest

from parrots.tasks import task_from

from ..conftest import BOOK, GRAPHS, PATH, SEQUENCES

SMALL = [
    BOOK,
    PATH,
    GRAPHS,
    SEQUENCES,
    {"kind": "connectivity", "n_vertices": 10, "n_train": 100, "n_test": 40},
    {"kind": "cycle", "n_vertices": 10, "n_train": 100, "n_test": 40},
    {"kind": "two_step", "n_vertices": 10, "n_train": 100, "n_test": 40},
    {"kind": "two_clusters", "n_tokens": 20},
]


@pytest.mark.parametrize("declared", SMALL, ids=lambda one: one["kind"])
def test_no_example_is_longer_or_counts_more_tokens_than_its_task_says(declared):
    task = task_from(declared)
    examples = task.make("train")
    counted_N = task.counted(examples).sum(1)
    assert counted_N.max() <= task.n_counted <= task.seq_len - 1
    assert examples.tokens_NS.shape[1] <= task.seq_len
    if declared["kind"] != "shortest_path":
        assert counted_N.max() == task.n_counted


@pytest.mark.parametrize("declared", SMALL, ids=lambda one: one["kind"])
def test_a_task_of_one_length_says_so(declared):
    task = task_from(declared)
    one = len(set(task.make("train").length_N.tolist())) == 1
    assert task.one_length == one


LONG = [
    {"kind": "shortest_path", "n_vertices": 5, "p": 0.36, "n_train": 3200},
    {"kind": "shortest_path", "n_vertices": 25, "n_train": 3200},
    {"kind": "shortest_path", "n_vertices": 50, "n_train": 3200},
    {"kind": "shortest_path", "n_vertices": 25, "graph": "barabasi_albert", "n_train": 3200},
    {"kind": "connectivity", "n_vertices": 10, "n_train": 3200},
    {"kind": "connectivity", "n_vertices": 40, "n_train": 3200},
]


@pytest.mark.parametrize("batch", [4, 32, 128])
@pytest.mark.parametrize("declared", LONG, ids=lambda one: f"{one['kind']}-{one['n_vertices']}")
def test_a_step_pads_to_what_its_task_expects(declared, batch):
    """Within 6 %: the plan's tokens, FLOPs and time are as far from a run's."""
    task = task_from(declared)
    length_N = task.make("train").length_N
    longest = [length_N[first : first + batch].max() for first in range(0, len(length_N) - batch + 1, batch)]
    assert task.padded_len(batch) == pytest.approx(np.median(longest), rel=0.06)
    assert task.padded_len(10**9) <= task.seq_len


@pytest.mark.parametrize("change", [{}, {"p": 1e-17}, {"p": 0.999}, {"n_vertices": 4}])
@pytest.mark.parametrize("batch", [1, 10**17, 10**400])
def test_a_step_has_a_length_whatever_is_declared(change, batch):
    task = task_from({"kind": "shortest_path", "n_vertices": 8, "p": 0.3, "n_train": 1} | change)
    assert 6 < task.padded_len(batch) <= task.seq_len


@pytest.mark.parametrize("declared", [one for one in SMALL if task_from(one).validated], ids=lambda one: one["kind"])
def test_what_validates_is_drawn_apart_from_what_is_trained_on_and_from_the_test(declared):
    """As many examples as the test has; hardly one of them stands in another split, chance aside where graphs are few."""
    task = task_from(declared)
    split = {name: {row.tobytes() for row in task.make(name).tokens_NS} for name in ("train", "test", "validation")}
    assert task.n_examples("validation") == task.n_examples("test")
    assert len(split["validation"] & split["test"]) <= 0.1 * len(split["validation"])
    assert len(split["validation"] & split["train"]) <= 0.1 * len(split["validation"])
