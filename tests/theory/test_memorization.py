from dataclasses import fields, replace
from itertools import pairwise

import pytest
import torch

from parrots.theory import memorization as built
from parrots.theory import precision, tails
from parrots.theory.check import generator

N = 500


@pytest.fixture(scope="module")
def data():
    return built.sequences(N, 3, tails.width_for(N), generator(0, 1))


def alone(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.int64)


def test_relu_network_labels_every_gaussian_sequence(data):
    x_BD, y_B = data[0][:, 0], data[1]
    output_B = built.relu_network(x_BD, y_B)(x_BD, alone(N))
    assert torch.equal(output_B.sign(), y_B)
    # nothing leaks here: an output is exactly the label times s = D / 2
    assert torch.allclose(output_B, y_B * x_BD.shape[1] / 2, atol=1e-3)


def test_relu_network_of_another_variance_labels_too(data):
    x_BD, y_B = data[0][:, 0] / 10, data[1]
    assert built.wrong(built.relu_network(x_BD, y_B, 0.01)(x_BD, alone(N)), y_B) == 0
    assert built.wrong(built.relu_network(x_BD, y_B, 1.0)(x_BD, alone(N)), y_B) > 0


def test_a_width_far_below_32_ln_n_mislabels():
    x_BSD, y_B = built.sequences(N, 1, 12, generator(0, 2))
    assert built.wrong(built.relu_network(x_BSD[:, 0], y_B)(x_BSD[:, 0], alone(N)), y_B) > 0


def test_dense_transformer_labels_by_the_mean_of_the_tokens(data):
    x_BSD, y_B = data
    network = built.transformer(x_BSD, y_B)
    assert built.wrong(network(x_BSD), y_B) == 0
    assert torch.allclose(network(x_BSD.flip(1)), network(x_BSD), atol=1e-3)
    turned = replace(network.attention, value_DD=-network.attention.value_DD)
    assert built.wrong(replace(network, attention=turned)(x_BSD), y_B) == N


@pytest.mark.parametrize("router", [built.gaussian_router, built.unit_router])
@pytest.mark.parametrize("K", [1, 7, 22, 600])
def test_moe_of_random_router_labels_every_gaussian_sequence(data, router, K):
    x_BSD, y_B = data
    network = built.transformer(x_BSD, y_B, router(K, x_BSD.shape[2], generator(0, 3, K)))
    assert torch.equal(network(x_BSD).sign(), y_B)
    assert built.wrong(network(x_BSD), -y_B) == N


def test_a_sequence_at_another_expert_is_mislabelled(data):
    x_BSD, y_B = data
    network = built.transformer(x_BSD, y_B, built.gaussian_router(8, x_BSD.shape[2], generator(0, 4)))
    assert built.wrong(replace(network, router_ED=network.router_ED.roll(1, 0))(x_BSD), y_B) > N / 4


def test_experts_are_their_sequences_alone(data):
    x_BSD, y_B = data
    network = built.transformer(x_BSD, y_B, built.gaussian_router(9, x_BSD.shape[2], generator(0, 5)))
    mean_BD = x_BSD.mean(1)
    expert_B = (mean_BD @ network.router_ED.T).argmax(1)
    for expert in range(9):
        mine = mean_BD[expert_B == expert]
        assert torch.allclose(network.experts.in_EFD[expert, : len(mine)], mine, atol=1e-5)
        assert not network.experts.in_EFD[expert, len(mine) :].any()


def test_active_parameters_count_what_is_built(data):
    x_BSD, y_B = data
    D = x_BSD.shape[2]
    network = built.transformer(x_BSD, y_B, built.gaussian_router(20, D, generator(0, 6)))
    tensors = [network.router_ED, *(getattr(network.experts, field.name) for field in fields(network.experts))]
    assert network.total == sum(tensor.numel() for tensor in tensors)
    load = int(network.route(x_BSD.mean(1)).bincount().max())
    assert network.active == 20 * D + load * (D + 2)
    dense = built.transformer(x_BSD, y_B)
    assert dense.total == dense.active == N * (D + 2)


def test_zero_and_nan_are_wrong_labels():
    output = torch.tensor([1.0, -1.0, 0.0, float("nan")])
    assert built.wrong(output, torch.tensor([1.0, 1.0, 1.0, 1.0])) == 3


def test_spread_is_what_loops_find():
    x_BSD, y_B = built.sequences(40, 1, 9, generator(0, 7))
    x = x_BSD[:, 0].double()
    found = tails.spread(x_BSD[:, 0], y_B)
    inner = [float((x[i] @ x[j]).abs()) / 9 for i in range(40) for j in range(i)]
    leaks = sum(bool(x[i] @ x[j] > x[i] @ x[i] - 4.5) for i in range(40) for j in range(40) if i != j)
    assert found.largest_inner == pytest.approx(max(inner), rel=1e-5)
    assert found.smallest_norm == pytest.approx(min(float(v @ v) / 9 for v in x), rel=1e-5)
    assert found.leaks == leaks > 0


def test_bounds_of_norms_and_inner_products_are_seldom_exceeded_and_not_idle():
    n, D, broken = 200, 60, 0
    low, high = tails.norm_bounds(n, D, 0.5)
    for k in range(40):
        x_BSD, y_B = built.sequences(n, 1, D, generator(0, 8, k))
        found = tails.spread(x_BSD[:, 0], y_B)
        broken += found.smallest_norm < low or found.largest_norm > high
        assert 0.5 < found.largest_inner / tails.inner_bound(n, D) < 1
        assert found.largest_norm > 0.6 * high
    assert broken < 20


def test_hoeffding_holds_for_even_chances_and_is_the_published_number():
    assert tails.hoeffding(100_000, 316) == pytest.approx(1060, abs=0.5)
    draw = generator(0, 9)
    over = [int(torch.randint(16, (4000,), generator=draw).bincount().max()) > tails.hoeffding(4000, 16) for _ in range(50)]
    assert sum(over) <= 2


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_rounding_leaves_so_many_values_and_more_bits_are_closer(bits):
    weight = torch.randn(2000, generator=generator(0, 10)) + 3
    near = precision.rounded(weight, bits)
    assert len(near.unique()) <= 2**bits
    assert (near - weight).square().mean() > (precision.rounded(weight, bits + 1) - weight).square().mean()


def test_one_bit_of_a_gaussian_is_its_sign():
    weight = torch.randn(100_000, generator=generator(0, 11))
    near = precision.rounded(weight, 1)
    assert near.unique().tolist() == pytest.approx([-0.798, 0.798], abs=0.1)  # sqrt(2 / pi), to the grid of clips


def test_filled_up_neurons_stay_zero_when_rounded(data):
    x_BSD, y_B = data
    experts = built.transformer(x_BSD, y_B, built.gaussian_router(20, x_BSD.shape[2], generator(0, 12))).experts
    near = precision.with_bits(experts, 1)
    empty = experts.out_EF == 0
    assert empty.any()
    assert not near.in_EFD[empty].any() and not near.bias_EF[empty].any()
    assert len(near.in_EFD[~empty].unique()) == 2


def test_labelings_are_at_most_the_networks_and_grow():
    x_BD = torch.randn(12, 2, generator=generator(0, 13))
    few, many = precision.labelings(x_BD, 1, 1), precision.labelings(x_BD, 1, 3)
    assert max(few) <= 2**4 and max(many) <= 2**12
    assert few[0] == many[0] == 2
    assert many[-1] > few[-1]
    assert all(a <= b <= 2 * a for a, b in pairwise(many))
    with pytest.raises(ValueError, match="2\\^24"):
        precision.labelings(x_BD, 2, 3)
