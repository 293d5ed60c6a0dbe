"""How wide a one-layer model has to be for length-2 paths as the graph grows (arXiv 2410.19034, theorems 3.2 and 3.3).

Claim      The critical width, where accuracy crosses 0.85, does not move with the number of experts: at equal |V| that of
           MoE is within 0.15 in log10 of that of dense models. It grows with |V|.
Command    parrots run theory [--scale laptop|h200|paper|smoke]; `parrots theory` checks the constructions themselves.
Cost       laptop: 45 models of one layer, two seeds and three learning rates each, planned at 17 minutes on two cores.
Expected   Theorem 3.2: width x heads = Omega(|V| / log N), whatever the number of experts. docs/LOG.md has our runs.

The task is set disjointness in the theorem's own form: s and d have |V| / 3 neighbours each and share one or none; two each
from 6 to 8 vertices. With 4 (one each) two dimensions suffice and with 9 (three each) sixteen do not, so neither has a
critical width among these. It is read between the widths tried, straight in their logarithm. A model of width 32 does not
leave guessing at the learning rate that one of width 8 wants, so there are several.

The paper trains none of these, so every scale is ours: paper has the widths of its theorem, up to |V| and beyond. Of 16
vertices a model of width 64 was still near guessing (.59) after the laptop's training, a third longer: h200 stays below that.
"""

from typing import Any, NamedTuple

from analysis.claims import Contrast, Offset, Threshold
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke", "h200", "paper")

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


class Size(NamedTuple):
    """How large a scale is."""

    steps: int
    batch: int
    widths: list[int]
    vertices: list[int]
    experts: list[int]
    rates: list[float]
    seeds: list[int]


SIZES = {
    "smoke": Size(20, 64, [4, 8], [4, 6], [4], [1e-2], [0, 1]),
    "laptop": Size(3000, 64, [2, 4, 8, 16, 32], [6, 7, 8], [4, 16], [1e-2, 3e-3, 1e-3], [0, 1]),
    "h200": Size(4000, 512, [4, 8, 16, 32], [6, 8, 10], [4, 16], [3e-3, 1e-3], [0]),
    "paper": Size(
        50_000, 512, [4, 8, 16, 32, 64, 128, 256], [8, 16, 32, 64, 128], [4, 16, 64], [1e-2, 3e-3, 1e-3], [0, 1, 2, 3, 4]
    ),
}
NOTES = {"h200": "One seed, and graphs of 6 to 10 vertices: a start, and no growth to be read over powers of ten."}


def sweep(scale: str) -> Sweep:
    """laptop: the question. h200, paper: the same of larger graphs. smoke: every part of the way in a few steps."""
    at = SIZES[scale]
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
            value=at.vertices[-1],
            other=at.vertices[0],
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
            "steps": at.steps,
            "batch_size": at.batch,
        },
    }
    grids = [
        grid(
            {**base, "task": {"kind": "two_step", "n_train": at.batch * at.steps, "n_test": 1000}},
            {
                "task.n_vertices": at.vertices,
                "model.d_model": [d],
                "model.init_std": [d**-0.5],
                "training.lr": at.rates,
                "seed": at.seeds,
                "model.ffn": [
                    {"kind": "dense", "d_ff": 4 * d},
                    *({"kind": "moe", "d_ff": 4 * d, "n_experts": e} for e in at.experts),
                ],
            },
        )
        for d in at.widths
    ]
    return Sweep(note=NOTES.get(scale, ""), claims=claims, keep="none", cells=union(*grids))
