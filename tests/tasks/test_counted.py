"""What a plan is told of a task, beside its data."""

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
