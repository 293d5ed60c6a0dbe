"""How often a model finds shortest paths, against its parameters (arXiv 2410.19034, figure 4b).

Claim      Experts do not help: active parameters foretell accuracy better than total ones, and an inactive parameter is worth
           at most 0.2 active ones.
Command    parrots run figure4b [--scale laptop|h200|paper|smoke]
Cost       laptop: 13 models x 3 seeds x 2 learning rates on graphs of 5 vertices, planned at 9 minutes on two cores. paper:
           50 vertices, 1e6 training graphs, four learning rates, four lengths of training. h200: 200,000 graphs, each met
           once, assumed to take under 20 minutes on one.
Expected   The paper: an MoE is as good as the dense model of its width, whatever its experts. docs/LOG.md has our runs.

A dense model with the FFN width of two experts stands beside every MoE: without it, what the second active expert gives
would be taken for what the inactive ones give.
"""

from typing import Any

from analysis.claims import Predicts, Rate
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke", "h200", "paper")

SHARED: dict[str, Any] = {"task": "shortest_path", "metric": "exact_match", "form": "logistic"}
CLAIMS = (
    Predicts(name="paths", statement="path accuracy follows N_active", predictor="N_active", rival="N_total", **SHARED),
    Rate(name="worth", statement="an inactive parameter is worth at most 0.2 active ones", most=0.2, **SHARED),
    Predicts(
        name="valid",
        statement="finding any shortest path follows N_active",
        predictor="N_active",
        rival="N_total",
        **{**SHARED, "metric": "valid_path"},
    ),
)


def dense(d_ff: int, activation: str = "swiglu") -> dict[str, Any]:
    """A dense FFN of this width."""
    return {"kind": "dense", "d_ff": d_ff, "activation": activation}


def moe(d_ff: int, n_experts: int, activation: str = "swiglu") -> dict[str, Any]:
    """Experts of this width, two a token."""
    return {"kind": "moe", "d_ff": d_ff, "n_experts": n_experts, "activation": activation}


def laptop(smoke: bool) -> Sweep:
    """Graphs of 5 vertices, three layers, heads of width 4. Batches are small since what ends the plateau is steps."""
    steps, widths, seeds, rates = (20, [16], [0], [1e-2]) if smoke else (4000, [8, 16, 24], [0, 1, 2], [5e-3, 1e-2])
    base: dict[str, Any] = {
        "model": {"n_layers": 3, "init_std": 0.1},
        "task": {"kind": "shortest_path", "n_vertices": 5, "p": 0.36, "n_train": 16 * steps, "n_test": 1000},
        "training": {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0, "steps": steps, "batch_size": 16},
    }
    experts = {8: [4, 16, 64], 16: [4, 16, 64], 24: [8]}
    grids = []
    for d in widths:
        wide = {**base, "model": {**base["model"], "d_model": d, "n_heads": d // 4, "n_kv_heads": d // 4}}
        ffns = [dense(d), dense(2 * d), *(moe(d, e) for e in experts[d])]
        grids.append(grid(wide, {"model.ffn": ffns, "training.lr": rates, "seed": seeds}))
    return Sweep(claims=CLAIMS, cells=union(*grids))


def full(paper: bool) -> Sweep:
    """The paper's models on 50 vertices; or what one H200 does of it in 20 minutes."""
    widths, sparse, experts = ([256, 512, 1024], [256, 512], [8, 16, 32, 64]) if paper else ([256, 512], [256], [8, 16])
    rates, epochs, batch, n_train = (
        ([5e-5, 1e-4, 5e-4, 1e-3], [2, 5, 10, 15], 32, 10**6) if paper else ([5e-4], [1], 32, 200_000)
    )
    base: dict[str, Any] = {
        "model": {"n_layers": 12},
        "task": {"kind": "shortest_path", "n_vertices": 50, "n_train": n_train},
        "training": {"batch_size": batch, **({} if paper else {"precision": "bfloat16"})},
    }
    axes: dict[str, Any] = {"training.lr": rates, "training.steps": [-(-n_train * epoch // batch) for epoch in epochs]}
    grids = []
    for d in widths:
        wide = {**base, "model": {**base["model"], "d_model": d, "n_heads": d // 64, "n_kv_heads": d // 64}}
        ffns = [dense(d, "mlp"), dense(2 * d, "mlp"), *(moe(d, e, "mlp") for e in experts if d in sparse)]
        grids.append(grid(wide, {"model.ffn": ffns, **axes}))
    note = "" if paper else "200,000 graphs, each met once, in bfloat16: a tenth of the paper's shortest training."
    return Sweep(note=note, claims=CLAIMS, keep="none", cells=union(*grids))


def sweep(scale: str) -> Sweep:
    """laptop and smoke: in miniature. h200 and paper: twelve layers and 50 vertices."""
    return laptop(scale == "smoke") if scale in ("laptop", "smoke") else full(scale == "paper")
