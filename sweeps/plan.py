"""What a sweep will cost, before it starts: parameters, FLOPs, time, and what is done already. Runs nothing, imports no torch.

Time comes from a line in a few quantities that the cell's shape fixes, calibrated once on a named machine
(`benchmarks/calibrate.py`) and scaled by how this one turned out in the records at hand.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parrots.spec import Trial
from sweeps.ledger import Ledger
from sweeps.search import Capacity, Reached
from sweeps.spec import Cell

CALIBRATION = Path(__file__).with_name("calibration.json")
CELL_START_S = 0.5  # a cell's data, its way through Tune and its record
START_S = 10.0  # Ray, and the first actors' imports, measured on two cores
GROUP_START_S = 20.0  # a Train worker group's processes, likewise


def quantities(trial: Trial) -> dict[str, float]:
    """What a training's time on one worker is made of."""
    model, rows = trial.model, trial.tokens * trial.model.n_layers
    launches = trial.training.steps * model.n_layers
    sparse = model.n_experts > 1
    return {
        "launches": launches,
        "expert_launches": launches * sparse,
        "rows": rows,
        "attended": rows * trial.task.seq_len,
        "elements": rows * (model.d_model + model.top_k * model.ffn.d_ff),
        "expert_elements": rows * model.top_k * (model.d_model + model.ffn.d_ff) * sparse,
        "flops": trial.flops,
    }


def seconds(trial: Trial, calibration: Mapping[str, float]) -> float:
    """Expected training seconds of one worker."""
    return sum(calibration[name] * amount for name, amount in quantities(trial).items())


def calibration() -> dict[str, float]:
    """Seconds for one of each of `quantities`, as measured on the machine that the file names."""
    return json.loads(CALIBRATION.read_text())["seconds_per"]


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep with their expected time and their state, over a number of slots (cores or GPUs)."""

    cells: tuple[Cell, ...]
    seconds: dict[str, float]
    """By trial id, from a cell's start to its record."""
    states: dict[str, str]
    slots: int
    search_s: float = 0.0
    """Slot-seconds that a search may still take beyond the cells that are known."""

    def work(self, cell: Cell) -> float:
        """Slot-seconds that a cell takes."""
        return self.seconds[cell.trial.id] * cell.workers

    def wall_s(self) -> float:
        """Expected seconds until the missing cells are done, with all slots kept busy."""
        left = [cell for cell in self.cells if self.states[cell.trial.id] != "done"]
        return START_S + (sum(map(self.work, left)) + self.search_s) / self.slots if left else 0.0


def plan(cells: Sequence[Cell], ledger: Ledger, slots: int, search_s: float = 0.0) -> Plan:
    """Each cell's expected time and state."""
    rates = calibration()
    expected = {}
    for cell in cells:
        alone = CELL_START_S + seconds(cell.trial, rates)
        expected[cell.trial.id] = alone if cell.workers == 1 else GROUP_START_S + alone / cell.workers
    return Plan(tuple(cells), expected, {cell.trial.id: ledger.state(cell) for cell in cells}, slots, search_s)


def search_s(search: Capacity, reached: Reached) -> float:
    """Slot-seconds of the trials that a search may need beyond those it has come to, each with a book of middling size."""
    rates, middle = calibration(), round(math.sqrt(search.low * search.high))
    total = 0.0
    for arm in search.arms:
        walk = search.walk(arm, reached)
        left = len(search.listed) + search.at_most - len(walk.asked) if walk.next else 0
        left = min(left, search.at_most)
        total += max(left, 0) * (CELL_START_S + seconds(search.trial(arm, middle), rates))
    return total


def longest_first(cells: Sequence[Cell], made: Plan) -> list[Cell]:
    """The order in which cells keep all slots busy until near the end (LPT scheduling)."""
    return sorted(cells, key=lambda cell: -made.seconds[cell.trial.id])
