"""Depth against width on graphs and on a phone-book: paths want layers, memory wants parameters wherever they are.

Claim      At equal width each further layer finds more shortest paths: two more than one, three than two, four than three. A
           phone-book is held alike, within 0.1 in log10, by four narrow layers and by one wide one.
Command    parrots run depth
Cost       laptop: 10 models on graphs of 5 vertices and 2 on a book, 3 seeds each, about 14 minutes on two cores.
Expected   Graph tasks want a depth that grows with log n (Sanford et al. 2024, arXiv 2405.18512). docs/LOG.md has our runs.

Batches are small and graphs too: what leaves the plateau at which single edges are found and no paths is steps.
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
            matched=("model.d_model", "model.ffn.kind", "seed"),
            side="above",
            margin=0.02,
            **PATH,
        )
        for fewer, more in ((1, 2), (2, 3), (3, 4))
    ),
    Contrast(
        name="book",
        statement="four layers hold as much of a book as one of as many parameters, within 0.1 in log10",
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


def dense(d_ff: int) -> dict[str, Any]:
    """A dense FFN of this width."""
    return {"kind": "dense", "d_ff": d_ff}


def sweep(scale: str) -> Sweep:
    """laptop: the question. smoke: every part of the way in a few steps."""
    smoke = scale == "smoke"
    book_steps, path_steps, entries = (20, 20, 100) if smoke else (1600, 3000, 1000)
    training: dict[str, Any] = {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0}
    path: dict[str, Any] = {
        "model": {"init_std": 0.1},
        "task": {"kind": "shortest_path", "n_vertices": 5, "p": 0.36, "n_train": 16 * path_steps},
        "training": {**training, "steps": path_steps, "batch_size": 16, "lr": 1e-2},
    }
    book: dict[str, Any] = {
        "model": {"d_model": 16, "n_heads": 4, "n_kv_heads": 2, "init_std": 0.25},
        "task": {"kind": "phonebook", "n_entries": entries, "n_test": entries},
        "training": {**training, "steps": book_steps, "batch_size": 100, "lr": 2e-2},
    }
    seeds = {"seed": [0, 1] if smoke else [0, 1, 2]}
    depths = {"model.n_layers": [1, 2, 3, 4]}
    shapes = [(16, depths, dense(16)), (16, {"model.n_layers": [2, 4]}, {"kind": "moe", "d_ff": 16, "n_experts": 8})]
    if not smoke:
        shapes.append((24, depths, dense(24)))
    paths = (
        grid(
            path,
            {"model.d_model": [d], "model.n_heads": [d // 4], "model.n_kv_heads": [d // 4], **at, "model.ffn": [ffn], **seeds},
        )
        for d, at, ffn in shapes
    )
    # 4 (768 + 48 f) parameters of blocks in four layers, as many in one: f = 16 and 112
    books = (grid(book, {"model.n_layers": [n], "model.ffn": [dense(d_ff)], **seeds}) for n, d_ff in ((4, 16), (1, 112)))
    return Sweep(claims=CLAIMS, keep="none", cells=union(*paths, *books))
