"""Shortest paths in other graphs than those of the training: does what was learned carry over?

Claim      Active parameters foretell accuracy under each shift, as they do on graphs like those of the training.
Command    parrots run shift [--scale laptop|h200|paper|smoke]
Cost       laptop: the 78 trials of figure4b, which are not trained again where that has run; an evaluation takes a second.
           h200 and paper: figure4b's too, with weights that figure4b itself does not keep there, so this one goes first.
Expected   Nothing is published: a reviewer of arXiv 2410.19034 asked for it. docs/LOG.md has our runs.

Models are trained on Erdos-Renyi graphs as in figure4b and asked of graphs with as many edges that are regular, grown by
preferential attachment or small worlds; of sparser ones; of smaller ones; and of what they were trained on. The paper has none
of these: at its own scale sparser means 2.45 edges a vertex in place of 2.95, and smaller the next of its sizes.
"""

from typing import Any

from analysis.claims import Predicts
from parrots.frozen import canonical
from parrots.spec import Cell, Evaluation
from sweeps.paper.figure4b import full, laptop
from sweeps.spec import Sweep

SCALES = ("laptop", "smoke", "h200", "paper")

KINDS: dict[str, dict[str, Any]] = {
    "regular": {"graph": "regular"},
    "barabasi-albert": {"graph": "barabasi_albert"},
    "watts-strogatz": {"graph": "watts_strogatz"},
}
MINIATURE = {**KINDS, "sparser": {"p": 0.3}, "smaller": {"n_vertices": 4, "p": 0.45, "labels": 5}}
FULL = {**KINDS, "sparser": {"p": 0.05}, "smaller": {"n_vertices": 45, "labels": 50}}


def sweep(scale: str) -> Sweep:
    """laptop, h200, paper: figure4b's models of that scale. smoke: every part of the way in a few steps."""
    small = scale in ("laptop", "smoke")
    models, elsewhere = (laptop(scale == "smoke"), MINIATURE) if small else (full(scale == "paper"), FULL)
    trials = [cell.trial for cell in models.cells]
    trained = trials[0].task
    task = canonical(trained)
    asked = (
        Evaluation(name="trained-on", task=trained, split="train", at_most=1000),
        *(Evaluation(name=name, task={**task, "room": trained.seq_len, **change}) for name, change in elsewhere.items()),
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
        for name, metric in [("own", "exact_match"), *((name, f"{name}/valid_path") for name in elsewhere)]
    )
    return Sweep(note=models.note, claims=claims, cells=tuple(Cell(trial=trial, evaluations=asked) for trial in trials))
