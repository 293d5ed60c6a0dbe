"""Depth against width on graphs and on a phone-book: paths want layers, memory wants parameters wherever they are.

Claim      At equal width each further layer finds more shortest paths: two more than one, three than two, four than three. A
           phone-book is held alike, within 0.1 in log10, by four narrow layers and by one wide one.
Command    parrots run depth [--scale laptop|h200|paper|smoke]
Cost       laptop: 10 models on graphs of 5 vertices and 2 on a book, 3 seeds each, planned at 3 minutes on two cores. h200:
           assumed to take under 20 minutes on one. paper: 264 trials.
Expected   Graph tasks want a depth that grows with log n (Sanford et al. 2024, arXiv 2405.18512). docs/LOG.md has our runs.

Batches are small and graphs too: what leaves the plateau at which single edges are found and no paths is steps.

The paper has twelve layers throughout, so h200 and paper are ours, of its widths: 2, 4, 8 and 12 layers, and 24 at paper; the
book is held by twelve layers or by three. At paper batch, rates and graphs are its own.
"""

from itertools import pairwise
from typing import Any

from analysis.claims import Contrast, Predicts
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke", "h200", "paper")

PATH: dict[str, Any] = {"task": "shortest_path", "metric": "exact_match", "form": "logistic"}


def claims(depths: list[int], deep: int, shallow: int) -> tuple[Any, ...]:
    """Each depth beside the next for paths; a deep and a shallow model of one size for a book."""
    return (
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
            for fewer, more in pairwise(depths)
        ),
        Contrast(
            name="book",
            statement=f"{deep} layers hold as much of a book as {shallow} of as many parameters, within 0.1 in log10",
            task="phonebook",
            metric="memory_bits",
            form="power",
            field="model.n_layers",
            value=deep,
            other=shallow,
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


def dense(d_ff: int, activation: str = "swiglu") -> dict[str, Any]:
    """A dense FFN of this width."""
    return {"kind": "dense", "d_ff": d_ff, "activation": activation}


def miniature(smoke: bool) -> Sweep:
    """d = 16 and 24; or every part of the way in a few steps."""
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
    return Sweep(claims=claims([1, 2, 3, 4], 4, 1), keep="none", cells=union(*paths, *books))


def full(paper: bool) -> Sweep:
    """The paper's widths, batch and rates; or what one H200 does of it in 20 minutes, each cell within nine."""
    rates, seeds, precision = ([5e-5, 1e-4, 5e-4, 1e-3], [0, 1, 2], "float32") if paper else ([5e-4], [0], "bfloat16")
    entries, batch, exposures, book_seeds = (10**6, 32, 10, seeds) if paper else (100_000, 4096, 100, [0, 1, 2])
    vertices, path_batch, path_steps, epochs = (50, 32, 312_500, 10) if paper else (25, 64, 4000, 1)
    depths = [2, 4, 8, 12, 24] if paper else [2, 4, 8, 12]
    path: dict[str, Any] = {
        "model": {},
        "task": {"kind": "shortest_path", "n_vertices": vertices, "n_train": path_batch * path_steps // epochs},
        "training": {"steps": path_steps, "batch_size": path_batch, "precision": precision},
    }
    book: dict[str, Any] = {
        "model": {"d_model": 256, "n_heads": 4, "n_kv_heads": 4},
        "task": {"kind": "phonebook", "n_entries": entries},
        "training": {"steps": -(-entries * exposures // batch), "batch_size": batch, "precision": precision},
    }
    shapes = [(256, dense(256, "mlp")), (256, {"kind": "moe", "d_ff": 256, "n_experts": 8, "activation": "mlp"})]
    shapes.append((512, dense(512, "mlp")))
    if paper:
        shapes.append((512, {"kind": "moe", "d_ff": 512, "n_experts": 8, "activation": "mlp"}))
    paths = (
        grid(
            path,
            {
                **{"model.d_model": [d], "model.n_heads": [d // 64], "model.n_kv_heads": [d // 64], "model.n_layers": depths},
                **{"model.ffn": [ffn], "training.lr": rates, "seed": seeds},
            },
        )
        for d, ffn in shapes
    )
    # 512 (512 + f) parameters of a block's matrices: twelve of f = 256 are three of f = 2,560
    books = (
        grid(
            book,
            {
                "model.n_layers": [n],
                "model.ffn": [dense(d_ff, "mlp")],
                "training.lr": rates if paper else [1e-3],
                "seed": book_seeds,
            },
        )
        for n, d_ff in ((12, 256), (3, 2560))
    )
    note = "Books at batch 4,096 and 100 exposures, one seed of paths of 25 vertices at batch 64: not the paper's batch."
    return Sweep(note="" if paper else note, claims=claims(depths, 12, 3), keep="none", cells=union(*paths, *books))


def sweep(scale: str) -> Sweep:
    """laptop and smoke: in miniature. h200 and paper: the paper's widths."""
    return miniature(scale == "smoke") if scale in ("laptop", "smoke") else full(scale == "paper")
