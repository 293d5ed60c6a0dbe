"""The first three questions that one asks of a mixture of experts, in the smallest models that answer them.

Claim      Two experts, one a token, divide two clusters of tokens between themselves: their choice tells the cluster more often
           by 0.1 than a random router's. At equal N_total a book is held alike by dense models and MoE (within 0.1 in log10).
           At equal N_active, paths are found alike whatever the number of experts (within 0.05).
Command    parrots run first_three
Cost       laptop: 32 trials, about 6 minutes on two cores.
Expected   Figures 4a and 4b of arXiv 2410.19034 in small. docs/LOG.md has our runs.
"""

from typing import Any

from analysis.claims import Contrast, Offset
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke")

CLAIMS = (
    Contrast(
        name="clusters",
        statement="two experts divide two clusters between themselves",
        task="two_clusters",
        metric="separation",
        form="logistic",
        field="model.ffn.router",
        value="top_k",
        other="random",
        matched=("seed",),
        side="above",
        margin=0.1,
    ),
    Offset(
        name="book",
        statement="a book is held alike by dense models and MoE of equal N_total",
        task="phonebook",
        metric="memory_bits",
        form="power",
        at="N_total",
        side="equal",
        margin=0.1,
    ),
    Offset(
        name="paths",
        statement="paths are found alike by dense models and MoE of equal N_active",
        task="length2_path",
        metric="exact_match",
        form="logistic",
        at="N_active",
        side="equal",
        margin=0.05,
    ),
)


def dense(d_ff: int) -> dict[str, Any]:
    """A dense FFN of this width."""
    return {"kind": "dense", "d_ff": d_ff}


def moe(d_ff: int, n_experts: int) -> dict[str, Any]:
    """Experts of this width, two a token."""
    return {"kind": "moe", "d_ff": d_ff, "n_experts": n_experts}


def sweep(scale: str) -> Sweep:
    """laptop: the questions. smoke: every part of the way in a few steps."""
    smoke = scale == "smoke"
    book_steps, path_steps, entries = (20, 20, 100) if smoke else (1600, 500, 1000)
    training: dict[str, Any] = {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0}
    book: dict[str, Any] = {
        "model": {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "init_std": 0.25},
        "task": {"kind": "phonebook", "n_entries": entries, "n_test": entries},
        "training": {**training, "steps": book_steps, "batch_size": 100, "lr": 2e-2},
    }
    path: dict[str, Any] = {
        "model": {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "init_std": 0.1},
        "task": {"kind": "length2_path", "n_vertices": 10, "n_train": 64 * path_steps, "train_queries": 12},
        "training": {**training, "steps": path_steps, "batch_size": 64, "lr": 6e-3},
    }
    clusters: dict[str, Any] = {
        "model": {"d_model": 16, "n_layers": 1, "n_heads": 2, "n_kv_heads": 2, "init_std": 0.25},
        "task": {"kind": "two_clusters", "n_tokens": 40 if smoke else 800},
        "training": {**training, "steps": 20 if smoke else 3000, "batch_size": 80 if smoke else 100, "lr": 1e-2},
    }
    one_of_two = {"kind": "moe", "d_ff": 8, "n_experts": 2, "top_k": 1, "renormalize": False}
    books = [dense(16), dense(32), dense(64), dense(96), moe(16, 4), moe(16, 8), moe(16, 12)]
    paths = [dense(32), dense(48), dense(64), moe(32, 4), moe(32, 8), moe(32, 16)]
    return Sweep(
        claims=CLAIMS,
        keep="none",
        cells=union(
            grid(clusters, {"model.ffn": [one_of_two, {**one_of_two, "router": "random"}], "seed": [0, 1, 2]}),
            grid(book, {"model.ffn": books, "seed": [0, 1]}),
            grid(path, {"model.ffn": paths, "seed": [0, 1]}),
        ),
    )
