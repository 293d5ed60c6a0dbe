from itertools import product

import networkx as nx
import numpy as np
import pytest
import torch

from parrots.theory import bottleneck, length2
from parrots.theory.check import generator


def reachable_in_two(edge_VV: np.ndarray) -> bool:
    """By walking, knowing nothing of adjacency matrices."""
    graph = nx.from_numpy_array(edge_VV)
    last = len(edge_VV) - 1
    return any(graph.has_edge(0, v) and graph.has_edge(v, last) for v in range(1, last))


def test_width_v_transformer_answers_every_graph_on_six_vertices():
    graphs = length2.all_graphs(6)
    assert len(graphs) == len({graph.numpy().tobytes() for graph in graphs}) == 2**15
    said = length2.build(6)(length2.tokens(graphs))
    edge_BVV = graphs.numpy()
    expected = [any(e[0, v] and e[v, 5] for v in range(1, 5)) for e in edge_BVV]
    assert said.tolist() == expected


@pytest.mark.parametrize("V", [3, 4, 7, 9])
def test_every_subset_of_edges_of_s_and_d_is_answered(V):
    graphs = length2.all_neighbourhoods(V)
    assert len(graphs) == 4 ** (V - 2)
    assert length2.wrong(length2.build(V), graphs) == 0


def test_random_graphs_are_answered_as_by_walking_and_half_have_a_path():
    graphs = length2.random_graphs(400, 64, generator(0))
    expected = [reachable_in_two(graph.numpy().astype(int)) for graph in graphs]
    assert length2.joined(graphs).tolist() == expected
    assert length2.build(64)(length2.tokens(graphs)).tolist() == expected
    assert 0.4 < np.mean(expected) < 0.6


@pytest.mark.parametrize("threshold", [0.5, 0.99, 2.01, 2.5])
def test_threshold_one_off_fails(threshold):
    assert length2.wrong(length2.build(6, threshold), length2.all_graphs(6)) > 0


@pytest.mark.parametrize("name", ["embedding_TD", "value_DD", "in_FD", "out_F"])
def test_a_weight_that_is_missing_is_noticed(name):
    network = length2.build(6)
    getattr(network, name)[3] = 0
    assert length2.wrong(network, length2.all_graphs(6)) > 0


def test_attention_is_that_of_torch_and_uniform_without_query_and_key():
    draw = generator(0, 1)
    x_BSD, query, key, value = (torch.randn(*shape, generator=draw) for shape in ((5, 7, 4), (4, 4), (4, 4), (4, 4)))
    expected = torch.nn.functional.scaled_dot_product_attention(x_BSD @ query, x_BSD @ key, x_BSD @ value)[:, -1]
    assert torch.allclose(length2.attend_last(x_BSD, query, key, value), expected, atol=1e-5)
    zero = torch.zeros(4, 4)
    assert torch.allclose(length2.attend_last(x_BSD, zero, zero, torch.eye(4)), x_BSD.mean(1), atol=1e-6)


def test_tokens_tell_only_the_edges_of_s_and_d():
    graphs = length2.all_graphs(5)
    others = graphs.clone()
    others[:, 1:-1, 1:-1] = False
    assert torch.equal(length2.tokens(graphs), length2.tokens(others))


def test_width_is_the_number_of_vertices_and_counts_are_of_tensors():
    network = length2.build(8)
    assert network.width == 8
    assert network.total == 4 * 8**2 + 2 * 8


def best_read_out_by_counting(embedding_VW: np.ndarray) -> float:
    seen = {}
    V = len(embedding_VW)
    for a, b in product(product((0, 1), repeat=V), repeat=2):
        key = tuple((np.add(a, b) @ embedding_VW).tolist())
        seen.setdefault(key, [0, 0])[bool(np.dot(a, b))] += 1
    return sum(map(min, seen.values())) / 4**V


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_least_wrong_is_that_of_a_majority_among_those_that_look_alike(width):
    embedding_VW = np.random.default_rng(width).integers(0, 3, (4, width))
    assert bottleneck.least_wrong(embedding_VW) == best_read_out_by_counting(embedding_VW)


def test_width_v_loses_nothing_and_one_coordinate_less_does():
    eye = np.eye(6, dtype=int)
    assert bottleneck.least_wrong(eye) == 0
    shared = eye[:, :5].copy()
    shared[5, 0] = 1
    assert bottleneck.least_wrong(shared) > 0


@pytest.mark.parametrize("V", [16, 64, 4096])
def test_matched_layers_have_equal_parameters_and_the_crossing_is_one(V):
    assert bottleneck.widest(V, 1) == pytest.approx(V)
    m, K = bottleneck.widest(V, 10), 10
    assert 3 * m**2 + K * (m**2 + 2 * m) + m * K == pytest.approx(length2.build(V).total if V < 100 else 4 * V**2 + 2 * V)
    limit = bottleneck.too_many(V)
    assert bottleneck.widest(V, limit) < bottleneck.needed(V) <= bottleneck.widest(V, limit - 1)


def test_fewer_than_three_vertices_are_refused():
    with pytest.raises(ValueError, match="V=2"):
        length2.build(2)
