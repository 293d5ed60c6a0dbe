"""What evaluating 1,000 prompts costs beside the training that made the model: cells of the size of quickstart's.

    python benchmarks/evaluation.py [--out benchmarks/results/evaluation-cpu.md]

A step's time is that of the whole training loop. Exact match comes from one teacher-forced pass where there is one right
answer; where there are several, the answers are decoded too, to the end that a path is given. On a CPU the time is that of
one thread.
"""

import itertools
import statistics
import tempfile
from pathlib import Path

import torch
from bench import DEVICE, Table, arguments, machine, milliseconds, model, some

from parrots.evaluation.accuracy import answer, score
from parrots.placement import Placement
from parrots.spec import Trial
from parrots.training.rehearsal import step_seconds
from parrots.training.weights import initial

STEPS, DIGITS = 1000, 8  # steps of the trial, tokens of a book's answer
TASKS = ({"kind": "phonebook", "n_entries": 1000}, {"kind": "shortest_path", "n_vertices": 5, "p": 0.36, "n_train": 1000})


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__)
    table = Table(
        f"Evaluating 1,000 prompts: {machine()}",
        f"L = 2, d = 32, {STEPS:,} steps of 250. Milliseconds, and per cent of the trial's training.",
        ("task", "E", "a step", "one forward", "%", "greedy decode", "%"),
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Placement(Path(folder), device=DEVICE)
        for task, n_experts in some(itertools.product(TASKS, (1, 8)), args):
            training = {"steps": STEPS, "batch_size": 250, "lr": 1e-2}
            trial = Trial.model_validate({"model": model(2, 32, n_experts), "task": task, "training": training})
            network, test = initial(trial, place).eval(), trial.task.make("test")
            step = 1e3 * step_seconds(trial, place, 0.0 if args.smoke else 1.0)
            digits = trial.task.decoded or DIGITS
            calls = (
                lambda: score(network, test, place),  # noqa: B023
                lambda: answer(network, test, digits, -1, place),  # noqa: B023
            )
            with torch.no_grad():
                costs = [statistics.median(milliseconds(call) for _ in range(5)) for call in calls]
            told = (cell for ms in costs for cell in (f"{ms:.0f}", f"{100 * ms / step / STEPS:.2f}"))
            table.row(trial.task.kind, n_experts, f"{step:.1f}", *told)
    table.keep(args.out)


if __name__ == "__main__":
    main()
