"""K trials of one shape trained side by side, beside the same trials one after another.

    python benchmarks/stacked.py [--compiled] [--trials 4] [--out benchmarks/results/stacked-cpu.md]

A step is the trials' whole step: batches drawn, forward, backward, clipping, AdamW. Both take turns, so a busy machine slows
both. On a CPU the time is that of one thread (process time), on a GPU it is the clock's. Needs torch alone.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from bench import DEVICE, Table, arguments, machine, medians, model, some

from parrots.models.stacked import stack
from parrots.placement import Placement
from parrots.spec import Trial
from parrots.tasks.store import load
from parrots.training import stacked, trainer
from parrots.training.batches import shares
from parrots.training.optim import adamw, descend
from parrots.training.parallel import prepare
from parrots.training.weights import initial

STEPS_OF = [(16, 100), (32, 4), (32, 32), (64, 4), (64, 32), (128, 4)]  # width, examples a step
SMALL = [(d, n_experts, batch) for d, batch in STEPS_OF for n_experts in (1, 8)]
STEPS = 10**6  # more than are ever taken


def trials(d: int, n_experts: int, batch: int, k: int) -> list[Trial]:
    """Learning rates of one configuration."""
    training = {"steps": STEPS, "batch_size": batch, "precision": "bfloat16" if DEVICE == "cuda" else "float32"}
    about = {"model": model(2, d, n_experts), "task": {"kind": "phonebook", "n_entries": 1000}}
    return [Trial.model_validate({**about, "training": {**training, "lr": 1e-3 * (i + 1)}}) for i in range(k)]


def alone(trial: Trial, place: Placement) -> Callable[[], None]:
    """A step of one trial."""
    network = initial(trial, place)
    prepare(network, place)
    optimizer = adamw(network, trial.training)
    stream = shares(trial, load(trial.task, "train", place.data), place)

    def step() -> None:
        trainer.gradients(network, next(stream), trial.training.batch_size, trial, place)
        descend(optimizer, trial.training.clip_norm)

    return step


def in_turn(group: list[Trial], place: Placement) -> Callable[[], None]:
    """A step of each, one after another."""
    steps = [alone(trial, place) for trial in group]
    return lambda: [step() for step in steps] and None


def side_by_side(group: list[Trial], place: Placement) -> Callable[[], None]:
    """A step of all, stacked."""
    whole = stack([initial(trial, place) for trial in group])
    prepare(whole, place)
    optimizer = stacked.StackedAdamW(whole, group)
    examples = load(group[0].task, "train", place.data)
    streams = zip(*(shares(trial, examples, place) for trial in group), strict=True)

    def step() -> None:
        stacked.gradients(whole, next(streams), group[0], place)
        optimizer.step(0, skip=())

    return step


def shapes() -> Iterator[tuple[int, int, int]]:
    """Width, experts, examples a step."""
    widths = (32, 128, 256, 512) if DEVICE == "cuda" else (32, 128)
    return itertools.product(widths, (1, 8), (4, 32, 256))


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(
        __doc__,
        compiled=(False, "both through torch.compile; on a GPU with CUDA graphs"),
        trials=(4, "of one shape"),
        seconds=(2.0, "for each of the two, each shape"),
    )
    mode = ("reduce-overhead" if DEVICE == "cuda" else "default") if args.compiled else "eager"
    k = args.trials
    table = Table(
        f"{k} trials side by side, {'compiled' if args.compiled else 'eager'}: {machine()}",
        f"Milliseconds for a step of all {k} (median of seven blocks that take turns); L = 2.",
        ("d", "E", "tokens a step, of one", "one after another", "side by side", "faster", "the rule takes"),
    )
    with tempfile.TemporaryDirectory() as folder:
        place = Placement(Path(folder), device=DEVICE, compile=mode)
        for d, n_experts, batch in some(shapes(), args):
            group = trials(d, n_experts, batch, k)
            ms = medians({"turn": in_turn(group, place), "side": side_by_side(group, place)}, args.seconds)
            told = (f"{ms['turn']:.2f}", f"{ms['side']:.2f}", f"{ms['turn'] / ms['side']:.2f}")
            table.row(d, n_experts, batch * (group[0].task.seq_len - 1), *told, stacked.worthwhile(group[0], place))
            torch.compiler.reset()
        table.say("")
        table.say("Times as fast as one after another, by the number side by side, where a step is small:")
        table.say("")
        table.say("| d | E | tokens a step, of one | 2 | 4 | 8 |")
        table.say("|---|---|---|---|---|---|")
        for d, n_experts, batch in some(SMALL, args):
            table.row(
                d, n_experts, 15 * batch, *(f"{gain(d, n_experts, batch, n, place, args.seconds):.2f}" for n in (2, 4, 8))
            )
            torch.compiler.reset()
    table.keep(args.out)


def gain(d: int, n_experts: int, batch: int, k: int, place: Placement, seconds: float) -> float:
    """How many times as fast k trials are side by side."""
    group = trials(d, n_experts, batch, k)
    ms = medians({"one": alone(group[0], place), "side": side_by_side(group, place)}, seconds)
    return k * ms["one"] / ms["side"]


if __name__ == "__main__":
    main()
