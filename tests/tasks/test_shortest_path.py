"""Graphs, queries and answers against networkx; scores against answers made by hand."""

import re
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from scipy.stats import chisquare

from parrots import graphs
from parrots.frozen import canonical
from parrots.tasks.shortest_path import PROBABILITY, ShortestPath
from parrots.tasks.task import Examples, Scores

ROOT = Path(__file__).parents[2]
KINDS = ["erdos_renyi", "regular", "barabasi_albert", "watts_strogatz"]
SMALL = ShortestPath(n_vertices=9, p=0.25, n_train=400, n_test=200)


def read(task: ShortestPath, examples: Examples):
    """Each example as its graph, s, t and path, with the layout checked."""
    n = task.n_labels
    words = task.vocabulary
    for row, answer, length in zip(examples.tokens_NS, examples.answer_N, examples.length_N, strict=True):
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
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "p", "labels"), [(5, 0.5, None), (9, 0.25, 10), (30, 0.1, 64), (64, 0.04, None)])
def test_the_answer_is_the_smallest_of_the_shortest_paths(split, kind, n, p, labels):
    task = ShortestPath(n_vertices=n, p=p, graph=kind, labels=labels, n_train=60, n_test=30)
    examples = task.make(split)
    assert examples.tokens_NS.shape[1] == task.seq_len
    assert examples.tokens_NS.max() < task.vocab_size == len(task.vocabulary)
    for graph, s, t, path in read(task, examples):
        assert s != t
        assert path == min(nx.all_shortest_paths(graph, s, t))
        assert not list(nx.selfloop_edges(graph))


def test_with_random_ties_each_shortest_path_comes_as_often():
    task = ShortestPath(n_vertices=7, p=0.4, n_train=20_000, ties="random")
    place = [0, 0]
    for graph, s, t, path in read(task, task.make("train").take(slice(6000))):
        paths = sorted(nx.all_shortest_paths(graph, s, t))
        if len(paths) == 2:
            place[paths.index(path)] += 1
    assert min(place) > 200
    assert chisquare(place).pvalue > 1e-3


def test_no_graph_that_is_tested_was_trained_on_whatever_its_kind():
    """Of 4 vertices and few edges there are few graphs, so chance alone would repeat some."""

    def seen(split, **kind):
        task = ShortestPath(**{"n_vertices": 4, "p": 0.4, "labels": 5, "n_train": 20_000, "n_test": 300} | kind)
        return {frozenset(graph.edges) for graph, *_ in read(task, task.make(split))}

    trained = seen("train")
    for kind in KINDS:
        tested = seen("test", graph=kind)
        assert len(tested) > 5
        assert not trained & tested
        assert trained & seen("train", graph=kind, data_seed=1)


def test_edges_are_as_many_as_their_probability_says():
    task = ShortestPath(n_vertices=30, p=0.1, n_train=4000)
    counts = np.array([graph.number_of_edges() for graph, *_ in read(task, task.make("train").take(slice(2000)))])
    pairs = 30 * 29
    assert counts.mean() == pytest.approx(pairs * 0.1, abs=4 * np.sqrt(pairs * 0.09 / 2000))
    assert counts.std() == pytest.approx(np.sqrt(pairs * 0.09), rel=0.1)


def drawn(**task) -> list[nx.DiGraph]:
    """Graphs of a kind, without vertices that have no token."""
    declared = ShortestPath(**{"n_vertices": 40, "p": 0.08, "n_train": 300} | task)
    return [graph for graph, *_ in read(declared, declared.make("train"))]


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_have_as_many_edges_as_each_other(kind):
    """p (n - 1) = 3.1 a vertex: 3 where it has to be whole, and of those a star's worth fewer by preferential attachment."""
    counts = np.array([graph.number_of_edges() for graph in drawn(graph=kind)])
    expected = {"erdos_renyi": 40 * 39 * 0.08, "barabasi_albert": 3 * 37}.get(kind, 3 * 40)
    assert counts.mean() == pytest.approx(expected, abs=4 * np.sqrt(40 * 39 * 0.08 * 0.92 / 300))
    assert (counts.std() > 5) == (kind == "erdos_renyi")


