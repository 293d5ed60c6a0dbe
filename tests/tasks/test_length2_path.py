import tracemalloc

import networkx as nx
import numpy as np
import pytest

from parrots.tasks import length2_path
from parrots.tasks.length2_path import Length2Path
from parrots.tasks.task import Examples

N, DEGREE = 7, 2


@pytest.fixture(scope="module")
def task() -> Length2Path:
    return Length2Path(n_vertices=N, out_degree=DEGREE, n_train=400, train_queries=4, n_test=300)


def graph_and_queries(row: np.ndarray) -> tuple[nx.DiGraph, list[tuple[int, int, int]]]:
    row = row.astype(int)
    edges = row[1 : 1 + N * DEGREE]
    asked = row[2 + N * DEGREE :].reshape(-1, 3) - N * N - [0, N, 2 * N]
    return nx.DiGraph([divmod(int(edge), N) for edge in edges]), [tuple(map(int, q)) for q in asked]


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_answer_is_the_middle_of_the_one_path_of_two_edges(task, split):
    examples = task.make(split)
    for row in examples.tokens_NS:
        graph, queries = graph_and_queries(row)
        assert all(graph.out_degree(v) == DEGREE for v in graph)
        assert graph.number_of_edges() == N * DEGREE
        assert not list(nx.selfloop_edges(graph))
        assert len(set(queries)) == len(queries) == (4 if split == "train" else 1)
        for s, t, middle in queries:
            assert s != t
            assert [v for v in graph.successors(s) if graph.has_edge(v, t)] == [middle]


def test_edges_come_in_random_order(task):
    first = task.make("train").tokens_NS[:, 1]
    assert len(np.unique(first)) > N * DEGREE


def test_only_answers_count_and_a_test_prompt_ends_before_its_answer(task):
    train, test = task.make("train"), task.make("test")
    counted = task.counted(train)
    assert counted.sum(1).tolist() == [4] * 400
    assert (train.tokens_NS[counted] >= N * N + 2 * N).all()
    assert (test.answer_N == test.tokens_NS.shape[1] - 1).all()
    assert test.answers().sum(1).tolist() == [1] * 300
    assert np.array_equal(test.answers(), task.counted(test))


def test_tokens_stay_within_the_vocabulary_and_the_length(task):
    train = task.make("train")
    assert train.tokens_NS.max() < task.vocab_size
    assert train.tokens_NS.shape == (400, task.seq_len)


def test_training_and_test_graphs_differ(task):
    edges = [{row[1 : 1 + N * DEGREE].tobytes() for row in task.make(s).tokens_NS} for s in ("train", "test")]
    assert not edges[0] & edges[1]


def test_more_examples_begin_with_the_same_ones(task):
    longer = task.model_copy(update={"n_train": 500})
    assert np.array_equal(longer.make("train").tokens_NS[:400], task.make("train").tokens_NS)


def test_a_degree_that_leaves_no_graph_is_refused():
    with pytest.raises(ValueError, match="out_degree=5: less than n_vertices=5"):
        Length2Path(n_vertices=5, out_degree=5, n_train=1)
    with pytest.raises(ValueError, match="out_degree=4: at most n_vertices - 2 = 3; with every edge there, 3 paths join"):
        Length2Path(n_vertices=5, out_degree=4, n_train=1)
    with pytest.raises(ValueError, match="train_queries=21: at most 20"):
        Length2Path(n_vertices=5, n_train=1, train_queries=21)
    assert len(Length2Path(n_vertices=3, out_degree=2, n_train=5).make("train").tokens_NS) == 5


def test_graphs_are_worked_on_in_parts_that_change_nothing_and_bound_memory(monkeypatch):
    task = Length2Path(n_vertices=40, n_train=600, train_queries=4)
    monkeypatch.setattr(length2_path, "CHUNK", 512)

    def made(places: int) -> tuple[Examples, int]:
        monkeypatch.setattr(length2_path, "PLACES", places)
        tracemalloc.start()
        try:
            return task.make("train"), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    (whole, most), (parts, least) = made(512 * 40**2), made(7 * 40**2)
    assert np.array_equal(whole.tokens_NS, parts.tokens_NS)
    assert least < most / 4
