"""A sweep beside the way a user would run it without us, and what running one costs beyond training: one table.

    python benchmarks/sweep.py [--cells 11] [--short 32] [--noop 1000] [--out benchmarks/results/sweep-cpu.md]

Theirs: plain Tune, a fresh TorchTrainer of one worker and a transformers model for each trial, `generate` for its score, on the
same examples in the same order. Both run one after the other on the same slots; the times are the clock's. --cells: so many
of quickstart's, evenly spaced (all would take an hour); --short: cells of two seconds' training. Overhead: cells of one step
and a test of eight; all CPU-seconds of all of the sweep's processes are counted, those inside train and evaluate too, so what
is told is an upper bound.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from bench import Table, arguments, machine

from parrots.frozen import canonical_json
from parrots.provenance import cores
from parrots.spec import Cell, Trial
from sweeps.spec import find

DOCUMENT = '''"""Cells that a benchmark asks for."""

from pathlib import Path

from parrots.spec import Cell
from sweeps.spec import Sweep, union


def sweep(scale):
    lines = Path(__file__).with_name("cells.jsonl").read_text().splitlines()
    return Sweep(cells=union(map(Cell.model_validate_json, lines)), keep="none")
'''
SHORT = {
    "model": {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2, "ffn": {"kind": "dense", "d_ff": 32}},
    "task": {"kind": "phonebook", "n_entries": 200, "n_test": 200},
    "training": {"steps": 200, "batch_size": 100, "lr": 1e-2},
}
TICK_S = 0.2


def short(seed: int) -> Trial:
    """About two seconds of training on one thread."""
    return Trial.model_validate({**SHORT, "seed": seed})


def noop(seed: int) -> Trial:
    """A cell that does next to nothing."""
    tiny = {**SHORT["training"], "steps": 1, "batch_size": 1}
    return Trial.model_validate({**SHORT, "task": {**SHORT["task"], "n_test": 8}, "training": tiny, "seed": seed})


class Took(NamedTuple):
    """What a command took, with all that it started, however far removed."""

    seconds: float
    cpu_s: float
    utilisation: str = "-"
    """As a run of ours tells it at its end."""

    def row(self, cells: int) -> tuple[str, ...]:
        """For the table."""
        each = f"{self.seconds / cells:.3f}", f"{self.cpu_s / cells:.3f}"
        return f"{self.seconds:.1f}", f"{self.cpu_s:.1f}", *each, self.utilisation


def ours(cells: Sequence[Cell]) -> Took:
    """`parrots run`."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "benchmark.py").write_text(DOCUMENT)
        (Path(folder) / "cells.jsonl").write_text("".join(canonical_json(cell) + "\n" for cell in cells))
        command = [str(Path(sys.executable).with_name("parrots")), "run", "benchmark.py"]
        took = measured(command, folder)
        assert len(list((Path(folder) / "results" / "records").glob("*.parquet"))) == len(cells)
        return took


def theirs(cells: Sequence[Cell]) -> Took:
    """Plain Tune; it takes its trials from a file too."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cells.jsonl").write_text("".join(canonical_json(cell) + "\n" for cell in cells))
        return measured([sys.executable, str(Path(__file__).with_name("sweep_plain.py")), "cells.jsonl"], folder)


def measured(command: list[str], folder: str) -> Took:
    """Run a command that has to succeed."""
    began = time.perf_counter()
    env = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (Path(folder) / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=folder, stdout=said, stderr=said, env=env)  # nosec B603 # ours
        used: dict[int, float] = {}
        over = Event()
        sampler = Thread(target=lambda: sample(process.pid, used, over))
        sampler.start()
        code = process.wait()
        over.set()
        sampler.join()
    took_s, text = time.perf_counter() - began, (Path(folder) / "said").read_text()
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit {code}\n{text[-2000:]}")
    return Took(took_s, sum(used.values()), (re.findall(r"(\d+%) utilised", text) or ["-"])[-1])


def sample(root: int, used: dict[int, float], over: Event) -> None:
    """Keep the CPU-seconds of a process and all below it, by process, while it runs; at most a tick of each is missed."""
    tick = os.sysconf("SC_CLK_TCK")
    while not over.wait(TICK_S):
        seen = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            seen[int(stat.parent.name)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / tick)
        grown = True
        ours = {root} | set(used)
        while grown:
            more = {process for process, (parent, _) in seen.items() if parent in ours} - ours
            ours |= more
            grown = bool(more)
        used.update({process: seen[process][1] for process in ours if process in seen})


def main() -> None:
    numbers = {
        "cells": (11, "of quickstart's; 0: none"),
        "short": (32, "of two seconds' training; 0: none"),
        "noop": (1000, "that do nothing; 0: none"),
    }
    args = arguments(__doc__, **numbers)
    if args.smoke:
        args.cells, args.short, args.noop = 0, 1, 0
    text = f"{machine()}, {cores()} slots. Seconds of the clock, CPU-seconds of all processes."
    table = Table("A sweep", text, ("cells", "", "s", "CPU-s", "s a cell", "CPU-s a cell", "utilised"))
    whole = find("quickstart").cells
    quick = [whole[i * len(whole) // args.cells] for i in range(args.cells)]
    brief = [Cell(trial=short(seed)) for seed in range(args.short)]
    for name, cells in (("quickstart's", quick), ("of two seconds' training", brief)):
        if not cells:
            continue
        mine, other = ours(cells), theirs(cells)
        table.row(f"{len(cells)} {name}", "parrots run", *mine.row(len(cells)))
        table.row(f"{len(cells)} {name}", "plain Tune, TorchTrainer, transformers", *other.row(len(cells)))
        ratios = f"{other.seconds / mine.seconds:.1f}", f"{other.cpu_s / mine.cpu_s:.1f}"
        table.row(f"{len(cells)} {name}", "times as fast", *ratios, "", "", "")
    for count in sorted({min(128, args.noop), args.noop} - {0}):
        took = ours([Cell(trial=noop(seed)) for seed in range(count)])
        table.row(f"{count} no-op", "parrots run, report and MLflow included", *took.row(count))
    table.keep(args.out)


if __name__ == "__main__":
    main()
