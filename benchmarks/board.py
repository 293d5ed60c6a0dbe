"""How soon the board shows thousands of trials in headless Chromium, live and as one file: one table.

    python benchmarks/board.py [--trials 5000] [--out benchmarks/results/board-cpu.md]

Records as a sweep leaves them (two curves of a hundred points each), read cold and read before. First paint is the browser's
own first contentful paint; "all trials painted" is when the frame after the last of them has been drawn. From navigation, in a
new browser each time, the median of several. CPU-seconds are those of the page's main thread.
"""

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from socket import AF_INET, SOCK_STREAM, socket

from bench import Table, arguments, machine
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from parrots.measurement import Measurement
from parrots.provenance import processor
from parrots.record import Record
from parrots.spec import Trial

ROUNDS = 5
POINTS = 100
PATIENCE_S = 300
FLAGS = ("headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-dev-shm-usage")
TASKS = (
    {"kind": "phonebook", "n_entries": 500, "n_test": 400},
    {"kind": "length2_path", "n_vertices": 10, "out_degree": 3, "n_train": 5000, "train_queries": 3, "n_test": 500},
)


def written(count: int, results: Path) -> None:
    """Records of so many trials of different shapes."""
    draw = random.Random(0)  # nosec B311 # draws shapes
    for seed in range(count):
        d, experts = draw.choice([16, 32, 48, 64, 96, 128]), draw.choice([1, 2, 4, 8, 16])
        ffn = {"kind": "dense", "d_ff": d * draw.choice([1, 2])}
        ffn = ffn if experts == 1 else {"kind": "moe", "d_ff": d, "n_experts": experts}
        model = {"d_model": d, "n_layers": draw.choice([2, 3, 4]), "n_heads": 4, "n_kv_heads": 2, "ffn": ffn}
        training = {"steps": 1000, "batch_size": 100, "lr": draw.choice([1e-3, 2e-3, 5e-3, 1e-2])}
        said = {"model": model, "task": draw.choice(TASKS), "training": training, "seed": seed}
        steps = range(10, 10 * POINTS + 1, 10)
        measured = [Measurement(name, step, 3 / step, 0.1, 10) for name in ("loss", "grad_norm") for step in steps]
        measured.append(Measurement("exact_match", 1000, draw.random(), 0.02, 400))
        trial, now = Trial.model_validate(said), datetime.now(UTC)
        Record(trial, "done", measured, now, 20.0, processor(), sweep="many", steps=1000, train_s=15.0).write(results)


def opened(address: str) -> tuple[float, float, float]:
    """(first paint, all trials painted, CPU) in seconds, in a browser of its own."""
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        browser.get(address)
        until = time.monotonic() + PATIENCE_S
        while not (at := browser.execute_script("return performance.getEntriesByName('all-painted')[0]?.startTime")):
            if time.monotonic() > until:
                raise RuntimeError(f"{address}: trials were not painted in {PATIENCE_S} s")
            time.sleep(0.1)
        first = browser.execute_script("return performance.getEntriesByName('first-contentful-paint')[0].startTime")
        told = {one["name"]: one["value"] for one in browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]}
        return first / 1e3, at / 1e3, told["ThreadTime"]
    finally:
        browser.quit()


@contextmanager
def served(results: Path) -> Iterator[str]:
    """The address of a board that has only just begun to read."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sweeps.cli", "board", "--results", str(results), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # nosec B603 # ours
    try:
        while socket(AF_INET, SOCK_STREAM).connect_ex(("127.0.0.1", port)):
            if process.poll() is not None:
                raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(30)


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    args = arguments(__doc__, trials=(5000, "trials on the board"))
    rounds = 1 if args.smoke else ROUNDS
    args.trials = 50 if args.smoke else args.trials
    text = f"{machine()}, {args.trials:,} trials, headless Chromium. Seconds from navigation, medians of {rounds}."
    table = Table("The board", text, ("page", "first paint", "all trials painted", "CPU-s of the page's main thread"))
    with tempfile.TemporaryDirectory() as folder:
        results, file = Path(folder) / "results", Path(folder) / "board.html"
        written(args.trials, results)
        began = time.perf_counter()
        command = [sys.executable, "-m", "sweeps.cli", "board", "--results", str(results), "--once", str(file)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # nosec B603 # ours
        took = time.perf_counter() - began

        def row(name: str, times: list[tuple[float, float, float]]) -> None:
            table.row(name, *(f"{statistics.median(column):.2f}" for column in zip(*times, strict=True)))

        row(f"one file of {file.stat().st_size / 1e6:.1f} MB", [opened(file.as_uri()) for _ in range(rounds)])
        with served(results) as address:
            row("live, as the server begins to read", [opened(address)])
            row("live, read before", [opened(address) for _ in range(rounds)])
        table.say("")
        table.say(f"Writing the file, records read cold and Python's start included: {took:.1f} s.")
    table.keep(args.out)


if __name__ == "__main__":
    main()
