"""Graphs, queries and answers against networkx; scores against answers made by hand."""

import networkx as nx
import numpy as np
import pytest
from scipy.stats import chisquare

from parrots import graphs
from parrots.tasks.shortest_path import PROBABILITY, ShortestPath
from parrots.tasks.task import Examples, Scores

SMALL = ShortestPath(n_vertices=9, p=0.25, n_train=400, n_test=200)


def read(task: ShortestPath, examples: Examples):
    """Each example as its graph, s, t and path, with the layout checked."""
    n = task.n_vertices
    words = task.vocabulary
    for row, answer, length in zip(*examples, strict=True):
        text = [words[token] for token in row]
        sep = text.index("<sep>")
        assert (text[0], text[answer - 1], text[length - 1]) == ("<bos>", "/", "<eos>")
        assert set(text[length:]) <= {"<pad>"}
        assert sep == answer - 4
        assert (sep - 1) % 3 == 0
        assert set(text[1:sep:3]) <= {"<edge>"}
        edges = [(int(row[i + 1]), int(row[i + 2])) for i in range(1, sep, 3)]
        assert len(set(edges)) == len(edges)
        graph = nx.DiGraph(edges)
        graph.add_nodes_from(range(n))
        yield graph, int(row[sep + 1]), int(row[sep + 2]), row[answer : length - 1].tolist()


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("n", "p"), [(5, 0.5), (9, 0.25), (30, 0.1), (64, 0.04)])
def test_the_answer_is_the_smallest_of_the_shortest_paths(split, n, p):
    task = ShortestPath(n_vertices=n, p=p, n_train=60, n_test=30)
    for graph, s, t, path in read(task, task.make(split)):
        assert s != t
        assert path == min(nx.all_shortest_paths(graph, s, t))


def test_with_random_ties_each_shortest_path_comes_as_often():
    task = ShortestPath(n_vertices=7, p=0.4, n_train=20_000, ties="random")
    place = [0, 0]
    for graph, s, t, path in read(task, task.make("train").take(slice(6000))):
        paths = sorted(nx.all_shortest_paths(graph, s, t))
        if len(paths) == 2:
            place[paths.index(path)] += 1
    assert min(place) > 200
    assert chisquare(place).pvalue > 1e-3


def test_no_graph_that_is_tested_was_trained_on():
    """Of 9 vertices and few edges there are few graphs, so chance alone would repeat some."""
    task = ShortestPath(n_vertices=4, p=0.3, n_train=3000, n_test=100)

    def seen(split):
        return {frozenset(graph.edges) for graph, *_ in read(task, task.make(split))}

    assert not seen("train") & seen("test")
    assert len(seen("test")) > 5


def test_edges_are_as_many_as_their_probability_says():
    task = ShortestPath(n_vertices=30, p=0.1, n_train=4000)
    counts = np.array([graph.number_of_edges() for graph, *_ in read(task, task.make("train").take(slice(2000)))])
    pairs = 30 * 29
    assert counts.mean() == pytest.approx(pairs * 0.1, abs=4 * np.sqrt(pairs * 0.09 / 2000))
    assert counts.std() == pytest.approx(np.sqrt(pairs * 0.09), rel=0.1)


def test_queries_are_uniform_among_pairs_that_a_path_joins():
    """One graph, a path of four vertices with a chord: of its pairs each is asked as often."""
    out, level = np.zeros(graphs.MOST, np.uint64), np.zeros(graphs.MOST + 1, np.uint64)
    into = np.zeros(graphs.MOST, np.uint64)
    for u, v in ((0, 1), (1, 2), (2, 3), (0, 2)):
        out[u] |= np.uint64(1 << v)
        into[v] |= np.uint64(1 << u)
    state = np.array([7], np.uint64)
    asked = [graphs.query(state, 20, into, level) for _ in range(6000)]  # of 380 pairs 6 are joined: both ways of drawing
    pairs, counts = np.unique([s * 100 + d for s, d in asked], return_counts=True)
    # 0 to 1 and 2 are one edge off, 0 to 3 two; 1 to 2 one, 1 to 3 two; 2 to 3 one
    assert pairs.tolist() == [1, 2, 101, 102, 201]
    assert chisquare(counts, np.array([2, 1, 1, 1, 1]) * 1000).pvalue > 1e-3


