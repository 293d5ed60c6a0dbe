"""Counts are tested against the built model and against what a token touches, not against a second formula."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from parrots.models.config import Dense, Model, MoE, count_active, count_total, flops_per_token
from parrots.models.transformer import Transformer

VOCAB, SEQ = 50, 12
OPTIONS = list(itertools.product(["dense", "moe"], ["swiglu", "mlp"], [2, 4], [False, True]))


def model(kind: str, activation: str, n_kv_heads: int, tied: bool) -> Model:
    ffn = (
        Dense(d_ff=24, activation=activation) if kind == "dense" else MoE(d_ff=12, n_experts=5, top_k=2, activation=activation)
    )
    return Model(d_model=16, n_layers=3, n_heads=4, n_kv_heads=n_kv_heads, ffn=ffn, tie_embeddings=tied, init_std=0.2)


def built(config: Model) -> Transformer:
    transformer = Transformer(config, VOCAB, SEQ)
    transformer.initialize(0)
    return transformer


@pytest.mark.parametrize("option", OPTIONS)
def test_total_parameters_are_those_of_the_built_model(option):
    config = model(*option)
    counts, transformer = count_total(config, VOCAB), built(config)
    named = dict(transformer.named_parameters())
    assert counts.all == sum(weight.numel() for weight in named.values())

    def having(*words: str) -> int:
        return sum(weight.numel() for name, weight in named.items() if any(word in name for word in words))

    assert counts.norm == having("norm")
    assert counts.attention == having("attention.qkv", "attention.out")
    assert counts.router == having("router")
    assert counts.ffn + counts.experts == having("ffn.up", "ffn.down")
    assert counts.embedding == having("embedding")
    assert counts.head == having("head.")
    assert counts.all - counts.N == counts.embedding + counts.head


@pytest.mark.parametrize("option", OPTIONS)
def test_active_parameters_are_those_a_token_touches(option):
    """The gradient of one token's loss reaches the active parameters and no others. A sequence of one token has no past."""
    config = model(*option)
    transformer = built(config)
    F.cross_entropy(transformer(torch.tensor([[3]])).logits[0], torch.tensor([7])).backward()
    touched = 0
    for name, weight in transformer.named_parameters():
        if name == "embedding.weight" and not config.tie_embeddings:
            assert weight.grad.any(1).sum() == 1  # one row is looked up; by custom the matrix counts whole
            touched += weight.numel()
        elif ".ffn." in name and weight.dim() == 3:
            touched += weight[0].numel() * int(weight.grad.any((1, 2)).sum())
        else:
            assert weight.grad.any(), name
            touched += weight.numel()
    assert touched == count_active(config, VOCAB).all


@pytest.mark.parametrize("option", [o for o in OPTIONS if o[0] == "dense"])
def test_flops_are_those_that_pytorch_counts(option):
    """PyTorch counts attention over the whole square; half of it and half of the diagonal are masked away."""
    config = model(*option)
    transformer = built(config)
    with FlopCounterMode(display=False) as counter, torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        transformer(torch.zeros(1, SEQ, dtype=torch.int64))
    masked = 4 * config.d_model * config.n_layers * (SEQ * SEQ - SEQ * (SEQ + 1) // 2)
    assert flops_per_token(config, VOCAB, SEQ) * SEQ == counter.get_total_flops() - masked


def test_flops_of_experts_are_those_of_the_dense_block_of_their_active_width_and_the_router():
    dense = Model(d_model=16, n_layers=3, n_heads=4, n_kv_heads=2, ffn=Dense(d_ff=24))
    moe = dense.model_copy(update={"ffn": MoE(d_ff=12, n_experts=5, top_k=2)})
    assert flops_per_token(moe, VOCAB, SEQ) - flops_per_token(dense, VOCAB, SEQ) == 2 * 3 * 16 * 5


@pytest.mark.parametrize(("d", "label"), [(256, 16.1), (512, 47.8), (1024, 158.6), (2048, 568.9), (4096, 2144.0)])
def test_the_papers_dense_labels_come_out(d, label):
    """MHA, ungated FFN of width d, L = 20; the labels add one vocabulary matrix and leave norms out (arXiv 2410.19034)."""
    counts = count_total(Model(d_model=d, n_layers=20, n_heads=16, n_kv_heads=16, ffn=Dense(d_ff=d, activation="mlp")), 32_000)
    assert round((counts.N - counts.norm + counts.embedding) / 1e6, 1) == pytest.approx(label, abs=0.6 if d == 4096 else 0.05)


@pytest.mark.parametrize(("d", "label"), [(256, 18.7), (512, 58.4), (1024, 200.7)])
def test_the_papers_active_labels_come_out(d, label):
    ffn = MoE(d_ff=d, n_experts=8, top_k=2, activation="mlp")
    counts = count_active(Model(d_model=d, n_layers=20, n_heads=16, n_kv_heads=16, ffn=ffn), 32_000)
    assert round((counts.N - counts.norm + counts.embedding) / 1e6, 1) == label
