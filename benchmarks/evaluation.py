"""What evaluating 1,000 prompts costs beside the training that made the model: cells of the size of quickstart's.

    python benchmarks/evaluation.py [--out benchmarks/results/evaluation-cpu.md]

Training is timed over a few of its steps and multiplied up. Exact match comes from one teacher-forced pass where there is one
right answer, else from decoding. On a CPU the time is that of one thread.
"""

import statistics
import tempfile
from pathlib import Path

import torch
from bench import DEVICE, Table, arguments, machine, milliseconds, model, some

from parrots.evaluation.accuracy import answer, score
from parrots.placement import Placement
from parrots.spec import Trial
from parrots.training.trainer import train
from parrots.training.weights import initial

STEPS, TIMED, DIGITS = 1000, 60, 8  # steps of the trial, steps that are timed, tokens of an answer


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__)
    table = Table(
        f"Evaluating 1,000 prompts: {machine()}",
        f"Phone-book, L = 2, d = 32, {STEPS:,} steps of 250. Milliseconds, and per cent of the trial's training.",
        ("E", "a step", "one forward", "%", "greedy decode", "%"),
    )
    timed = 2 if args.smoke else TIMED
    with tempfile.TemporaryDirectory() as folder:
        place = Placement(Path(folder), device=DEVICE)
        for n_experts in some((1, 8), args):
            training = {"steps": timed, "batch_size": 250, "lr": 1e-2}
            task = {"kind": "phonebook", "n_entries": 1000}
            trial = Trial.model_validate({"model": model(2, 32, n_experts), "task": task, "training": training})
            network = initial(trial, place)
            examples, test = trial.task.make("train"), trial.task.make("test")
            step = milliseconds(lambda: train(network, trial, examples, place)) / timed  # noqa: B023
            network.eval()
            calls = (
                lambda: score(network, test, place),  # noqa: B023
                lambda: answer(network, test, DIGITS, -1, place),  # noqa: B023
            )
            with torch.no_grad():
                costs = [statistics.median(milliseconds(call) for _ in range(5)) for call in calls]
            told = (cell for ms in costs for cell in (f"{ms:.0f}", f"{100 * ms / step / STEPS:.2f}"))
            table.row(n_experts, f"{step:.1f}", *told)
    table.keep(args.out)


if __name__ == "__main__":
    main()
