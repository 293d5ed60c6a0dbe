"""Backends mean the same: `loop` is held to a formula per token, the others to `loop`."""

import pytest
import torch
import torch.nn.functional as F

from parrots.models.config import MoE
from parrots.models.moe import BACKENDS, SparseFFN, fastest, loop
from parrots.models.routers import Routing, softmax_top_k

from ..conftest import GROUPED

D, FF = 8, 12
ODD = [(6, 10), (6, 7), (5, 3), (1, 1)]
FAST = [GROUPED, "padded"]  # megablocks has a file of its own, test_megablocks.py


def case(T: int, E: int, k: int, gated: bool, dtype: torch.dtype, route: str = "spread", widths: tuple[int, int] = (D, FF)):
    draw, (D, FF) = torch.Generator().manual_seed(0), widths
    x_TD = torch.randn(T, D, generator=draw, dtype=torch.float64)
    logits_TE = torch.randn(T, E, generator=draw, dtype=torch.float64)
    if route == "one expert":
        logits_TE[:, 0] += 100
    if route == "empty experts":
        logits_TE[:, E // 2 :] -= 100
    up_EDU = torch.randn(E, D, FF * (1 + gated), generator=draw, dtype=torch.float64) / D**0.5
    down_EFD = torch.randn(E, FF, D, generator=draw, dtype=torch.float64) / FF**0.5
    return [t.to(dtype).requires_grad_() for t in (x_TD, logits_TE, up_EDU, down_EFD)], k, gated


def run(backend, tensors, k, gated):
    """Output and the gradients of a random projection of it."""
    x_TD, logits_TE, up_EDU, down_EFD = tensors
    routing = softmax_top_k(logits_TE, k, renormalize=k > 1)
    y_TD = backend(x_TD, routing, up_EDU, down_EFD, gated)
    probe = torch.randn(y_TD.shape, generator=torch.Generator().manual_seed(9)).to(y_TD)
    return y_TD, torch.autograd.grad((y_TD * probe).sum(), tensors), routing


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_loop_is_the_formula_of_each_token(k, gated):
    tensors, *_ = case(17, 5, k, gated, torch.float64)

    def of_each_token(x_TD, routing, up_EDU, down_EFD, gated):
        weights_TK, experts_TK = routing.weight_R.view(-1, k), routing.expert_R.view(-1, k)
        return torch.stack([sum(map(expert, weights_TK[t], experts_TK[t], [x_TD[t]] * k)) for t in range(len(x_TD))])

    def expert(w, e, x_D):
        _, _, up_EDU, down_EFD = tensors
        h_U = x_D @ up_EDU[e]
        return w * ((F.silu(h_U[:FF]) * h_U[FF:] if gated else F.gelu(h_U)) @ down_EFD[e])

    (y_TD, grads, _), (want_TD, want_grads, _) = (run(backend, tensors, k, gated) for backend in (loop, of_each_token))
    torch.testing.assert_close((y_TD, *grads), (want_TD, *want_grads))


@pytest.mark.parametrize("name", [*FAST, "compiled"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 6e-2)])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("route", ["spread", "one expert", "empty experts"])
@pytest.mark.parametrize(("T", "E", "k"), [(1, 4, 2), (33, 1, 1), (33, 4, 2), (64, 64, 2), (40, 256, 4), (50, 8, 8)])
def test_a_fast_backend_is_the_loop_forward_and_backward(name, dtype, tolerance, gated, route, T, E, k):
    tensors, *_ = case(T, E, k, gated, dtype, route)
    if name == "compiled" and dtype is torch.bfloat16:
        with pytest.raises(ValueError, match="backend='compiled': float32 on a CPU"):
            run(BACKENDS[name], tensors, k, gated)
        return
    assert distance_to_loop(name, tensors, k, gated) < tolerance


@pytest.mark.parametrize("name", [*FAST, "compiled"])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("widths", ODD)
def test_a_fast_backend_is_the_loop_at_odd_widths(name, gated, widths):
    tensors, k, _ = case(33, 4, 2, gated, torch.float32, widths=widths)
    assert distance_to_loop(name, tensors, k, gated) < 2e-5


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("widths", ODD)
def test_a_fast_backend_is_the_loop_at_odd_widths_in_bfloat16(name, gated, widths):
    tensors, k, _ = case(33, 4, 2, gated, torch.bfloat16, widths=widths)
    assert distance_to_loop(name, tensors, k, gated) < 6e-2


