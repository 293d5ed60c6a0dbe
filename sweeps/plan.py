"""What a sweep will cost, before it starts: parameters, FLOPs, time, and what is done already. Runs nothing, imports no torch.

Time comes from what was measured of a device (sweeps/calibration.py); memory is in sweeps/room.py, money in sweeps/devices.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from parrots.spec import Trial
from sweeps import calibration, ledger, room
from sweeps.devices import Device, here
from sweeps.lanes import lane_of
from sweeps.ledger import Ledger
from sweeps.search import Capacity, Reached, reached_in
from sweeps.spec import Cell, Sweep

CELL_START_S = 0.5  # a cell's data, its way through Tune and its record
START_S = 10.0  # Ray, and the first actors' imports, measured on two cores
GROUP_START_S = 20.0  # a Train worker group's processes, likewise

Timer = Callable[[Trial], float | None]
"""Training seconds of a trial on one worker; None where they are not known."""


def timer_of(hardware: str, results: Path, backend: str = "auto") -> Timer | None:
    """The timer of a device that was measured."""
    known = calibration.of(hardware, results, backend)
    return known.seconds if known else None


def timer_at(rates: Mapping[str, float], least_step_s: float = 0.0) -> Timer:
    """The timer of a device that does so many FLOP/s of each family of trials, a step taking `least_step_s` at least."""
    return lambda trial: max(trial.flops / rates[calibration.family(trial)], least_step_s * trial.training.steps)


def timer_here(results: Path) -> Timer:
    """This machine's; where it was not measured, that which comes along, whose proportions order the cells."""
    known, (packaged, *_) = timer_of(here().hardware, results), calibration.load()

    def seconds(trial: Trial) -> float | None:
        plain = trial.model_copy(update={"training": trial.training.model_copy(update={"precision": "float32"})})
        return (known and known(trial)) or packaged.seconds(trial) or packaged.seconds(plain)

    return seconds


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep with their expected time and their state, over a number of slots (cores or GPUs)."""

    cells: tuple[Cell, ...]
    seconds: dict[str, float]
    """By trial id, from a cell's start to its record; nan where its device was not measured."""
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


def plan(
    cells: Sequence[Cell],
    books: Ledger,
    slots: int,
    timer: Timer,
    search_s: float = 0.0,
    scale: str = "",
    device: Device | None = None,
) -> Plan:
    """Each cell's expected time and state; the scale tells which cells are worker groups.

    A cell whose model is there, and is to be asked something else, takes no more than its start.

    device: whose memory says what goes at once, and so whether micro-batches are counted first; by default this machine's.
    """
    device = device or here()
    expected = {}
    for cell in cells:
        alone = 0.0 if books.only_asked(cell) else timer(cell.trial)
        alone = math.nan if alone is None else CELL_START_S + alone * (1 + room.counting(cell, device))
        expected[cell.trial.id] = GROUP_START_S * (lane_of(cell, scale) == "group") + alone / cell.workers
    return Plan(tuple(cells), expected, {cell.trial.id: books.state(cell) for cell in cells}, slots, search_s)


def plan_of(found: Sweep, results: Path, slots: int, timer: Timer | None = None, device: Device | None = None) -> Plan:
    """The plan of a sweep beside what a results folder holds; on this machine unless a timer and a device are given."""
    search, timer = found.search, timer or timer_here(results)
    more = search_s(search, reached_in(results, search), timer) if search else 0.0
    return plan(found.asked(results), ledger.read(results), slots, timer, more, found.scale, device)


def search_s(search: Capacity, reached: Reached, timer: Timer) -> float:
    """Slot-seconds of the trials that a search may need beyond those it has come to, each with a book of middling size."""
    middle, total = round(math.sqrt(search.low * search.high)), 0.0
    for arm in search.arms:
        walk = search.walk(arm, reached)
        left = len(search.listed) + search.at_most - len(walk.asked) if walk.next else 0
        left = min(left, search.at_most)
        total += max(left, 0) * (CELL_START_S + (timer(search.trial(arm, middle)) or math.nan))
    return total


def longest_first(cells: Sequence[Cell], made: Plan) -> list[Cell]:
    """The order in which cells keep all slots busy until near the end (LPT scheduling)."""
    return sorted(cells, key=lambda cell: -made.seconds[cell.trial.id])
