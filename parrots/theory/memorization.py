"""Theorems C.9, C.10 and C.11 (3.5) of arXiv 2410.19034: networks that hold the labels of n Gaussian sequences.

A neuron for each sequence: its weights are the sequence itself, its bias lets only that sequence through. C.9 is the ReLU
network, C.10 has uniform attention before it (the mean of the tokens), C.11 shares the neurons out among experts behind a
random linear router.
"""

# B sequences, S tokens each, D width, F neurons of an expert, E experts: the paper's n, N, m and K

from dataclasses import dataclass

import torch
from torch import Tensor

from parrots.theory.length2 import attend_last

CHUNK = 2048  # sequences at once: bounds memory at 160 MB for 20,000 neurons


@dataclass(frozen=True)
class Attention:
    """One head, as theorem C.10 has it: uniform."""

    query_DD: Tensor
    key_DD: Tensor
    value_DD: Tensor


@dataclass(frozen=True)
class Experts:
    """ReLU networks of equal width; shorter ones are filled up with neurons of zeros."""

    in_EFD: Tensor
    bias_EF: Tensor
    out_EF: Tensor

    def __call__(self, x_BD: Tensor, expert_B: Tensor) -> Tensor:
        """(B,) each vector's output at its own expert."""
        output_B = torch.empty(len(x_BD))
        order_B = expert_B.argsort(stable=True)
        loads = expert_B.bincount(minlength=len(self.in_EFD)).tolist()
        for expert, mine in enumerate(order_B.split(loads)):
            for some in mine.split(CHUNK):
                hidden = torch.addmm(self.bias_EF[expert], x_BD[some], self.in_EFD[expert].T).relu_()
                output_B[some] = hidden @ self.out_EF[expert]
        return output_B


@dataclass(frozen=True)
class Memory:
    """A one-layer transformer that labels sequences by the sign of its output at the last token."""

    attention: Attention
    router_ED: Tensor | None
    """None: a dense model, which is one expert."""
    experts: Experts

    def __call__(self, x_BSD: Tensor) -> Tensor:
        """(B,) outputs; their signs are the labels."""
        mean_BD = attended(self.attention, x_BSD)
        return self.experts(mean_BD, self.route(mean_BD))

    def route(self, mean_BD: Tensor) -> Tensor:
        """(B,) the expert of each."""
        if self.router_ED is None:
            return torch.zeros(len(mean_BD), dtype=torch.int64)
        return route(self.router_ED, mean_BD)

    @property
    def total(self) -> int:
        """Parameters of router and experts, zeros that fill up included; attention's 3 m^2 are the same for all."""
        experts = self.experts
        return self._router + experts.in_EFD.numel() + experts.bias_EF.numel() + experts.out_EF.numel()

    @property
    def active(self) -> int:
        """Those of them that one sequence meets: the whole router and one expert."""
        experts = self.experts
        return self._router + experts.in_EFD[0].numel() + experts.bias_EF[0].numel() + experts.out_EF[0].numel()

    @property
    def _router(self) -> int:
        return 0 if self.router_ED is None else self.router_ED.numel()


def uniform_attention(D: int) -> Attention:
    """Query = key = 0, value = I: the mean of the tokens."""
    return Attention(torch.zeros(D, D), torch.zeros(D, D), torch.eye(D))


def attended(attention: Attention, x_BSD: Tensor) -> Tensor:
    """(B, D) what the last token has gathered."""
    parts = x_BSD.split(CHUNK)
    return torch.cat([attend_last(x, attention.query_DD, attention.key_DD, attention.value_DD) for x in parts])


def route(router_ED: Tensor, x_BD: Tensor) -> Tensor:
    """(B,) the expert with the largest inner product."""
    return torch.cat([(x @ router_ED.T).argmax(1) for x in x_BD.split(4 * CHUNK)])


def memorize(x_BD: Tensor, y_B: Tensor, variance: float, expert_B: Tensor, E: int) -> Experts:
    """Theorem C.9's weights in each expert, for the vectors it is sent: w = x, b = -|x|^2 + variance D / 2, output weight y.

    variance: of an entry of x: 1 for a token, 1 / S for a mean of S tokens. y_B: labels, -1 or 1.
    """
    D = x_BD.shape[1]
    loads_E = expert_B.bincount(minlength=E)
    order_B = expert_B.argsort(stable=True)
    place_B = torch.arange(len(order_B)) - (loads_E.cumsum(0) - loads_E)[expert_B[order_B]]
    at = (expert_B[order_B], place_B)
    F = int(loads_E.max())
    experts = Experts(torch.zeros(E, F, D), torch.zeros(E, F), torch.zeros(E, F))
    experts.in_EFD[at] = x_BD[order_B]
    experts.bias_EF[at] = variance * D / 2 - x_BD[order_B].square().sum(1)
    experts.out_EF[at] = y_B[order_B]
    return experts


def relu_network(x_BD: Tensor, y_B: Tensor, variance: float = 1.0) -> Experts:
    """Theorem C.9: one network of a neuron for each vector."""
    return memorize(x_BD, y_B, variance, torch.zeros(len(x_BD), dtype=torch.int64), 1)


def transformer(x_BSD: Tensor, y_B: Tensor, router_ED: Tensor | None = None) -> Memory:
    """Theorem C.10, or C.11 with a router: the mean of the tokens, memorized by one network or by the experts."""
    _, S, D = x_BSD.shape
    attention = uniform_attention(D)
    mean_BD = attended(attention, x_BSD)
    if router_ED is None:
        return Memory(attention, None, relu_network(mean_BD, y_B, 1 / S))
    return Memory(attention, router_ED, memorize(mean_BD, y_B, 1 / S, route(router_ED, mean_BD), len(router_ED)))


def sequences(B: int, S: int, D: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussian sequences (B, S, D) and arbitrary labels (B,), -1 or 1."""
    x_BSD = torch.randn(B, S, D, generator=draw)
    return x_BSD, torch.randint(2, (B,), generator=draw) * 2.0 - 1


def gaussian_router(E: int, D: int, draw: torch.Generator) -> Tensor:
    """Theorem 3.5's: entries N(0, 1)."""
    return torch.randn(E, D, generator=draw)


def unit_router(E: int, D: int, draw: torch.Generator) -> Tensor:
    """The same directions, every expert with norm 1."""
    return torch.nn.functional.normalize(gaussian_router(E, D, draw), dim=1)


def wrong(output_B: Tensor, y_B: Tensor) -> int:
    """Labels that the signs of these outputs get wrong; 0 is wrong, and so is nan."""
    return int((~(output_B * y_B > 0)).sum())
