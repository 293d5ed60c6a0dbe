"""Chinchilla's law through the 240 published runs: our fit beside the published recipe, one optimum and 4,000 bootstraps.

    python benchmarks/fit.py --out benchmarks/results/fit-cpu.md

The recipe is Hoffmann's approach 3 as Epoch AI replicated it: scipy's L-BFGS-B with numerical gradients on the summed Huber
loss in log-sum-exp form, from each of 5 x 5 x 5 x 6 x 6 = 4,500 starts; its bootstraps begin at the optimum.
"""

import multiprocessing
import resource
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy
from bench import Table, arguments
from scipy.optimize import minimize
from scipy.special import huber, logsumexp

import analysis
from analysis.intervals import bootstrap, times_drawn
from analysis.laws import CHINCHILLA
from analysis.optimum import optimum
from analysis.points import Points, points
from parrots.provenance import processor

RUNS = Path(__file__).parents[2] / "shared/data/scaling_laws/chinchilla/svg_extracted_data.csv"
DELTA = 1e-3
GRID = [np.arange(0, 30, 5), np.arange(0, 30, 5), np.arange(-1, 1.5, 0.5), np.arange(0, 2.5, 0.5), np.arange(0, 2.5, 0.5)]
"""ln A, ln B, ln E, alpha, beta."""
RESAMPLES = 4000


class Result(NamedTuple):
    """What a job found and what it took."""

    objective: float
    wall_s: float
    cpu_s: float
    gb: float


def taken(file: str) -> Points:
    named = {"N_total": "Model Size", "C": "Training FLOP", "loss": "loss"}
    return points(analysis.load(file, named), CHINCHILLA, drop_highest=5)


def ours(file: str, part: int) -> Result:
    at = taken(file)
    return timed(lambda: optimum(CHINCHILLA, at, 64, {}).cost)


def ours_resampled(file: str, part: int) -> Result:
    best = optimum(CHINCHILLA, taken(file), 64, {})

    def job() -> float:
        return width(bootstrap(best, RESAMPLES // part, 0)[0])

    return timed(job)


def recipe(file: str, part: int) -> Result:
    at = taken(file)
    w_R = np.ones(len(at.y_R))
    return timed(lambda: min(descend(at, w_R, np.array(start, float)).fun for start in list(product(*GRID))[::part]))


def recipe_resampled(file: str, part: int) -> Result:
    best = optimum(CHINCHILLA, taken(file), 64, {})
    at, draw = best.at, np.random.default_rng(0)

    def job() -> float:
        w_MR = times_drawn(draw, at.configurations, RESAMPLES // part, 5)
        return width(np.array([descend(at, w_R, best.u_P).x for w_R in w_MR]))

    return timed(job)


def descend(at: Points, w_R: np.ndarray, start: np.ndarray) -> scipy.optimize.OptimizeResult:
    """One search of the recipe's."""
    ln_N, ln_D = np.log(at.x["N"]), np.log(at.x["D"])

    def cost(u: np.ndarray) -> float:
        terms = [u[0] - u[3] * ln_N, u[1] - u[4] * ln_D, np.full(len(ln_N), u[2])]
        return float((w_R * huber(DELTA, at.y_R - logsumexp(terms, axis=0))).sum())

    return minimize(cost, start, method="L-BFGS-B")


def width(u_MP: np.ndarray) -> float:
    """Of alpha's 95 % interval: that both bootstraps find the same is seen from it."""
    return float(np.ptp(np.percentile(u_MP[:, 3], [2.5, 97.5])))


def timed(job: Callable[[], float]) -> Result:
    cpu, wall = time.process_time(), time.perf_counter()
    found = job()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Result(found, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def alone(job: Callable[[str, int], Result], file: str, part: int, times: int) -> Result:
    """The quickest of some processes that do nothing else."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return min((pool.apply(job, (file, part)) for _ in range(times)), key=lambda one: one.cpu_s)


def main() -> None:
    """Print the table, and write it where asked."""
    args = arguments(__doc__, runs=(str(RUNS), "the published runs, as Epoch AI read them off the figure"))
    part = 100 if args.smoke else 1  # of the recipe's starts and of all bootstraps, one in so many
    table = Table(
        f"Fitting Chinchilla: {datetime.now(UTC):%Y-%m-%d}, one core of {processor()}, scipy {scipy.__version__}",
        "240 runs. Found: the objective, or the width of alpha's 95 % interval. Factor: the recipe's CPU time over ours.",
        ("job", "by", "found", "wall s", "CPU s", "GB at the peak", "factor"),
    )
    for job, rivals in {
        "the optimum": {"ours: 64 starts, checked by L-BFGS": (ours, 3), f"the recipe: {4500 // part:,} starts": (recipe, 1)},
        f"{RESAMPLES // part:,} bootstraps": {
            "ours": (ours_resampled, 3),
            "the recipe, from the optimum": (recipe_resampled, 1),
        },
    }.items():
        base = 0.0
        for name, (call, times) in rivals.items():
            found = alone(call, args.runs, part, 1 if args.smoke else times)
            factor = f"{found.cpu_s / base:.0f}" if base else ""
            base = base or found.cpu_s
            cells = (f"{found.objective:.6g}", f"{found.wall_s:.2f}", f"{found.cpu_s:.2f}", f"{found.gb:.2f}")
            table.row(job, name, *cells, factor)
    table.keep(args.out)


if __name__ == "__main__":
    main()
