"""The first three questions that one asks of a mixture of experts, in the smallest models that answer them.

Claim      Two experts, one a token, divide two clusters of tokens between themselves: their choice tells the cluster more often
           by 0.1 than a random router's. At equal N_total a book is held alike by dense models and MoE (within 0.1 in log10).
           At equal N_active, paths are found alike whatever the number of experts (within 0.05).
Command    parrots run first_three [--scale laptop|h200|paper|smoke]
Cost       laptop: 32 trials, planned at 2 minutes on two cores. h200: assumed to take under 20 minutes. paper: 204 trials.
Expected   Figures 4a and 4b of arXiv 2410.19034 in small. docs/LOG.md has our runs.

The paper asks the second of these in another way (figure 4a) and the others not at all, so h200 and paper are ours, in twelve
layers of width 256. At paper the book is the paper's largest, with its rates and batch. Paths are in graphs of 32 vertices.
"""

from typing import Any

from analysis.claims import Contrast, Offset
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke", "h200", "paper")

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


def dense(d_ff: int, activation: str = "swiglu") -> dict[str, Any]:
    """A dense FFN of this width."""
    return {"kind": "dense", "d_ff": d_ff, "activation": activation}


def moe(d_ff: int, n_experts: int, activation: str = "swiglu") -> dict[str, Any]:
    """Experts of this width, two a token."""
    return {"kind": "moe", "d_ff": d_ff, "n_experts": n_experts, "activation": activation}


def miniature(smoke: bool) -> Sweep:
    """d = 16 and 32; or every part of the way in a few steps."""
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


def full(paper: bool) -> Sweep:
    """The paper's width, depth and rates, its batch for the book; or what one H200 does of it in 20 minutes."""
    rates, seeds, precision = ([5e-5, 1e-4, 5e-4, 1e-3], [0, 1, 2], "float32") if paper else ([1e-3], [0], "bfloat16")
    model = {"d_model": 256, "n_heads": 4, "n_kv_heads": 4, "n_layers": 12}
    entries, batch, exposures = (3 * 10**6, 32, 10) if paper else (160_000, 4096, 100)
    path_steps = 100_000 if paper else 2000
    book: dict[str, Any] = {
        "model": model,
        "task": {"kind": "phonebook", "n_entries": entries},
        "training": {"steps": -(-entries * exposures // batch), "batch_size": batch, "precision": precision},
    }
    path: dict[str, Any] = {
        "model": model,
        "task": {"kind": "length2_path", "n_vertices": 32, "n_train": 64 * path_steps, "train_queries": 12},
        "training": {"steps": path_steps, "batch_size": 64, "precision": precision},
    }
    clusters: dict[str, Any] = {
        "model": model,
        "task": {"kind": "two_clusters", "n_tokens": 2000},
        "training": {"steps": 10_000 if paper else 1000, "batch_size": 400, "precision": precision},
    }
    one_of_two = {"kind": "moe", "d_ff": 256, "n_experts": 2, "top_k": 1, "renormalize": False, "activation": "mlp"}
    books = [dense(f, "mlp") for f in (128, 320, 512)] + [moe(64, e, "mlp") for e in (4, 8)]
    paths = [dense(f, "mlp") for f in (256, 384, 512)] + [moe(256, e, "mlp") for e in (8, 16, 32)]
    if paper:
        books = [dense(f, "mlp") for f in (256, 512, 1024, 2048)] + [moe(256, e, "mlp") for e in (8, 16, 32, 64)]
        paths.append(moe(256, 64, "mlp"))
    common: dict[str, Any] = {"training.lr": rates, "seed": seeds}
    tables: dict[str, Any] = {
        "model.ffn": [one_of_two, {**one_of_two, "router": "random"}],
        "training.lr": rates,
        "seed": [0, 1, 2],
    }
    note = "Books at batch 4,096 and 100 exposures, one seed of books and paths: not the paper's batch."
    return Sweep(
        note="" if paper else note,
        claims=CLAIMS,
        keep="none",
        cells=union(
            grid(clusters, tables), grid(book, {"model.ffn": books, **common}), grid(path, {"model.ffn": paths, **common})
        ),
    )


def sweep(scale: str) -> Sweep:
    """laptop and smoke: in miniature. h200 and paper: twelve layers."""
    return miniature(scale == "smoke") if scale in ("laptop", "smoke") else full(scale == "paper")
