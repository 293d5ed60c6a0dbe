"""Graphs of one part or two, against networkx; and that nothing but the whole graph tells which."""

from collections import defaultdict

import networkx as nx
import numpy as np
import pytest

from parrots.execution import run_trial
from parrots.placement import Placement
from parrots.tasks.connectivity import Connectivity
from parrots.tasks.cycle import Cycle
from parrots.tasks.task import Scores

from ..conftest import make

TASKS = [
    Connectivity(n_vertices=10, n_train=400, n_test=200),
    Connectivity(n_vertices=32, mean_degree=3.0, n_train=100, n_test=60),
    Cycle(n_vertices=12, n_train=400, n_test=200),
    Cycle(n_vertices=64, n_train=100, n_test=60),
]


def read(task, examples):
    """Each example as its graph, the words between it and the answer, and the answer, with the layout checked."""
    for row, answer, length in zip(examples.tokens_NS, examples.answer_N, examples.length_N, strict=True):
        text = [task.vocabulary[token] for token in row]
        sep = text.index("<sep>")
        assert answer == length - 1
        assert text[0] == "<bos>"
        assert set(text[1:sep:3]) == {"<edge>"}
        assert set(text[length:]) <= {"<pad>"}
        graph = nx.Graph()
        graph.add_nodes_from(range(task.n_vertices))
        edges = [(int(row[i + 1]), int(row[i + 2])) for i in range(1, sep, 3)]
        graph.add_edges_from(edges)
        assert graph.number_of_edges() == len(edges)
        yield graph, [int(word) for word in text[sep + 1 : answer]], text[answer]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", TASKS)
def test_the_answer_is_that_of_networkx(task, split):
    examples = task.make(split)
    assert examples.tokens_NS.shape == (task.n_examples(split), task.seq_len)
    for graph, asked, said in read(task, examples):
        parts = sorted(map(len, nx.connected_components(graph)))
        if task.kind == "connectivity":
            assert parts == [task.n_vertices // 2] * 2
            s, t = asked
            assert s != t
            assert said == ("yes" if nx.has_path(graph, s, t) else "no")
        else:
            assert not asked
            assert {degree for _, degree in graph.degree} == {2}
            assert parts == ([task.n_vertices] if said == "one" else [task.n_vertices // 2] * 2)


@pytest.mark.parametrize("task", TASKS)
def test_answers_are_balanced_in_every_prefix(task):
    answers = [said for _, _, said in read(task, task.make("train"))]
    assert all(abs(2 * answers[:k].count(answers[0]) - k) <= 1 for k in range(1, len(answers)))


def test_neither_edges_nor_degrees_tell_whether_a_path_joins():
    """What a table of them, filled on one half of 8,000 graphs, says of the other half: next to nothing above 50 %."""
    task = Connectivity(n_vertices=20, n_train=8000)
    seen = defaultdict(list)
    for i, (graph, (s, t), said) in enumerate(read(task, task.make("train"))):
        degrees = dict(graph.degree)
        facts = {
            "edges": graph.number_of_edges(),
            "degrees": tuple(sorted((degrees[s], degrees[t]))),
            "largest": max(degrees.values()),
            "leaves": sum(degree == 1 for degree in degrees.values()),
            "s": s,
            "t": t,
        }
        for fact, value in facts.items():
            seen[fact].append((i % 4 < 2, value, said == "yes"))  # answers take turns
    for fact, rows in seen.items():
        votes = defaultdict(float)
        for first, value, yes in rows:
            if first:
                votes[value] += 1 if yes else -1
        right = np.mean([(votes[value] > 0) == yes for first, value, yes in rows if not first])
        assert right < 0.5 + 4 * 0.5 / np.sqrt(4000), fact


@pytest.mark.parametrize("task", TASKS)
def test_edges_come_in_random_order_and_from_either_end(task):
    examples = task.make("train")
    turned = np.mean(examples.tokens_NS[:, 2] < examples.tokens_NS[:, 3])
    assert turned == pytest.approx(0.5, abs=2 / np.sqrt(examples.n))
    first_in_largest = np.mean([row[2:4].max() == task.n_vertices - 1 for row in examples.tokens_NS])
    assert first_in_largest < 0.5


@pytest.mark.parametrize("task", [Connectivity(n_vertices=8, mean_degree=2.0, n_train=3000), Cycle(n_vertices=8, n_train=2000)])
def test_no_graph_that_is_tested_was_trained_on(task):
    """So few vertices that chance alone would repeat graphs."""
    trained, tested = ({frozenset(map(frozenset, g.edges)) for g, *_ in read(task, task.make(s))} for s in ("train", "test"))
    assert len(tested) > 3
    assert not trained & tested


@pytest.mark.parametrize("task", [TASKS[0], TASKS[2]])
def test_a_part_of_a_split_does_not_depend_on_its_size_and_seeds_differ(task):
    longer = task.model_copy(update={"n_train": 500}).make("train")
    assert np.array_equal(longer.tokens_NS[:400], task.make("train").tokens_NS)
    other = task.model_copy(update={"data_seed": 1}).make("train")
    assert not np.array_equal(other.tokens_NS, task.make("train").tokens_NS)


@pytest.mark.parametrize("task", [TASKS[0], TASKS[2]])
def test_the_loss_is_on_the_answer_and_so_is_the_score(task):
    test = task.make("test")
    counted = task.counted(test)
    assert counted.sum(1).tolist() == [1] * test.n
    assert np.array_equal(counted.argmax(1), test.answer_N)
    right = np.zeros(counted.shape, bool)
    right[: test.n // 4] = counted[: test.n // 4]
    exact = task.measure(test, Scores(np.zeros(counted.shape, np.float32), right), 1)[0]
    assert (exact.metric, exact.value, exact.n) == ("exact_match", 0.25, test.n)
    assert exact.stderr == pytest.approx(np.sqrt(0.25 * 0.75 / test.n))


@pytest.mark.parametrize("kind", ["connectivity", "cycle"])
def test_a_trial_leaves_its_scores(kind, tmp_path):
    record = run_trial(make(task={"kind": kind, "n_vertices": 10, "n_train": 100, "n_test": 40}), Placement(tmp_path))
    assert record.status == "done"
    assert {"exact_match", "test_loss"} <= {m.metric for m in record.measurements}


def test_what_cannot_be_is_one_line():
    for task in (Connectivity, Cycle):
        with pytest.raises(ValueError, match="n_vertices=9: has to be even"):
            task(n_vertices=9, n_train=1)
    with pytest.raises(ValueError, match=r"mean_degree=4.0: less than n_vertices / 2 - 1 = 4"):
        Connectivity(n_vertices=10, mean_degree=4.0, n_train=1)
    with pytest.raises(ValueError, match=r"mean_degree=2.5: less than n_vertices / 2 - 1 = 2 for n_vertices=6"):
        Connectivity(n_vertices=6, n_train=1)


@pytest.mark.parametrize(
    "task", [Connectivity(n_vertices=6, mean_degree=1.5, n_train=50, n_test=20), Cycle(n_vertices=8, n_train=50)]
)
def test_the_smallest_graphs_that_may_be_declared_are_enough_for_every_split(task):
    for split in ("train", "validation", "test"):
        assert len(task.make(split).tokens_NS) == task.n_examples(split)
