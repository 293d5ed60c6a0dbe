"""What the benchmarks share: the device and its clock, the models that are timed, the table that is printed and kept.

They need torch and what parrots/models and parrots/training import (numpy, pydantic, pyarrow, safetensors); no Ray, no MLflow,
no network. transformers is the peer: where it is not installed, that column says so.
"""

import statistics
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import torch

from parrots.models.config import Dense, Model, MoE
from parrots.provenance import hardware

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ROUNDS = 7
Shape = TypeVar("Shape")


def arguments(about: str | None, **more: tuple[object, str]) -> Namespace:
    """The command line: --out, --smoke, and a number or a flag for each of `more` (its default and its help).

    One thread from here.
    """
    parser = ArgumentParser(description=about)
    for name, (default, text) in more.items():
        if default is False:
            parser.add_argument(f"--{name}", action="store_true", help=text)
        else:
            parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    parser.add_argument("--out", type=Path, help="file to keep the table in")
    parser.add_argument("--smoke", action="store_true", help="the first shape alone, timed once: does it run at all?")
    torch.set_num_threads(1)
    args = parser.parse_args()
    if args.smoke and "seconds" in args:
        args.seconds = 0.0
    return args


def some(shapes: Iterable[Shape], args: Namespace) -> list[Shape]:
    """The shapes that are timed."""
    return list(shapes)[: 1 if args.smoke else None]


def machine() -> str:
    """When, on what, with which torch; the peer's version too."""
    return f"{datetime.now(UTC):%Y-%m-%d}, {hardware(DEVICE)}, torch {torch.__version__}, {peer() or 'no transformers'}"


def peer() -> str:
    """The transformers that is installed, or nothing."""
    try:
        return f"transformers {version('transformers')}"
    except PackageNotFoundError:
        return ""


def model(layers: int, d: int, n_experts: int, init_std: float = 0.02) -> Model:
    """FFN as wide as the model, two experts a token, half as many key-value heads as heads. One expert: dense."""
    ffn = Dense(d_ff=d) if n_experts == 1 else MoE(d_ff=d, n_experts=n_experts)
    heads = max(4, d // 64)
    return Model(d_model=d, n_layers=layers, n_heads=heads, n_kv_heads=heads // 2, ffn=ffn, init_std=init_std)


def milliseconds(call: Callable[[], object], n: int = 1) -> float:
    """Of one of `n` calls: a thread's time on a CPU, the clock's on a GPU."""
    clock = time.process_time if DEVICE == "cpu" else time.perf_counter
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    began = clock()
    for _ in range(n):
        call()
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return 1e3 * (clock() - began) / n


def medians(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median milliseconds of each, in blocks that take turns, about `seconds` each in all; a busy machine slows all alike."""
    for call in calls.values():
        milliseconds(call, 3)
    n = {name: max(1, int(1e3 * seconds / ROUNDS / milliseconds(call, 2))) for name, call in calls.items()}
    rounds = [{name: milliseconds(call, n[name]) for name, call in calls.items()} for _ in range(ROUNDS)]
    return {name: statistics.median(taken[name] for taken in rounds) for name in calls}


class Table:
    """Markdown, printed line by line as it comes."""

    def __init__(self, title: str, text: str, columns: Sequence[str]):
        self.lines: list[str] = []
        for line in (f"# {title}", "", text, "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"):
            self.say(line)

    def say(self, line: str) -> None:
        """One more line."""
        self.lines.append(line)
        print(line, flush=True)

    def row(self, *cells: object) -> None:
        """One more row."""
        self.say(f"| {' | '.join(map(str, cells))} |")

    def keep(self, path: Path | None) -> None:
        """Write it where it was asked for."""
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(self.lines) + "\n")
