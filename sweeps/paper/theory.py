"""How wide a one-layer model has to be for length-2 paths as the graph grows (arXiv 2410.19034, theorems 3.2 and 3.3).

Claim      The critical width, where accuracy crosses 0.85, does not move with the number of experts: at equal |V| that of
           MoE is within 0.15 in log10 of that of dense models. It grows with |V|.
Command    parrots run theory; `parrots theory` checks the constructions themselves.
Cost       laptop: 45 models of one layer, two seeds each, 7 minutes on two cores.
Expected   Theorem 3.2: width x heads = Omega(|V| / log N), whatever the number of experts. docs/LOG.md has our runs.

The task is set disjointness in the theorem's own form: s and d have |V| / 3 neighbours each and share one or none; two each
from 6 to 8 vertices. With 4 (one each) two dimensions suffice and with 9 (three each) sixteen do not, so neither has a
critical width among these. It is read between the widths tried, straight in their logarithm.
"""

from typing import Any

from analysis.claims import Contrast, Offset, Threshold
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke")

SHARED: dict[str, Any] = {
    "task": "two_step",
    "metric": "critical_width",
    "form": "power",
    "threshold": Threshold(
        axis="model.d_model",
        metric="exact_match",
        target=0.85,
        reading="crossing",
        along=("model.ffn.d_ff", "model.init_std"),
    ),
}


def sweep(scale: str) -> Sweep:
    """laptop: the question. smoke: every part of the way in a few steps."""
    smoke = scale == "smoke"
    steps, widths, sizes, experts = (20, [4, 8], [4, 6], [4]) if smoke else (3000, [2, 4, 8, 16, 32], [6, 7, 8], [4, 16])
    claims = (
        Offset(
            name="experts",
            statement="the critical width of MoE is within 0.15 in log10 of that of dense models",
            at="task.n_vertices",
            side="equal",
            margin=0.15,
            **SHARED,
        ),
        Contrast(
            name="vertices",
            statement="the critical width grows with the graph",
            field="task.n_vertices",
            value=sizes[-1],
            other=sizes[0],
            matched=("model.ffn.kind", "model.ffn.n_experts", "seed"),
            side="above",
            margin=0.0,
            **SHARED,
        ),
    )
    base: dict[str, Any] = {
        "model": {"n_layers": 1, "n_heads": 1, "n_kv_heads": 1},
        "training": {
            "schedule": "cosine",
            "warmup": 0.05,
            "weight_decay": 0.0,
            "steps": steps,
            "batch_size": 64,
            "lr": 1e-2,
        },
    }
    grids = [
        grid(
            {**base, "task": {"kind": "two_step", "n_train": 64 * steps, "n_test": 1000}},
            {
                "task.n_vertices": sizes,
                "model.d_model": [d],
                "model.init_std": [d**-0.5],
                "seed": [0, 1],
                "model.ffn": [
                    {"kind": "dense", "d_ff": 4 * d},
                    *({"kind": "moe", "d_ff": 4 * d, "n_experts": e} for e in experts),
                ],
            },
        )
        for d in widths
    ]
    return Sweep(claims=claims, keep="none", cells=union(*grids))
