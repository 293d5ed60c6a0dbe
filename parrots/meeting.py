"""Where workers that share a trial meet after each attempt at it, whatever has come of theirs.

It is not a collective of their process group: a worker that fails inside one leaves the others in it, on a GPU for minutes.
They meet in the store by which they found one another. Who does not come hangs, and then only new processes help: the one
that failed ends its own, and the launcher ends those of the others and, where asked to, starts all (torchrun --max-restarts).
"""

import os
import time
from contextlib import suppress
from itertools import count
from typing import NamedTuple

import torch.distributed as dist
from torch.distributed import distributed_c10d

from parrots.failures import Failure
from parrots.placement import Placement

PATIENCE_S = 20.0  # that a worker which has failed waits for the others, who may be about to fail likewise
LOOK_EVERY_S = 0.02
GONE = "gone"
MEETINGS = count(1)
"""Of this process: all workers meet equally often, and what was said at a meeting stays in the store."""


class Apart(Exception):
    """The workers are no group any more, and all of their processes have to end."""


class Met(NamedTuple):
    """What is known after a meeting."""

    said: list[Failure | None]
    """By each worker: what failed, or None; None too for one that has not come."""
    whole: bool
    """Whether all have come and stay, so that their process group is as good as before."""


def form(backend: str) -> None:
    """Make the process group of torchrun's workers, as `init_process_group` would.

    What stands in the store is of this start alone: torchrun's store outlives its workers, and those that it starts again would
    look for the others at the addresses of those before.
    """
    store, rank, world = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)


def meet(said: Failure | None, name: str, place: Placement) -> Met:
    """Tell the others what has come of an attempt that all of them call by this `name`, and hear what they say.

    Without a failure of its own a worker waits as long as it takes; with one, PATIENCE_S. Where the store is lost nobody else
    has come.
    """
    if place.world == 1:
        return Met([said], True)
    name = f"meeting {next(MEETINGS)} {name}"
    try:
        met = _heard(said, name, place)
    except dist.DistError:
        return Met([said if rank == place.rank else None for rank in range(place.world)], False)
    if met.whole:
        with suppress(dist.DistError):
            _wait_for_all(name, place)
    return met


def leave(place: Placement) -> None:
    """Let those know who wait for this worker that it ends."""
    with suppress(dist.DistError):
        distributed_c10d._get_default_store().set(GONE, str(place.rank))


def _heard(said: Failure | None, name: str, place: Placement) -> Met:
    """Say it, and hear the others."""
    store = distributed_c10d._get_default_store()
    keys = [f"{name} {rank}" for rank in range(place.world)]
    store.set(keys[place.rank], said or "")
    last = time.monotonic() + PATIENCE_S
    while not (whole := store.check(keys)) and not store.check([GONE]) and not (said and time.monotonic() > last):
        time.sleep(LOOK_EVERY_S)
    heard = [store.get(key).decode() if store.check([key]) else "" for key in keys]
    return Met([one or None for one in heard], whole and not store.check([GONE]))  # type: ignore[misc] # as they were set


def _wait_for_all(name: str, place: Placement) -> None:
    """The first may hold the store, which ends with it: not before all have heard."""
    store = distributed_c10d._get_default_store()
    store.set(f"{name} heard {place.rank}", "")
    all_heard = [f"{name} heard {rank}" for rank in range(place.world)]
    last = time.monotonic() + PATIENCE_S
    while place.rank == 0 and not store.check(all_heard) and time.monotonic() < last:
        time.sleep(LOOK_EVERY_S)
