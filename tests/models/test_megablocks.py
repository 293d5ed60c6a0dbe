"""The backend of the paper's library: what it refuses, here; that it is `loop`, where it can run."""

import re

import pytest
import torch

from parrots.models import megablocks_backend
from parrots.models.config import Dense, Model, MoE
from parrots.models.moe import AUTO, BACKENDS, MEGABLOCKS, check_backend, loop
from parrots.models.routers import softmax_top_k
from parrots.models.transformer import Transformer

D, FF = 64, 96
UNFIT = megablocks_backend.unfit()
needs_it = pytest.mark.skipif(bool(UNFIT), reason=UNFIT)
without_it = pytest.mark.skipif(not UNFIT, reason="megablocks can run here")


def model(**ffn) -> Model:
    return Model(d_model=D, n_layers=1, n_heads=4, n_kv_heads=4, ffn=MoE.model_validate({"d_ff": FF, "n_experts": 4} | ffn))


@without_it
@pytest.mark.parametrize("config", [model(), model().model_copy(update={"ffn": Dense(d_ff=FF)})], ids=["moe", "dense"])
def test_where_it_cannot_run_no_model_is_built_and_a_line_says_why(config):
    with pytest.raises(ValueError, match=r"^backend='megablocks': .*docker/megablocks|needs a CUDA GPU") as refused:
        Transformer(config, 10, 8, MEGABLOCKS)
    assert "\n" not in str(refused.value)


def test_a_backend_that_is_not_there_is_named_beside_those_that_are():
    with pytest.raises(ValueError, match="backend='fast': one of auto, loop, grouped, padded, compiled, megablocks"):
        check_backend("fast", model())
    for name in (AUTO, *BACKENDS.keys() - {MEGABLOCKS}):
        check_backend(name, model())


@pytest.mark.parametrize(
    ("config", "precision", "said"),
    [
        (model(router="expert_choice", renormalize=False), "bfloat16", "router='expert_choice'"),
        (model(d_ff=12), "bfloat16", "ffn.d_ff=12: .* multiple of 8"),
        (model().model_copy(update={"d_model": 20}), "bfloat16", "d_model=20: .* multiple of 8"),
        (model(), "float32", "training.precision='float32'"),
    ],
)
def test_what_its_kernels_cannot_compute_is_refused_by_field(config, precision, said):
    assert megablocks_backend.unfit_for(model(router="hash")) == megablocks_backend.unfit_for(model(activation="mlp")) == ""
    assert re.match(said, megablocks_backend.unfit_for(config, precision))


@pytest.mark.parametrize("version", ["2.7.1+cu126", "2.10.0", "2.13.0+cpu"])
def test_a_torch_that_it_was_not_built_for_is_named(monkeypatch, version):
    monkeypatch.setattr(megablocks_backend, "find_spec", lambda package: package)
    monkeypatch.setattr(torch, "__version__", version)
    assert f"built for torch 2.7.0 and this is {version}; " in megablocks_backend.unfit()


@needs_it
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("route", ["spread", "one expert", "empty experts"])
@pytest.mark.parametrize(("T", "E", "k"), [(1, 4, 2), (33, 1, 1), (130, 4, 2), (64, 64, 2), (50, 8, 8)])
def test_it_is_the_loop_forward_and_backward(gated, route, T, E, k):
    """In bfloat16, which is all that it computes in, against `loop` in float64."""
    draw = torch.Generator().manual_seed(0)
    shapes = ((T, D), (T, E), (E, D, FF * (1 + gated)), (E, FF, D))
    x, logits, up, down = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    logits[:, 0] += 100 * (route == "one expert")
    logits[:, E // 2 :] -= 100 * (route == "empty experts")
    tensors = [t.cuda().bfloat16().requires_grad_() for t in (x, up / D**0.5, down / FF**0.5)]
    exact = [t.detach().double().requires_grad_() for t in tensors]
    routing = softmax_top_k(logits.cuda(), k, renormalize=k > 1)
    weight = routing.weight_R.detach().bfloat16()
    probe = torch.randn(T, D, generator=draw).cuda()
    results = []
    for backend, inputs in ((megablocks_backend.experts, tensors), (loop, exact)):
        weight_R = weight.to(inputs[0].dtype).requires_grad_()
        y_TD = backend(inputs[0], routing._replace(weight_R=weight_R), inputs[1], inputs[2], gated)
        grads = torch.autograd.grad((y_TD * probe.to(y_TD)).sum(), (*inputs, weight_R))
        results.append([t.double() for t in (y_TD, *grads)])
    for got, wanted in zip(*results, strict=True):
        assert (got - wanted).abs().max() / max(1.0, wanted.abs().max().item()) < 6e-2


def test_float32_outside_of_autocast_is_refused():
    x_TD, up_EDU, down_EFD = torch.zeros(3, D), torch.zeros(2, D, 2 * FF), torch.zeros(2, FF, D)
    with pytest.raises(ValueError, match="bfloat16 only"):
        megablocks_backend.experts(x_TD, softmax_top_k(torch.zeros(3, 2), 2, True), up_EDU, down_EFD, True)


def test_its_steps_are_the_loop_whatever_computes_them(monkeypatch):
    """Its sort, gather, products and scatter, written in torch by what their source says: our use of them is right."""

    class Ops:
        @staticmethod
        def sort(x, end_bit):
            assert x.dtype == torch.int32
            assert int(x.max()) < 2**end_bit
            return x.sort(stable=True).values, x.argsort(stable=True).int()

        @staticmethod
        def gather(x, indices, bin_ids, bins, top_k):
            assert bin_ids.bincount(minlength=len(bins)).cumsum(0).equal(bins.long())
            return x[indices.long() // top_k]

        @staticmethod
        def scatter(x, indices, bin_ids, weights, bins, top_k):
            rows = torch.zeros_like(x).index_copy(0, indices.long(), x) * weights[:, None]
            return rows.view(-1, top_k, x.shape[1]).sum(1)

    class Grouped:
        @staticmethod
        def gmm(a, b, batch_sizes):
            assert batch_sizes.dtype == torch.int64
            assert a.is_contiguous()
            return torch.cat([rows @ b[e] for e, rows in enumerate(a.split(batch_sizes.tolist()))])

    monkeypatch.setattr(megablocks_backend, "_kernels", lambda: (Ops, Grouped))
    draw = torch.Generator().manual_seed(0)
    for T, E, k in ((1, 4, 2), (33, 1, 1), (130, 5, 2), (64, 64, 2)):
        for gated in (False, True):
            shapes = ((T, D), (E, D, FF * (1 + gated)), (E, FF, D))
            tensors = [(torch.randn(s, generator=draw) / s[-2] ** 0.5).bfloat16().requires_grad_() for s in shapes]
            routing = softmax_top_k(torch.randn(T, E, generator=draw), k, renormalize=k > 1)
            results = []
            for backend in (megablocks_backend.experts, loop):
                y_TD = backend(tensors[0], routing, *tensors[1:], gated)
                results.append((y_TD, *torch.autograd.grad(y_TD.float().square().sum(), tensors)))
            torch.testing.assert_close(*results, rtol=5e-2, atol=5e-2)
