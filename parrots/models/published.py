"""The models of the two papers and the sizes that they print; `parrots count --paper` sets our counts beside them. No torch."""

from typing import NamedTuple

from parrots.models.config import Dense, Model, MoE, count_active, count_total


class Published(NamedTuple):
    """A model as published. Sizes are in millions and count vocabulary matrices as the paper does."""

    label: str
    model: Model
    vocab_size: int
    total: float
    active: float
    printed: str
    """What the paper calls it, total then active; nothing where it gives no number."""


def parrot(d_model: int, n_experts: int = 1, n_layers: int = 20) -> Model:
    """A model of "Mixture of Parrots" (arXiv 2410.19034): MHA, ungated FFN of width d_model, top 2. One expert: dense."""
    ffn = MoE(d_ff=d_model, n_experts=n_experts, activation="mlp") if n_experts > 1 else Dense(d_ff=d_model, activation="mlp")
    return Model(d_model=d_model, n_layers=n_layers, n_heads=16, n_kv_heads=16, ffn=ffn)


def sparse(d_model: int, n_experts: int, top_k: int) -> Model:
    """A model of "Optimal Sparsity" (arXiv 2508.18672): Mixtral, 16 layers, MHA, SwiGLU of width 2 d_model."""
    ffn = MoE(d_ff=2 * d_model, n_experts=n_experts, top_k=top_k)
    return Model(d_model=d_model, n_layers=16, n_heads=16, n_kv_heads=16, ffn=ffn)


def mixture_of_parrots() -> list[Published]:
    """Figures 1 and 5 to 12. One vocabulary matrix of 32,000 is counted in, norms are not."""
    printed = {
        (256, 1): "16M",
        (512, 1): "48M",
        (1024, 1): "159M",
        (2048, 1): "569M",
        (4096, 1): "2.1B",
        (256, 8): "A18M",
        (512, 8): "A58M",
        (1024, 8): "A200M",
    }
    shapes = [(d, 1) for d in (256, 512, 1024, 2048, 4096)]
    shapes += [(d, e) for d in (256, 512, 1024) for e in (8, 16, 32, 64)] + [(256, 256)]
    found = []
    for d, e in shapes:
        model, label = parrot(d, e), f"d={d} E={e}" if e > 1 else f"d={d} dense"
        total, active = (count(model, 32_000).paper / 1e6 for count in (count_total, count_active))
        found.append(Published(label, model, 32_000, total, active, printed.get((d, e), "")))
    return found


def optimal_sparsity() -> list[Published]:
    """The models that are named. Both vocabulary matrices of about 99,600 are counted in."""
    named = {
        "320M-A170M": (512, 8, 2),
        "520M-A320M": (512, 16, 8),
        "1.9B-A470M": (1024, 16, 2),
        "6.7B-A1.1B": (1024, 64, 8),
        "13.2B-A670M": (1024, 128, 4),
        "26.0B-A1.9B": (1024, 256, 16),
        "52.2B-A7.1B": (2048, 128, 16),
    }
    found = []
    for name, (d, e, k) in named.items():
        model = sparse(d, e, k)
        total, active = (count(model, 99_600).all / 1e6 for count in (count_total, count_active))
        found.append(Published(f"d={d} E={e} k={k}", model, 99_600, total, active, name))
    return found
