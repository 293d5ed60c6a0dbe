"""Depth against width on graphs and on a phone-book: paths want layers, memory wants parameters wherever they are.

Claim      At equal width, three layers find more shortest paths than one, and four more than three. A phone-book is held
           alike, within 0.1 in log10, by one wide layer and by four narrower ones.
Command    parrots run depth
Cost       laptop: 9 models x 1 to 3 seeds, about 15 minutes on two cores.
Expected   Graph tasks want a depth that grows with log n (Sanford et al. 2024, arXiv 2405.18512). docs/LOG.md has our runs.
"""

from typing import Any

from analysis.claims import Contrast, Predicts
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke")

PATH: dict[str, Any] = {"task": "shortest_path", "metric": "exact_match", "form": "logistic"}
CLAIMS = (
    *(
        Contrast(
            name=f"paths-{more}-{fewer}",
            statement=f"{more} layers find more paths than {fewer} at equal width",
            field="model.n_layers",
            value=more,
            other=fewer,
            matched=("model.d_model", "seed"),
            side="above",
            margin=0.02,
            **PATH,
        )
        for fewer, more in ((1, 3), (3, 4))
    ),
    Contrast(
        name="book",
        statement="four layers hold as much of a book as one of four times the FFN width, within 0.1 in log10",
        task="phonebook",
        metric="memory_bits",
        form="power",
        field="model.n_layers",
        value=4,
        other=1,
        matched=("seed",),
        side="equal",
        margin=0.1,
    ),
    Predicts(
        name="paths-size",
        statement="path accuracy follows N_active whatever the depth",
        predictor="N_active",
        rival="N_total",
        **PATH,
    ),
)


def sweep(scale: str) -> Sweep:
    """laptop: the question. smoke: every part of the way in a few steps."""
    smoke = scale == "smoke"
    seeds = [0, 1] if smoke else [0, 1, 2]
    book_steps, path_steps, entries = (20, 20, 100) if smoke else (6250, 5000, 1000)
    training: dict[str, Any] = {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0, "lr": 1e-2}
    path: dict[str, Any] = {
        "model": {"n_heads": 4, "n_kv_heads": 4, "init_std": 0.1},
        "task": {"kind": "shortest_path", "n_vertices": 6, "p": 0.3, "n_train": 32 * path_steps},
        "training": {**training, "steps": path_steps, "batch_size": 32},
    }
    book: dict[str, Any] = {
        "model": {"d_model": 16, "n_heads": 4, "n_kv_heads": 2, "init_std": 0.25},
        "task": {"kind": "phonebook", "n_entries": entries, "n_test": entries},
        "training": {**training, "steps": book_steps, "batch_size": 32},
    }
    widths = [16] if smoke else [16, 24]
    paths = [
        grid(
            path,
            {
                "model.d_model": [d],
                "model.n_layers": [1, 3, 4],
                "model.ffn": [{"kind": "dense", "d_ff": d}],
                "seed": seeds[:2],
            },
        )
        for d in widths
    ]
    experts = grid(
        path, {"model.d_model": [16], "model.n_layers": [3], "model.ffn": [{"kind": "moe", "d_ff": 16, "n_experts": 8}]}
    )
    # 4 (768 + 48 f) parameters of blocks in four layers, as many in one: f = 16 and 112
    books = (
        grid(book, {"model.n_layers": [layers], "model.ffn": [{"kind": "dense", "d_ff": d_ff}], "seed": seeds})
        for layers, d_ff in ((4, 16), (1, 112))
    )
    return Sweep(claims=CLAIMS, keep="none", cells=union(*paths, experts, *books))
