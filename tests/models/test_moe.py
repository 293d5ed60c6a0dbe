"""Backends mean the same: `loop` is held to a formula per token, the others to `loop`."""

import pytest
import torch
import torch.nn.functional as F

from parrots.models.moe import BACKENDS, activate, loop
from parrots.models.routers import Routing, load_balance_loss, softmax_top_k

D, FF = 8, 12


def case(T: int, E: int, k: int, gated: bool, dtype: torch.dtype, route: str = "spread", seed: int = 0):
    draw = torch.Generator().manual_seed(seed)
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
    if logits_TE.dtype == torch.float64:  # the router computes in float32; here the formula is tested, not its rounding
        probs_TE = logits_TE.softmax(-1)
        weights_TK = probs_TE.gather(1, routing.experts_TK)
        weights_TK = weights_TK / weights_TK.sum(-1, keepdim=True) if k > 1 else weights_TK
        routing = Routing(probs_TE, weights_TK, routing.experts_TK, routing.counts_E)
    y_TD = backend(x_TD, routing, up_EDU, down_EFD, gated)
    probe = torch.randn(y_TD.shape, generator=torch.Generator().manual_seed(9)).to(y_TD)
    return y_TD, torch.autograd.grad((y_TD * probe).sum(), tensors), routing


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_loop_is_the_formula_of_each_token(k, gated):
    tensors, *_ = case(17, 5, k, gated, torch.float64)
    y_TD, _, routing = run(loop, tensors, k, gated)
    x_TD, _, up_EDU, down_EFD = tensors
    for t in range(len(x_TD)):
        expected = sum(
            w * (activate(x_TD[t] @ up_EDU[e], gated) @ down_EFD[e])
            for w, e in zip(routing.weights_TK[t], routing.experts_TK[t], strict=True)
        )
        torch.testing.assert_close(y_TD[t], expected)


@pytest.mark.parametrize("name", sorted(BACKENDS.keys() - {"loop"}))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 6e-2)])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("route", ["spread", "one expert", "empty experts"])
@pytest.mark.parametrize(("T", "E", "k"), [(1, 4, 2), (33, 1, 1), (33, 4, 2), (64, 64, 2), (40, 256, 4), (50, 8, 8)])
def test_a_fast_backend_is_the_loop_forward_and_backward(name, dtype, tolerance, gated, route, T, E, k):
    tensors, *_ = case(T, E, k, gated, dtype, route)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    y, grads, routing = run(BACKENDS[name], tensors, k, gated)
    # the same experts in both: a tie in bfloat16 may fall either way, and that is the router's choice, not the backend's
    x, logits, up, down = exact
    weights = logits.softmax(-1).gather(1, routing.experts_TK)
    weights = weights / weights.sum(-1, keepdim=True) if k > 1 else weights
    want = loop(x, Routing(routing.probs_TE, weights, routing.experts_TK, routing.counts_E), up, down, gated)
    probe = torch.randn(want.shape, generator=torch.Generator().manual_seed(9)).double()
    want_grads = torch.autograd.grad((want * probe).sum(), exact)
    for got, wanted in zip((y, *grads), (want, *want_grads), strict=True):
        scale = max(1.0, wanted.abs().max().item())
        assert (got.double() - wanted).abs().max() / scale < tolerance


@pytest.mark.parametrize("k", [1, 2, 4])
def test_no_token_is_dropped(k):
    logits_TE = torch.randn(100, 8)
    routing = softmax_top_k(logits_TE, k, renormalize=k > 1)
    assert routing.counts_E.sum() == 100 * k
    assert all(len(set(row.tolist())) == k for row in routing.experts_TK)


def test_renormalized_weights_are_mixtrals_softmax_over_the_chosen():
    logits_TE = torch.randn(50, 8)
    routing = softmax_top_k(logits_TE, 2, renormalize=True)
    torch.testing.assert_close(routing.weights_TK, logits_TE.gather(1, routing.experts_TK).softmax(-1))


def test_load_balance_loss_is_one_when_balanced_and_n_experts_when_collapsed():
    E = 8
    assert load_balance_loss(torch.full((64, E), 1 / E), torch.full((E,), 16)) == pytest.approx(1.0)
    collapsed = F.one_hot(torch.zeros(64, dtype=torch.int64), E)
    assert load_balance_loss(collapsed.float(), collapsed.sum(0)) == pytest.approx(E)
