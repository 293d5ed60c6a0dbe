"""Shortest paths in other graphs than those of the training: does what was learned carry over?

Claim      Active parameters foretell accuracy under each shift, as they do on graphs like those of the training.
Command    parrots run shift
Cost       laptop: the 22 trials of figure4b, which are not trained again where that has run; an evaluation takes a second.
Expected   Nothing is published: a reviewer of arXiv 2410.19034 asked for it. docs/LOG.md has our runs.

Models are trained on Erdos-Renyi graphs as in figure4b and asked of graphs with as many edges that are regular, grown by
preferential attachment or small worlds; of sparser ones; of smaller ones; and of what they were trained on.
"""

from typing import Any

from analysis.claims import Predicts
from parrots.frozen import canonical
from parrots.spec import Cell, Evaluation
from sweeps.paper.figure4b import laptop
from sweeps.spec import Sweep

SCALES = ("laptop", "smoke")

ELSEWHERE: dict[str, dict[str, Any]] = {
    "regular": {"graph": "regular"},
    "barabasi-albert": {"graph": "barabasi_albert"},
    "watts-strogatz": {"graph": "watts_strogatz"},
    "sparser": {"p": 0.25},
    "smaller": {"n_vertices": 5, "p": 0.36, "labels": 6},
}


def sweep(scale: str) -> Sweep:
    """laptop: figure4b's models. smoke: every part of the way in a few steps."""
    trials = [cell.trial for cell in laptop(scale == "smoke").cells]
    trained = trials[0].task
    task = canonical(trained)
    asked = (
        Evaluation(name="trained-on", task=trained, split="train", at_most=1000),
        *(Evaluation(name=name, task={**task, "room": trained.seq_len, **change}) for name, change in ELSEWHERE.items()),
    )
    claims = tuple(
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
    )
    return Sweep(claims=claims, cells=tuple(Cell(trial=trial, evaluations=asked) for trial in trials))