def test_vertices_of_a_regular_graph_have_equally_many_edges_out_and_any_set_of_heads():
    graphs = drawn(graph="regular")
    assert {degree for graph in graphs for _, degree in graph.out_degree} == {3}
    heads = np.bincount([v for graph in graphs for _, v in graph.edges], minlength=40)
    assert chisquare(heads).pvalue > 1e-3
    into = np.array([degree for graph in graphs for _, degree in graph.in_degree])
    assert into.var() == pytest.approx(3 * (1 - 3 / 39), rel=0.05)  # binomial


def test_preferential_attachment_is_that_of_networkx_with_each_edge_turned_by_a_coin():
    """Total degrees have the same tail, beyond what Erdos-Renyi graphs have."""

    def tail(graphs):
        degrees = np.array([sorted(dict(graph.degree).values()) for graph in graphs])
        return degrees[:, -1].mean(), degrees.var(1).mean(), degrees[:, 0].mean()

    mine = drawn(graph="barabasi_albert", n_train=1500)
    theirs = [nx.barabasi_albert_graph(40, 3, seed=i) for i in range(1500)]
    assert tail(mine) == pytest.approx(tail(theirs), rel=0.03)
    assert tail(mine)[0] > 1.3 * tail(drawn())[0]
    turned = np.mean([u < v for graph in mine for u, v in graph.edges])  # labels are random, so this says nothing of age
    assert turned == pytest.approx(0.5, abs=0.01)
    hub = [max(dict(graph.degree), key=dict(graph.degree).get) for graph in mine]
    outward = np.mean([graph.out_degree(v) / graph.degree(v) for graph, v in zip(mine, hub, strict=True)])
    assert outward == pytest.approx(0.5, abs=0.02)
    assert chisquare(np.bincount(hub, minlength=40)).pvalue > 1e-3


def test_without_rewiring_a_small_world_is_a_ring_lattice_and_with_it_all_heads_are_random():
    lattice = nx.DiGraph([(u, (u + j) % 40) for u in range(40) for j in (1, 2, 3)])
    assert nx.is_isomorphic(drawn(graph="watts_strogatz", rewiring=0.0, n_train=1)[0], lattice)
    spread = [
        np.mean([nx.transitivity(graph.to_undirected()) for graph in drawn(graph="watts_strogatz", rewiring=r, n_train=100)])
        for r in (0.0, 0.1, 1.0)
    ]
    assert spread[0] == pytest.approx(nx.transitivity(lattice.to_undirected()))
    assert spread[0] > spread[1] + 0.05 > spread[2] + 0.2
    for graph in drawn(graph="watts_strogatz", rewiring=0.5):
        assert {degree for _, degree in graph.out_degree} == {3}


def test_labels_of_a_smaller_graph_are_any_of_those_that_there_are():
    task = ShortestPath(n_vertices=20, p=0.2, labels=40, n_train=2000)
    counts = np.zeros(40)
    for graph, s, t, _ in read(task, task.make("train")):
        used = [v for v, degree in graph.degree if degree]
        assert len(used) <= 20
        counts[s] += 1
        counts[t] += 1
    assert chisquare(counts).pvalue > 1e-3


def test_a_test_on_other_graphs_has_the_room_and_the_words_of_the_trained_model():
    trained = ShortestPath(n_vertices=50, n_train=10)
    for kind in KINDS:
        for n, p in ((50, None), (25, 0.12)):
            test = ShortestPath(n_vertices=n, p=p, graph=kind, labels=50, n_train=1)
            assert test.vocabulary == trained.vocabulary
            assert test.seq_len <= trained.seq_len


def test_room_is_kept_and_too_little_of_it_is_refused():
    plain = ShortestPath(n_vertices=30, p=0.1, n_train=2000)
    tight = ShortestPath(n_vertices=30, p=0.1, room=390, n_train=2000)
    made = tight.make("train")
    assert made.tokens_NS.shape[1] == tight.seq_len == 390 < plain.seq_len
    assert abs(made.length_N.mean() / plain.make("train").length_N.mean() - 1) < 0.005
    wide = ShortestPath(n_vertices=30, p=0.1, room=600, n_train=50)
    assert np.array_equal(wide.make("train").tokens_NS[:, : plain.seq_len], plain.make("train").tokens_NS[:50])
    with pytest.raises(ValueError, match="room=300: its graphs need 387; fewer tokens"):
        ShortestPath(n_vertices=30, p=0.1, room=300, n_train=1)


