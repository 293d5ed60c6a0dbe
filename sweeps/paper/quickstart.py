"""Both findings of "Mixture of Parrots" in miniature (arXiv 2410.19034, figures 4a and 4b), on a laptop.

Claim      Memory follows total parameters: the bits of a phone-book that a model holds. Reasoning follows active ones:
           how often it names the middle of a length-2 path. Each is decided by which size predicts left-out models better.
Command    parrots run quickstart
Cost       55 trials, about 520 CPU-seconds of training, planned at 4 minutes on two cores.
Expected   Memory between 1.1 and 2.3 bits a parameter, dense and MoE near one line in N_total; path accuracy about .3 at
           d = 16, .6 at 32 and .95 at 64. docs/LOG.md has the runs.

The book is oversized for every model, so one run measures what it can hold, without a search over sizes. A dense model
with the FFN width of two experts (the MoE's active size) stands beside every MoE: without that control a small MoE looks
better at reasoning than its experts make it.
"""

from typing import Any

from analysis.claims import Predicts
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke")

CLAIMS = (
    Predicts(
        name="memory",
        statement="memory follows total parameters",
        task="phonebook",
        metric="memory_bits",
        form="power",
        predictor="N_total",
        rival="N_active",
    ),
    Predicts(
        name="reasoning",
        statement="reasoning follows active parameters",
        task="length2_path",
        metric="exact_match",
        form="logistic",
        predictor="N_active",
        rival="N_total",
    ),
)

SHARED: dict[str, Any] = {"n_layers": 2, "n_heads": 4, "n_kv_heads": 2}
TRAINING: dict[str, Any] = {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0}


def dense(d_ff: int) -> dict[str, Any]:
    """A dense FFN of this width."""
    return {"kind": "dense", "d_ff": d_ff}


def moe(d_ff: int, n_experts: int) -> dict[str, Any]:
    """Experts of this width, two a token."""
    return {"kind": "moe", "d_ff": d_ff, "n_experts": n_experts}


def mixtures(d: int) -> list[dict[str, Any]]:
    """Experts as wide as the model; at the largest width one number of them, which is dear enough."""
    return [moe(d, n_experts) for n_experts in ((8,) if d == 64 else (4, 8, 16))]


def sweep(scale: str) -> Sweep:
    """laptop: the findings. smoke: every part of the way in a few steps, for tests; it finds nothing."""
    smoke = scale == "smoke"
    seeds = [0] if smoke else [0, 1]
    book_steps, path_steps, entries = (20, 20, 100) if smoke else (1600, 500, 1000)
    book: dict[str, Any] = {
        "model": {**SHARED, "d_model": 16, "init_std": 0.25},
        "task": {"kind": "phonebook", "n_entries": entries, "n_test": entries},
        "training": {**TRAINING, "steps": book_steps, "batch_size": 100},
    }
    path: dict[str, Any] = {
        "model": {**SHARED, "init_std": 0.1},
        "task": {"kind": "length2_path", "n_vertices": 10, "n_train": 64 * path_steps, "train_queries": 12},
        "training": {**TRAINING, "steps": path_steps, "batch_size": 64, "lr": 6e-3},
    }
    books = [dense(16), dense(32), dense(64), dense(96), moe(16, 4), moe(16, 8), moe(16, 16)]
    widths = [16, 32, 64]
    if smoke:
        books, widths = [dense(16), dense(32), moe(16, 4)], [16]
    two_workers = {**path, "model": {**path["model"], "d_model": 16, "ffn": moe(16, 8)}}
    return Sweep(
        claims=CLAIMS,
        cells=union(
            grid(book, {"model.ffn": books, "training.lr": [1e-2, 2e-2], "seed": seeds}),
            *(
                grid(path, {"model.d_model": [d], "model.ffn": [dense(d), dense(2 * d), *mixtures(d)], "seed": seeds})
                for d in widths
            ),
            # One more seed of the smallest MoE goes through Ray Train and FSDP, as every cell of a cluster does.
            grid(two_workers, {"seed": [len(seeds)]}, workers=2),
        ),
    )
