"""Shortest paths in other graphs than those of the training: does what was learned carry over?

Claim      Active parameters foretell accuracy under each shift, as they do on graphs like those of the training.
Command    parrots run shift
Cost       laptop: 12 models on graphs of 8 vertices, about 25 minutes on two cores; the evaluations a few seconds each.
Expected   Nothing is published: a reviewer of arXiv 2410.19034 asked for it. docs/LOG.md has our runs.

Models are trained on Erdos-Renyi graphs as in figure4b and asked of graphs with as many edges that are regular, grown by
preferential attachment or small worlds; of denser and sparser ones; of smaller ones; and of what they were trained on.
"""

from typing import Any

from analysis.claims import Predicts
from parrots.spec import Evaluation
from sweeps.spec import Sweep, grid, union

SCALES = ("laptop", "smoke")

P, VERTICES = 0.22, 8
ELSEWHERE: dict[str, dict[str, Any]] = {
    "regular": {"graph": "regular"},
    "barabasi-albert": {"graph": "barabasi_albert"},
    "watts-strogatz": {"graph": "watts_strogatz"},
    "sparser": {"p": 0.18},
    "smaller": {"n_vertices": 7, "p": 0.26, "labels": VERTICES},
}


def sweep(scale: str) -> Sweep:
    """laptop: the question. smoke: every part of the way in a few steps."""
    steps, widths, seeds = (20, [16], [0]) if scale == "smoke" else (2500, [8, 16, 32], [0])
    task: dict[str, Any] = {"kind": "shortest_path", "n_vertices": VERTICES, "p": P, "n_train": 64 * steps, "n_test": 1000}
    base: dict[str, Any] = {
        "model": {"n_layers": 3, "n_heads": 2, "n_kv_heads": 2, "init_std": 0.1},
        "task": task,
        "training": {"schedule": "cosine", "warmup": 0.05, "weight_decay": 0.0, "steps": steps, "batch_size": 64, "lr": 1e-2},
    }
    room = Evaluation(name="own", task=task).task.seq_len
    asked = [
        Evaluation(name="trained-on", task=task, split="train", at_most=1000),
        *(Evaluation(name=name, task={**task, "room": room, **change}) for name, change in ELSEWHERE.items()),
    ]
    claims = [
        Predicts(
            name=name,
            statement=f"path accuracy follows N_active ({name})",
            task="shortest_path",
            metric=metric,
            form="logistic",
            predictor="N_active",
            rival="N_total",
        )
        for name, metric in [("own", "exact_match"), *((name, f"{name}/valid_path") for name in ELSEWHERE)]
    ]
    grids = [
        grid(
            base,
            {
                "model.d_model": [d],
                "model.ffn": [
                    {"kind": "dense", "d_ff": d},
                    {"kind": "dense", "d_ff": 2 * d},
                    *({"kind": "moe", "d_ff": d, "n_experts": e} for e in (4, 8)),
                ],
                "seed": seeds,
            },
            evaluations=asked,
        )
        for d in widths
    ]
    return Sweep(claims=tuple(claims), cells=union(*grids))