def test_queries_are_uniform_among_pairs_that_a_path_joins():
    """One graph, a path of four vertices with a chord: of its pairs each is asked as often."""
    out, level = np.zeros(graphs.MOST, np.uint64), np.zeros(graphs.MOST + 1, np.uint64)
    into = np.zeros(graphs.MOST, np.uint64)
    for u, v in ((0, 1), (1, 2), (2, 3), (0, 2)):
        out[u] |= np.uint64(1 << v)
        into[v] |= np.uint64(1 << u)
    state = np.array([7], np.uint64)
    # of 380 pairs 5 are joined: both ways of drawing
    asked = [graphs.query(state, np.arange(20), into, level) for _ in range(6000)]
    pairs, counts = np.unique([s * 100 + d for s, d in asked], return_counts=True)
    # 0 to 1 and 2 are one edge off, 0 to 3 two; 1 to 2 one, 1 to 3 two; 2 to 3 one
    assert pairs.tolist() == [1, 2, 101, 102, 201]
    assert chisquare(counts, np.array([2, 1, 1, 1, 1]) * 1000).pvalue > 1e-3


def test_a_part_of_a_split_does_not_depend_on_its_size():
    longer = SMALL.model_copy(update={"n_train": 800})
    for short, part in zip(SMALL.make("train"), longer.make("train").take(slice(400)), strict=True):
        assert np.array_equal(short, part)


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


def test_what_cannot_be_is_one_line():
    with pytest.raises(ValueError, match="labels=20: at least n_vertices=30"):
        ShortestPath(n_vertices=30, labels=20, n_train=1)
    with pytest.raises(ValueError, match=r"rewiring=0\.5: graph=.regular. has none; watts_strogatz has"):
        ShortestPath(n_vertices=30, graph="regular", rewiring=0.5, n_train=1)


def test_new_fields_at_their_defaults_rename_nothing():
    assert canonical(SMALL) == {"kind": "shortest_path", "n_vertices": 9, "p": 0.25, "n_train": 400, "n_test": 200}


def test_graphs_that_cannot_be_held_out_are_an_error_and_no_endless_search():
    """Complete graphs are one graph, which is either trained on or tested."""
    task = ShortestPath(n_vertices=4, p=1 - 1e-12, n_train=10)
    with pytest.raises(ValueError, match="n_vertices=4, p=1: no graph with a path for"):
        task.make("train")
        task.make("test")


@pytest.mark.parametrize("n", sorted(PROBABILITY))
def test_reachable_pairs_are_three_and_a_half_edges_apart(n):
    """On the supercritical branch: more edges bring pairs nearer. n = 25 never gets that far and is at its peak."""
    at, _, _ = graphs.lengths(1, n, PROBABILITY[n], 100_000)
    more, _, _ = graphs.lengths(1, n, 1.15 * PROBABILITY[n], 20_000)
    fewer, _, _ = graphs.lengths(1, n, 0.85 * PROBABILITY[n], 20_000)
    assert more < at
    if n == 25:
        assert fewer < at < 3.5
    else:
        assert at == pytest.approx(3.5, abs=0.004)  # five standard errors
        assert fewer > at


@pytest.mark.parametrize("n", [30, 50])
def test_the_edge_probability_is_that_of_the_mean_over_pairs_and_not_over_graphs(n):
    """Either mean is 3.5 where a line through a million graphs says so, of other seeds than the table's."""
    p = PROBABILITY[n] * np.linspace(0.99, 1.01, 10)
    means = [graphs.lengths(1000 + i, n, one, 100_000)[:2] for i, one in enumerate(p)]
    slopes, offsets = np.polyfit(p, means, 1)
    over_pairs, over_graphs = (3.5 - offsets) / slopes
    assert PROBABILITY[n] == pytest.approx(over_pairs, rel=6e-4)
    assert abs(over_graphs / PROBABILITY[n] - 1) > 1e-3


def test_the_edge_probabilities_are_those_of_the_committed_table():
    lines = (ROOT / "benchmarks" / "results" / "path_lengths.md").read_text().splitlines()
    rows = [line.split("|")[1:] for line in lines if re.match(r"\| \d", line)]
    assert {int(row[0]): float(row[1]) for row in rows} == PROBABILITY
    for row in rows:  # and of no other reading
        assert all(abs(float(p) / float(row[1]) - 1) > 1e-3 for p in row[5:-1] if p.strip() != "never")
