"""Counts are tested against the built model and against what a token touches, not against a second formula."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from parrots.frozen import one_line
from parrots.models.config import Dense, Model, MoE, count_active, count_total, flops_per_token
from parrots.models.transformer import Transformer

VOCAB, SEQ = 50, 12
ATTENTIONS = [{"n_kv_heads": 2}, {"n_kv_heads": 4, "qk_norm": "head"}, {"n_kv_heads": 2, "qk_norm": "projection"}]
FFNS = [
    {"kind": "dense", "d_ff": 24},
    *({"kind": "moe", "d_ff": 12, "n_experts": 5, "router": router} for router in ("top_k", "hash", "random")),
    {"kind": "moe", "d_ff": 12, "n_experts": 5, "top_k": 1, "renormalize": False},
    {"kind": "moe", "d_ff": 12, "n_experts": 5, "top_k": 3, "n_shared": 2},
    {"kind": "moe", "d_ff": 12, "n_experts": 6, "router": "expert_choice", "renormalize": False},
]
OPTIONS = list(itertools.product(FFNS, ["swiglu", "mlp"], ATTENTIONS, [False, True]))


def model(ffn: dict, activation: str, attention: dict, tied: bool) -> Model:
    shape = {"d_model": 16, "n_layers": 3, "n_heads": 4, "init_std": 0.2, "tie_embeddings": tied}
    return Model.model_validate({**shape, **attention, "ffn": {**ffn, "activation": activation}})


def built(config: Model, backend: str = "auto") -> Transformer:
    transformer = Transformer(config, VOCAB, SEQ, backend)
    transformer.initialize(0)
    return transformer


@pytest.mark.parametrize("option", OPTIONS)
def test_total_parameters_are_those_of_the_built_model(option):
    config = model(*option)
    counts, transformer = count_total(config, VOCAB), built(config)
    named = {name: weight for name, weight in transformer.named_parameters() if weight.requires_grad}
    assert counts.all == sum(weight.numel() for weight in named.values())

    def having(*words: str) -> int:
        return sum(weight.numel() for name, weight in named.items() if any(word in name for word in words))

    assert counts.norm == having("norm")
    assert counts.attention == having("attention.qkv", "attention.out")
    assert counts.router == having("router")
    assert counts.shared == having("shared")
    assert counts.ffn + counts.experts == having("ffn.up", "ffn.down")
    assert counts.embedding == having("embedding")
    assert counts.head == having("head.")
    assert counts.all - counts.N == counts.embedding + counts.head


@pytest.mark.parametrize("option", [o for o in OPTIONS if o[0].get("router") != "expert_choice"])
def test_active_parameters_are_those_a_token_touches(option):
    """The gradient of one token's loss reaches the active parameters and no others. A sequence of one token has no past.

    Experts that choose all take it: there `top_k` is a mean over longer sequences, which the next test has.
    """
    config = model(*option)
    transformer = built(config)
    F.cross_entropy(transformer(torch.tensor([[3]])).logits[0], torch.tensor([7])).backward()
    touched = 0
    for name, weight in transformer.named_parameters():
        if not weight.requires_grad:
            continue  # a random router
        if name == "embedding.weight" and not config.tie_embeddings:
            assert weight.grad.any(1).sum() == 1  # one row is looked up; by custom the matrix counts whole
            touched += weight.numel()
        elif name.endswith(("up_EDU", "down_EFD")):
            touched += weight[0].numel() * int(weight.grad.any((1, 2)).sum())
        else:
            assert weight.grad.any() or "qk_norm" in name, name  # with one key, no query matters
            touched += weight.numel()
    assert touched == count_active(config, VOCAB).all


@pytest.mark.parametrize(("k", "E", "n_shared"), [(1, 6, 0), (2, 6, 1), (3, 4, 0), (4, 4, 0)])
def test_a_token_has_on_average_the_active_parameters_of_experts_that_choose(k, E, n_shared):
    """In training, over sequences that the experts share out evenly (S * k divides by E)."""
    ffn = {"kind": "moe", "d_ff": 12, "n_experts": E, "top_k": k, "router": "expert_choice", "n_shared": n_shared}
    config = model({**ffn, "renormalize": False}, "swiglu", ATTENTIONS[0], False)
    B, S = 3, SEQ
    assert S * k % E == 0
    out = built(config).train()(torch.randint(VOCAB, (B, S), generator=torch.Generator().manual_seed(0)))
    assert [len(routing.token_R) for routing in out.routings] == [B * S * k] * config.n_layers
    assert all((routing.counts_E == B * S * k / E).all() for routing in out.routings)
    one = 3 * config.d_model * 12  # an expert's weights
    chosen = sum(len(routing.token_R) for routing in out.routings) * one / (B * S)
    assert count_active(config, VOCAB).experts == chosen


@pytest.mark.parametrize("option", OPTIONS)
def test_flops_are_those_that_pytorch_counts(option):
    """Forward, and both ways three times that. PyTorch counts the whole square of attention, of which half is masked.

    A matrix that is never trained, a random router's, has no gradient of its own.
    """
    config = model(*option)
    transformer = built(config, "loop")
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = transformer(torch.zeros(1, SEQ, dtype=torch.int64)).logits.sum()
        forward = counter.get_total_flops()
        loss.backward()
    masked = 4 * config.d_model * config.n_layers * (SEQ * SEQ - SEQ * (SEQ + 1) // 2)
    expected = flops_per_token(config, VOCAB, SEQ) * SEQ
    assert expected == forward - masked
    fixed = 2 * SEQ * sum(weight.numel() for weight in transformer.parameters() if not weight.requires_grad)
    assert 3 * expected - fixed == counter.get_total_flops() - 3 * masked


def test_flops_of_experts_are_those_of_the_dense_block_of_their_active_width_and_the_router():
    dense = Model(d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, ffn=Dense(d_ff=24))
    moe = dense.model_copy(update={"ffn": MoE(d_ff=12, n_experts=5, top_k=2)})
    assert flops_per_token(moe, VOCAB, SEQ) - flops_per_token(dense, VOCAB, SEQ) == 2 * 3 * 16 * 5


def test_flops_of_a_router_are_those_of_its_matrix_trained_or_not():
    def flops(router: str) -> int:
        ffn = MoE(d_ff=12, n_experts=5, router=router, renormalize=router != "expert_choice")
        return flops_per_token(Model(d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, ffn=ffn), VOCAB, SEQ)

    assert flops("top_k") == flops("random") == flops("expert_choice") == flops("hash") + 2 * 3 * 16 * 5


@pytest.mark.parametrize(
    ("router", "activation", "said"),
    [
        ("soft", "mlp", "router='soft': Input should be 'top_k', 'expert_choice', 'hash' or 'random'"),
        ("hash", "relu", "activation='relu': Input should be 'swiglu' or 'mlp'"),
    ],
)
def test_an_unknown_choice_is_named_beside_those_there_are(router, activation, said):
    with pytest.raises(ValidationError) as caught:
        model({**FFNS[1], "router": router}, activation, ATTENTIONS[0], False)
    assert one_line(caught.value) == f"ffn.moe.{said}"


@pytest.mark.parametrize("granularity", [1, 2, 4, 12])
def test_finer_experts_keep_the_parameters_but_for_the_router(granularity):
    coarse = Model(d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, ffn=MoE(d_ff=12, n_experts=5, n_shared=1))
    fine = coarse.model_copy(update={"ffn": coarse.ffn.finer(granularity)})
    for counts in (count_total, count_active):
        was, now = counts(coarse, VOCAB), counts(fine, VOCAB)
        assert (now.experts, now.shared) == (was.experts, was.shared)
        assert now.router == granularity * was.router
    with pytest.raises(ValueError, match="granularity=5: must divide d_ff=12"):
        coarse.ffn.finer(5)


PAPER = [
    # d, E, active, total: millions, as printed on the paper's axes or worked out in the same way (L = 20)
    *((256, e, 18.7, total) for e, total in ((8, 34.4), (16, 55.5), (32, 97.5), (64, 182), (256, 686))),
    *((512, e, 58.4, total) for e, total in ((8, 121), (16, 205), (32, 373), (64, 709))),
    *((1024, e, 200.7, total) for e, total in ((8, 452), (16, 788), (32, 1459), (64, 2802))),
]


def paper(d: int, ffn: Dense | MoE) -> Model:
    """MHA and an ungated FFN of width d."""
    return Model(d_model=d, n_layers=20, n_heads=16, n_kv_heads=16, ffn=ffn)


@pytest.mark.parametrize(("d", "label"), [(256, 16.1), (512, 47.8), (1024, 158.6), (2048, 568.9), (4096, 2144)])
def test_the_papers_dense_labels_come_out(d, label):
    million = count_total(paper(d, Dense(d_ff=d, activation="mlp")), 32_000).paper / 1e6
    assert round(million, 0 if label > 1000 else 1) == label


@pytest.mark.parametrize(("d", "e", "active", "total"), PAPER)
def test_the_papers_labels_of_mixtures_come_out(d, e, active, total):
    config = paper(d, MoE(d_ff=d, n_experts=e, activation="mlp"))
    million = count_total(config, 32_000).paper / 1e6
    assert round(million, 0 if total > 100 else 1) == total
    if e == 8:  # the labels leave out that a wider router is active too
        assert round(count_active(config, 32_000).paper / 1e6, 1) == active
