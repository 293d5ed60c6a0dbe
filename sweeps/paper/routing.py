"""Which router: learned, hashed or random, one expert a token or four, at equal active and total expert parameters.

Claim      Memory does not care who chooses the expert: hash and random routers store within 0.05 in log10 of what a learned one
           does. On paths a learned router is better than a hashed one.
Command    parrots run routing [--scale laptop|h200|paper|smoke]
Cost       laptop: 6 routers x 3 seeds x 2 tasks, planned at 4 minutes on two cores. h200: one seed, assumed to take under 20
           minutes on one. paper: 144 trials.
Expected   Nothing is published: a reviewer of arXiv 2410.19034 asked for it. docs/LOG.md has our runs.

Every model has 128 wide of experts and 32 of them active: top-1 of 4 x 32, top-2 of 8 x 16, top-4 of 16 x 8; hash, random
and expert choice are top-2's. The learned router's own matrix is all that they do not share.

The paper has one router, so h200 and paper are ours, in its models: twelve layers of width 256. At paper top-2 is its own, of
8 x 256, with its grid of learning rates and its batch. At h200 experts are a quarter as wide, so that 140,000 entries (7.0
Mbit) are more than a bit a parameter, and graphs are the smallest of its sizes.
"""

from typing import Any

from analysis.claims import Contrast
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke", "h200", "paper")


def routers(d_ff: int, activation: str = "swiglu") -> list[dict[str, Any]]:
    """The six, with 8 experts of this width for two a token, and fewer or more of the same width in all."""
    top_2: dict[str, Any] = {"kind": "moe", "d_ff": d_ff, "n_experts": 8, "top_k": 2, "activation": activation}
    return [
        {**top_2, "d_ff": 2 * d_ff, "n_experts": 4, "top_k": 1, "renormalize": False},
        top_2,
        {**top_2, "d_ff": d_ff // 2, "n_experts": 16, "top_k": 4},
        {**top_2, "router": "hash"},
        {**top_2, "router": "random"},
        {**top_2, "router": "expert_choice", "renormalize": False},
    ]


def against_learned(task: str, metric: str, form: str, router: str, side: str, margin: float) -> Contrast:
    """A router beside top-2 of the same experts."""
    relation = {"equal": f"is within {margin:g} of", "below": "is worse than"}[side]
    return Contrast.model_validate(
        {
            "name": f"{task}-{router}",
            "statement": f"{task}: {router} {relation} a learned router",
            "task": task,
            "metric": metric,
            "form": form,
            "where": {"model.ffn.top_k": 2},
            "field": "model.ffn.router",
            "value": router,
            "other": "top_k",
            "matched": ["seed"],
            "side": side,
            "margin": margin,
        }
    )


def against_top_2(task: str, metric: str, form: str, k: int, margin: float) -> Contrast:
    """As many parameters in fewer or more experts, beside top-2."""
    return Contrast.model_validate(
        {
            "name": f"{task}-top{k}",
            "statement": f"{task}: top-{k} is within {margin:g} of top-2",
            "task": task,
            "metric": metric,
            "form": form,
            "where": {"model.ffn.router": "top_k"},
            "field": "model.ffn.top_k",
            "value": k,
            "other": 2,
            "matched": ["seed"],
            "side": "equal",
            "margin": margin,
        }
    )


BOOK, PATH = ("phonebook", "memory_bits", "power"), ("shortest_path", "exact_match", "logistic")
CLAIMS = (
    *(against_learned(*BOOK, router, "equal", 0.05) for router in ("hash", "random", "expert_choice")),
    *(against_top_2(*BOOK, k, 0.05) for k in (1, 4)),
    *(against_learned(*PATH, router, "below", 0.0) for router in ("hash", "random")),
    against_learned(*PATH, "expert_choice", "equal", 0.05),
    *(against_top_2(*PATH, k, 0.05) for k in (1, 4)),
)


def miniature(smoke: bool) -> Sweep:
    """d = 16; or every part of the way in a few steps."""
    book_steps, path_steps, entries = (20, 20, 100) if smoke else (1600, 3000, 1000)
    training: dict[str, Any] = {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0}
    book: dict[str, Any] = {
        "model": {"d_model": 16, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "init_std": 0.25},
        "task": {"kind": "phonebook", "n_entries": entries, "n_test": entries},
        "training": {**training, "steps": book_steps, "batch_size": 100, "lr": 2e-2},
    }
    path: dict[str, Any] = {
        "model": {"d_model": 16, "n_layers": 3, "n_heads": 4, "n_kv_heads": 4, "init_std": 0.1},
        "task": {"kind": "shortest_path", "n_vertices": 5, "p": 0.36, "n_train": 16 * path_steps},
        "training": {**training, "steps": path_steps, "batch_size": 16, "lr": 1e-2},
    }
    axes: dict[str, Any] = {"model.ffn": routers(16), "seed": [0, 1] if smoke else [0, 1, 2]}
    return Sweep(claims=CLAIMS, keep="none", cells=union(grid(book, axes), grid(path, axes)))


def full(paper: bool) -> Sweep:
    """The paper's models, batch and rates; or what one H200 does of it in 20 minutes, each cell within nine."""
    rates, seeds, precision = ([5e-5, 1e-4, 5e-4, 1e-3], [0, 1, 2], "float32") if paper else ([1e-3], [0], "bfloat16")
    entries, batch, exposures = (10**6, 32, 10) if paper else (140_000, 4096, 100)
    vertices, path_batch, path_steps, epochs = (50, 32, 312_500, 10) if paper else (25, 64, 3500, 1)
    model = {"d_model": 256, "n_heads": 4, "n_kv_heads": 4, "n_layers": 12}
    book: dict[str, Any] = {
        "model": model,
        "task": {"kind": "phonebook", "n_entries": entries},
        "training": {"steps": -(-entries * exposures // batch), "batch_size": batch, "precision": precision},
    }
    path: dict[str, Any] = {
        "model": model,
        "task": {"kind": "shortest_path", "n_vertices": vertices, "n_train": path_batch * path_steps // epochs},
        "training": {"steps": path_steps, "batch_size": path_batch, "precision": precision},
    }
    axes: dict[str, Any] = {"model.ffn": routers(256 if paper else 64, "mlp"), "training.lr": rates, "seed": seeds}
    note = "One seed: a direction and no verdict. Books at batch 4,096, paths at 64: not the paper's batch."
    return Sweep(note="" if paper else note, claims=CLAIMS, keep="none", cells=union(grid(book, axes), grid(path, axes)))


def sweep(scale: str) -> Sweep:
    """laptop and smoke: in miniature. h200 and paper: twelve layers."""
    return miniature(scale == "smoke") if scale in ("laptop", "smoke") else full(scale == "paper")
