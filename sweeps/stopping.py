"""A sweep that is asked to end: a file in its results, or in their store, which every trial on every machine looks for."""

import time
from contextlib import suppress
from pathlib import Path

from parrots.store import Store

LOOK_EVERY_S = 0.5
ASK_EVERY_S = 5.0  # a store: some hundredths of a second each
AWAY = 10  # times what it took to learn that it is away until it is asked again, besides


def path_of(results: Path) -> Path:
    """The file that asks the run at work in a results folder to end."""
    return results / ".stop"


def request(results: Path, why: str = "") -> None:
    """Ask it: trials under way write a checkpoint and end, no other begins."""
    path_of(results).write_text(why)


def withdraw(results: Path, store: Store | None = None) -> None:
    """Let a run begin."""
    with suppress(FileNotFoundError):
        path_of(results).unlink()
    if store:
        store.delete(path_of(results))


class Asked:
    """Whether a results folder's run was asked to end; looks at the file twice a second at most, at a store's now and then.

    A store that does not answer asks nothing: the training goes on, and waits for it a tenth of its time at most.
    """

    def __init__(self, results: Path, store: Store | None = None):
        self.path, self.looked, self.found = path_of(results), 0.0, False
        self.store, self.asked = store and store.impatient, 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.found and now - self.looked > LOOK_EVERY_S:
            self.looked, self.found = now, self.path.exists()
        if self.store and not self.found and now - self.asked > ASK_EVERY_S:
            try:
                self.found = self.store.has(self.path)
                self.asked = time.monotonic()
            except OSError:
                self.asked = time.monotonic() + AWAY * (time.monotonic() - now)
        return self.found
