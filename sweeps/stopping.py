"""A sweep that is asked to end: a file in its results, which every trial on every machine looks for."""

import time
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 0.5


def path_of(results: Path) -> Path:
    """The file that asks the run at work in a results folder to end."""
    return results / ".stop"


def request(results: Path, why: str = "") -> None:
    """Ask it: trials under way write a checkpoint and end, no other begins."""
    path_of(results).write_text(why)


def withdraw(results: Path) -> None:
    """Let a run begin."""
    with suppress(FileNotFoundError):
        path_of(results).unlink()


class Asked:
    """Whether a results folder's run was asked to end; looks at the file twice a second at most."""

    def __init__(self, results: Path):
        self.path, self.looked, self.found = path_of(results), 0.0, False

    def __call__(self) -> bool:
        now = time.monotonic()
        if not self.found and now - self.looked > LOOK_EVERY_S:
            self.looked, self.found = now, self.path.exists()
        return self.found