def weighed(logits_TE, routing: Routing, k: int) -> Routing:
    weights_TK = logits_TE.softmax(-1).gather(1, routing.expert_R.view(-1, k))
    weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True) if k > 1 else weights_TK
    return routing._replace(weight_R=weights_TK.flatten())


def distance_to_loop(name, tensors, k, gated) -> float:
    """The largest in output and gradients, relative to each one's size where that is above 1; the loop in float64."""
    exact = [t.detach().double().requires_grad_() for t in tensors]
    y, grads, routing = run(BACKENDS[name], tensors, k, gated)
    # the same experts in both: a tie in bfloat16 may fall either way, and that is the router's choice, not the backend's
    x, logits, up, down = exact
    want = loop(x, weighed(logits, routing, k), up, down, gated)
    probe = torch.randn(want.shape, generator=torch.Generator().manual_seed(9)).double()
    want_grads = torch.autograd.grad((want * probe).sum(), exact)
    pairs = zip((y, *grads), (want, *want_grads), strict=True)
    each = [(got.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1) for got, wanted in pairs]
    return torch.stack(each).max().item()  # which is nan where one is


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("R", [0, 1, 30])
def test_backends_agree_where_tokens_have_any_number_of_experts(name, R):
    (x_TD, _, up_EDU, down_EFD), *_ = case(12, 5, 2, True, torch.float32)
    draw = torch.Generator().manual_seed(1)
    token_R, expert_R = torch.randint(12, (R,), generator=draw), torch.randint(5, (R,), generator=draw)
    weight_R = torch.rand(R, generator=draw, requires_grad=True)
    routing = Routing(None, None, token_R, expert_R, weight_R, torch.bincount(expert_R, minlength=5))
    inputs = (x_TD, up_EDU, down_EFD, weight_R)
    results = []
    for backend in (BACKENDS[name], loop):
        y_TD = backend(x_TD, routing, up_EDU, down_EFD, True)
        results.append((y_TD, *torch.autograd.grad(y_TD.square().sum(), inputs, materialize_grads=True)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


def test_shared_experts_are_experts_that_every_token_has():
    """One sparse layer with two shared experts is one whose router always takes those two as well, with weight 1."""
    shared = SparseFFN(D, 50, MoE(d_ff=FF, n_experts=3, top_k=1, renormalize=False, n_shared=2), "loop")
    for weight in shared.parameters():
        torch.nn.init.normal_(weight, generator=torch.Generator().manual_seed(weight.numel()))
    x_BSD = torch.randn(2, 6, D)
    y_BSD, routing = shared(x_BSD, torch.zeros(2, 6, dtype=torch.int64))
    gate_DF, up_DF = shared.shared.up.weight.T.split(2 * FF, dim=1)
    fused = [torch.cat([gate_DF[:, i : i + FF], up_DF[:, i : i + FF]], dim=1) for i in (0, FF)]
    up_EDU = torch.cat([shared.up_EDU, torch.stack(fused)])
    down_EFD = torch.cat([shared.down_EFD, shared.shared.down.weight.T.unflatten(0, (2, FF))])
    everyone = torch.arange(12)
    rows = Routing(
        None,
        None,
        torch.cat([everyone] * 3),
        torch.cat([routing.expert_R, torch.full((12,), 3), torch.full((12,), 4)]),
        torch.cat([routing.weight_R, torch.ones(24)]),
        torch.zeros(0),
    )
    expected = loop(x_BSD.flatten(0, 1), rows, up_EDU, down_EFD, True)
    torch.testing.assert_close(y_BSD.flatten(0, 1), expected, rtol=1e-4, atol=1e-4)


def test_more_experts_than_grouped_mm_takes_on_a_gpu_are_padded():
    assert [fastest(4096, n, 128, "cuda") for n in (1023, 1024)] == ["grouped", "padded"]


def test_an_older_torch_computes_with_what_it_has(monkeypatch):
    tensors, k, gated = case(33, 4, 2, True, torch.float32)
    monkeypatch.delattr(torch.nn.functional, "grouped_mm", raising=False)
    assert fastest(64, 8, 128, "cuda") == fastest(64, 8, 128, "cpu") == "padded"
    with pytest.raises(ValueError, match=r"needs torch 2\.10 or newer"):
        run(BACKENDS["grouped"], tensors, k, gated)
