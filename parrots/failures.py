"""Why an attempt came to nothing, and how often each reason is worth another attempt within one run."""

import errno
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Literal

import torch
import torch.distributed as dist

from parrots.placement import Placement
from parrots.provenance import hardware
from parrots.record import Record
from parrots.spec import Trial

Failure = Literal["halved", "oom", "infrastructure", "bug"]
"""Fewer examples at once, more memory, another machine, or another program would help. A record calls halved oom; its fourth
class is diverged, which is a result."""
BUDGET: dict[Failure, int] = {"halved": 0, "oom": 1, "infrastructure": 3, "bug": 0}
"""Further attempts, beside those that begin with half the micro-batch."""
AGAIN_S = 0.5  # before the first of them

OF_MACHINES = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EROFS, errno.ENODEV),
    *(errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE),
    *(errno.ENETUNREACH, errno.EHOSTUNREACH),
}
SAID_BY_MACHINES = (
    *("connection closed by peer", "connection reset", "connection refused", "nccl", "no space left on device"),
    *("actor died", "actor is dead", "worker process has died", "node has died"),  # as Ray says it
)
SAID_WITHOUT_MEMORY = ("can't allocate memory", "out of memory", "outofmemory")


class Halved(torch.OutOfMemoryError):
    """Out of memory in a step that several workers share; whoever tries again begins with half the micro-batch."""


def classify(error: BaseException) -> Failure:
    """The class of what an attempt raised; a bug is what is left."""
    if isinstance(error, Halved):
        return "halved"
    said = f"{type(error).__name__}: {error}".lower()
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in said for words in SAID_WITHOUT_MEMORY):
        return "oom"
    if isinstance(error, (ConnectionError, TimeoutError, dist.DistError)):
        return "infrastructure"
    if isinstance(error, OSError) and error.errno in OF_MACHINES:
        return "infrastructure"
    return "infrastructure" if any(words in said for words in SAID_BY_MACHINES) else "bug"


def of_group(found: Iterable[Failure | None]) -> Failure:
    """The class of what a group's workers met: those whose fellow is gone only say so, which counts if nobody says more."""
    found = set(found)
    return next((kind for kind in ("halved", "oom", "bug") if kind in found), "infrastructure")


class Further:
    """How many further attempts a cell has in one run: by `BUDGET`, and one for each time that its micro-batch is halved.

    micro: examples that a worker of a group takes at once; 1 where a worker is alone, which halves them within its attempt.
    """

    def __init__(self, micro: int):
        self.left = BUDGET | {"halved": (micro - 1).bit_length()}

    def takes(self, kind: Failure) -> bool:
        """Whether there is one more after such a failure, which is then taken."""
        self.left[kind] -= 1
        return self.left[kind] >= 0

    def pause_s(self, kind: Failure) -> float:
        """Seconds to let pass before it, doubled each time."""
        return AGAIN_S * 2.0 ** max(0, BUDGET[kind] - self.left[kind] - 1)


def failure(trial: Trial, error: BaseException, place: Placement, kind: Failure | None = None) -> Record:
    """The record of an attempt that raised, with the error's last line as its reason's last."""
    kind = kind or classify(error)
    reason = "".join(traceback.format_exception(error)).strip()
    now = datetime.now(UTC)
    kind = "oom" if kind == "halved" else kind
    status: Literal["oom", "failed"] = "oom" if kind == "oom" else "failed"
    return Record(trial, status, [], now, 0.0, hardware(place.device), reason, workers=place.world, failure=kind)
