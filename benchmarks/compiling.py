"""Our training step eager, compiled, and as CUDA graphs, beside what a trial of that shape would be given.

    python benchmarks/compiling.py [--width 256] [--out benchmarks/results/compiling-h200.md]

What parrots/compiling.py chooses on a GPU stands on this table. The modes take turns, so a busy machine slows all. The first
three steps, which compile, are timed apart: after so many steps a mode has made good what it cost. Calls of one width each
stay below nine minutes. On a CPU, where trials are eager, only --smoke runs, and without graphs. Needs torch alone.
"""

import itertools
import math
from pathlib import Path

import torch
from bench import DEVICE, Table, arguments, machine, medians, milliseconds, model, some
from train_step import Shape, ours, training

from parrots.compiling import DEFAULT, GRAPHS, LONG, chosen
from parrots.frozen import first_line
from parrots.placement import EAGER, Placement
from parrots.spec import Trial

WARM = 3  # steps in which all is compiled and recorded


def shapes(width: int, smoke: bool) -> list[Shape]:
    """Dense and eight experts, few tokens a step and many."""
    if smoke:
        return [Shape(1, 16, 8, 4, 16, 64, "float32")]
    widths = (width,) if width else (64, 128, 256, 512, 1024)
    return [Shape(12, d, e, b, 512, 32_000, "bfloat16") for d, e, b in itertools.product(widths, (1, 8), (1, 16))]


def rule(shape: Shape) -> str:
    """The mode of a long trial of this shape on a GPU."""
    said = training(shape).model_copy(update={"steps": LONG})
    task = {"kind": "phonebook", "n_entries": 1000}
    trial = Trial.model_validate({"model": model(shape.layers, shape.d_model, shape.n_experts), "task": task, "training": said})
    return chosen(trial, Placement(Path(), device="cuda"))


def timed(shape: Shape, modes: list[str], seconds: float) -> tuple[dict[str, float], dict[str, float], str]:
    """Milliseconds a step of each mode that works, the seconds of its first steps, and why another does not."""
    steps, first_s, failed = {}, {}, ""
    for mode in modes:
        try:
            steps[mode] = ours(shape, mode)
            first_s[mode] = WARM * milliseconds(steps[mode], WARM) / 1e3
        except Exception as error:
            if mode == EAGER:
                raise
            steps.pop(mode, None)
            failed = f"{mode}: {first_line(error)}"
    return medians(steps, seconds), first_s, failed


def pays(ms: dict[str, float], first_s: dict[str, float], mode: str) -> str:
    """After how many steps a mode has made good what its first ones cost beyond eager ones."""
    if mode not in ms or (gain := ms[EAGER] - ms[mode]) <= 0:
        return "never"
    return f"{math.ceil(1e3 * (first_s[mode] - first_s[EAGER]) / gain):,}"


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__, seconds=(2.0, "for each mode, each shape"), width=(0, "the shapes of this d alone"))
    modes = [EAGER, DEFAULT, *[GRAPHS] * (DEVICE == "cuda")]
    table = Table(
        f"A training step eager, compiled, as CUDA graphs: {machine()}",
        f"Milliseconds a step (median of seven blocks that take turns), and the seconds of the first {WARM}.",
        ("d", "E", "tokens a step", *modes, "first, s", "pays after, steps", "a long trial is given"),
    )
    for shape in some(shapes(args.width, args.smoke), args):
        about = (shape.d_model, shape.n_experts, shape.tokens)
        if DEVICE == "cpu" and not args.smoke:
            table.row(*about, *["not measured (no GPU here)"] * len(modes), "", "", rule(shape))
            continue
        ms, first_s, failed = timed(shape, modes, args.seconds)
        told = [f"{ms[mode]:.2f}" if mode in ms else f"not measured ({failed})" for mode in modes]
        firsts = ", ".join(f"{mode} {seconds:.1f}" for mode, seconds in first_s.items())
        after = ", ".join(f"{mode} {pays(ms, first_s, mode)}" for mode in modes[1:])
        table.row(*about, *told, firsts, after, rule(shape))
        torch.compiler.reset()
    table.keep(args.out)


if __name__ == "__main__":
    main()
