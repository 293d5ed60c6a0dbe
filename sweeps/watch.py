"""How far a running sweep is, drawn live on a terminal and told in lines elsewhere."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from threading import Event, Thread
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from parrots.spec import Cell
from sweeps.plan import Plan

LINE_EVERY_S = 15.0
RATE_OVER_S = 20.0
KEPT = ("done", "diverged")
STOPPED = "stopped"


class Watch:
    """Counts a run's cells and draws them while it is entered as a context.

    cells: those to run, of a plan whose proportions foretell the time left; the run's own pace sets its scale.
    on_end: called with the id of each trial that has ended.
    """

    def __init__(self, cells: Sequence[Cell], plan: Plan, console: Console, on_end: Callable[[str], None]):
        self.cells: dict[str, Cell] = {}
        self.work: dict[str, float] = {}
        self.expect(cells, plan)
        self.slots, self.console, self.on_end = plan.slots, console, on_end
        self.sizes: dict[str, float] = {}  # slots that a cell takes, where they are not its workers: a part of a GPU
        self.share: dict[str, float] = {}  # of each running cell
        self.since: dict[str, float] = {}  # when each running cell began
        self.held_s = 0.0  # slot-seconds that ended cells had
        self.trained_s: dict[str, float] = {}  # slot-seconds of the training loop, in this run, of each cell
        self.over_at = self.began_at = 0.0
        self.status: dict[str, str] = {}  # of each ended cell
        self.failed: Counter[str] = Counter()  # cells by the class of their last failure
        self.lost: Counter[str] = Counter()  # attempts that are made again, likewise
        self.tokens: Counter[str] = Counter()
        self.alarms: dict[str, Sequence[str]] = {}  # of each cell that raised some
        self.latest = ""
        self.read: deque[tuple[float, int]] = deque()
        self.began = time.monotonic()

    def expect(self, cells: Sequence[Cell], plan: Plan) -> None:
        """These cells are to run besides."""
        self.cells |= {cell.trial.id: cell for cell in cells}
        self.work |= {cell.trial.id: plan.work(cell) for cell in cells}

    def size(self, trial_id: str) -> float:
        """Slots that a cell takes."""
        return self.sizes.get(trial_id, self.cells[trial_id].workers)

    def started(self, trial_id: str) -> None:
        """A cell begins, or begins again."""
        if not self.share and not self.status:
            self.began = time.monotonic()  # the pace is the cells', not that of Ray's start
        now = time.monotonic()
        self._release(trial_id, now)  # where it begins again after its process died
        self.began_at = self.began_at or now
        self.share[trial_id], self.since[trial_id] = 0.0, now

    def progressed(self, trial_id: str, share: float, tokens: int, alarms: Sequence[str] = (), seconds: float = 0.0) -> None:
        """A running cell has done this share of its steps, read so many tokens, and shown these signs of trouble.

        seconds: of its training loop since this run took it up.
        """
        self.trained_s[trial_id] = seconds * self.size(trial_id)
        if len(alarms) > len(self.alarms.get(trial_id, ())):
            self.alarms[trial_id] = alarms
            self.latest = f"{self.cells[trial_id].trial.name}, {alarms[-1]}"
        self.share[trial_id], self.tokens[trial_id] = share, tokens
        now = time.monotonic()
        self.read.append((now, self.tokens.total()))
        while now - self.read[0][0] > RATE_OVER_S:
            self.read.popleft()

    def ended(self, trial_id: str, status: str, seconds: float = 0.0, failure: str = "") -> None:
        """A cell has its record; or it failed, with the class of that; or it was stopped on the way, and has none."""
        self.over_at = time.monotonic()
        self._release(trial_id, self.over_at)
        if status in KEPT:
            self.trained_s[trial_id] = seconds * self.size(trial_id)
        else:
            self.trained_s.pop(trial_id, None)
        if failure:
            self.failed[failure] += 1
        if status != STOPPED:
            self.status[trial_id] = status
            self.on_end(trial_id)

    def _release(self, trial_id: str, now: float) -> None:
        """Its slots are free."""
        self.share.pop(trial_id, None)
        if (since := self.since.pop(trial_id, None)) is not None:
            self.held_s += (now - since) * self.size(trial_id)

    def device_s(self) -> float:
        """Slot-seconds that cells have had so far, whatever they did with them."""
        now = time.monotonic()
        return self.held_s + sum((now - since) * self.size(i) for i, since in list(self.since.items()))

    def utilisation(self) -> float:
        """Share of all slots' time, from the first cell's start to the last one's end, that went into training loops.

        Of cells that are kept: steps that were replayed, compiling, making data and evaluating are left out.
        """
        end = time.monotonic() if self.share else self.over_at
        whole = self.slots * (end - self.began_at)
        return sum(self.trained_s.values()) / whole if whole > 0 else 0.0

    def unfinished(self, cells: Sequence[Cell]) -> bool:
        """Whether some of these have not ended, which after a run means that it was interrupted."""
        return any(cell.trial.id not in self.status for cell in cells)

    def tokens_per_s(self) -> float:
        """Training tokens a second over the last while."""
        if len(self.read) < 2 or self.read[-1][0] == self.read[0][0]:
            return 0.0
        (t0, n0), (t1, n1) = self.read[0], self.read[-1]
        return (n1 - n0) / (t1 - t0)

    def left_s(self) -> float:
        """Seconds until the last cell ends, as far as one can tell."""
        whole = sum(self.work.values())
        done = sum(self.work[i] for i in self.status) + sum(self.work[i] * s for i, s in list(self.share.items()))
        elapsed = time.monotonic() - self.began
        pace = done / elapsed if done > 0.05 * whole else self.slots
        return (whole - done) / pace

    def line(self) -> str:
        """The state of the run in a line."""
        if not self.share and not self.status:
            return f"starting Ray: {len(self.cells)} cells on {self.slots} slots"
        failed = self.failed.total()
        left = len(self.cells) - len(self.status) - len(self.share)
        counts = f"{len(self.status) - failed} done, {len(self.share)} running, {left} left"
        lost = f", {failed} failed ({counted(self.failed)})" if failed else ""
        lost += f", attempts lost: {counted(self.lost)}" if self.lost else ""
        pace = f"{self.tokens_per_s():,.0f} tokens/s | {self.utilisation():.0%} utilised"
        return f"{counts}{lost} | {pace} | {clock(self.left_s())} left"

    def __rich__(self) -> Group:
        rows = Table.grid(padding=(0, 2))
        for trial_id, share in list(self.share.items()):
            trial = self.cells[trial_id].trial
            rows.add_row(f"  {trial.task.kind}", trial.name, ProgressBar(1.0, share, width=30), f"{share:4.0%}")
        return Group(self.line(), rows, self.alarm()) if self.alarms else Group(self.line(), rows)

    def alarm(self) -> str:
        """How many alarms there were in all, and the latest."""
        number = sum(map(len, self.alarms.values()))
        return f"{number} alarm{'s' if number > 1 else ''}, the latest: {self.latest}"

    def __enter__(self) -> "Watch":
        self.began = time.monotonic()
        self.over = Event()
        self.live = Live(self, console=self.console, refresh_per_second=2) if self.console.is_terminal else None
        if self.live:
            self.live.start()
        else:
            Thread(target=self._tell, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        if self.live:
            self.live.stop()
        else:
            self.console.print(self.line())

    def _tell(self) -> None:
        while not self.over.wait(LINE_EVERY_S):
            self.console.print(self.line())


def counted(numbers: Mapping[str, int]) -> str:
    """1 oom, 2 infrastructure"""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(numbers.items()))


def clock(seconds: float) -> str:
    """A duration as people read it: 45 s, 3:20, 2:05:00."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60}:{s % 60:02}" if s < 3600 else f"{s // 3600}:{s // 60 % 60:02}:{s % 60:02}"