def test_a_part_of_a_split_does_not_depend_on_its_size():
    longer = SMALL.model_copy(update={"n_train": 800})
    for short, long in zip(SMALL.make("train"), longer.make("train"), strict=True):
        assert np.array_equal(short, long[:400])


def test_seeds_differ():
    other = SMALL.model_copy(update={"data_seed": 1})
    assert not np.array_equal(SMALL.make("train").tokens_NS, other.make("train").tokens_NS)


def test_the_loss_is_on_the_path_and_its_end():
    examples = SMALL.make("train")
    counted = SMALL.counted(examples)
    assert (counted.sum(1) == examples.length_N - examples.answer_N).all()
    for row, flags in zip(examples.tokens_NS, counted, strict=True):
        text = [SMALL.vocabulary[token] for token in row[flags]]
        assert text[-1] == "<eos>"
        assert all(word.isdigit() for word in text[:-1])


def measured(examples: Examples, decoded: np.ndarray) -> dict[str, float]:
    right = np.ones(examples.tokens_NS.shape, bool)
    scores = Scores(np.zeros(right.shape, np.float32), right, decoded)
    return {m.metric: m.value for m in SMALL.measure(examples, scores, 1)}


def test_any_shortest_path_is_valid_and_nothing_else_is():
    examples = SMALL.make("test")
    eos = SMALL.n_vertices + 2
    given, largest, longer, broken, endless = (np.full((200, SMALL.decoded), eos) for _ in range(5))
    ceiling = []
    for i, (graph, s, t, path) in enumerate(read(SMALL, examples)):
        paths = sorted(nx.all_shortest_paths(graph, s, t))
        ceiling.append(1 / len(paths))
        given[i, : len(path)] = path
        largest[i, : len(path)] = paths[-1]
        detour = next((p for p in nx.all_simple_paths(graph, s, t) if len(p) > len(path)), [t, s])
        longer[i, : len(detour)] = detour
        broken[i, : len(path)] = [s] * (len(path) - 1) + [t] if len(path) > 2 else [t, s]
        endless[i] = np.resize(path, SMALL.decoded)
    assert measured(examples, given)["valid_path"] == 1.0
    assert measured(examples, largest)["valid_path"] == 1.0
    assert measured(examples, given)["tie_ceiling"] == pytest.approx(np.mean(ceiling))
    assert 0.3 < np.mean(ceiling) < 1
    for wrong in (longer, broken, endless):
        assert measured(examples, wrong)["valid_path"] == 0.0


def test_a_size_that_is_not_calibrated_needs_a_probability():
    with pytest.raises(ValueError, match="n_vertices=24: give p; it is calibrated for 25, 30, 35, 40, 45, 50, 55"):
        ShortestPath(n_vertices=24, n_train=10)
    with pytest.raises(ValueError, match="less than or equal to 64"):
        ShortestPath(n_vertices=65, p=0.1, n_train=10)


def test_graphs_that_cannot_be_held_out_are_an_error_and_no_endless_search():
    """Complete graphs are one graph, which is either trained on or tested."""
    task = ShortestPath(n_vertices=4, p=1 - 1e-12, n_train=10)
    with pytest.raises(ValueError, match="n_vertices=4, p=1: no graph with a path for"):
        task.make("train")
        task.make("test")


@pytest.mark.parametrize("n", sorted(PROBABILITY))
def test_reachable_pairs_are_three_and_a_half_edges_apart(n):
    """On the supercritical branch: more edges bring pairs nearer. n = 25 never gets that far and is at its peak."""
    at, _, _ = graphs.lengths(1, n, PROBABILITY[n], 20_000)
    more, _, _ = graphs.lengths(1, n, 1.15 * PROBABILITY[n], 20_000)
    fewer, _, _ = graphs.lengths(1, n, 0.85 * PROBABILITY[n], 20_000)
    assert more < at
    if n == 25:
        assert fewer < at < 3.5
    else:
        assert at == pytest.approx(3.5, abs=0.02)
        assert fewer > at
