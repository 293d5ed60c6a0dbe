"""Where an interrupted training goes on: torch DCP shards, a completion marker written last, and a checksum of each file.

A checkpoint is a folder STEP below `checkpoints/NAME` of the results. It counts only if its marker is there and every file
has the SHA-256 that the marker says; else the one before is taken. The marker is signed with a key of this installation.
"""

import hashlib
import hmac
import json
import shutil
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from parrots.atomic import atomic
from parrots.keys import checkpoint_key
from parrots.placement import Placement
from parrots.training.parallel import sum_over_workers

MARKER = "complete.json"
CURVES = "curves.npz"
KEPT = 2  # complete ones, the older in case that the newer turns out to be torn
ASK_EVERY = 10  # steps between questions that all workers have to answer alike
COST = 20  # times its own duration that the next one waits at least, so that they take at most 5 % of the time


class Stopped(Exception):
    """Training was asked to end early; what it had come to is in its checkpoint."""


@dataclass(frozen=True)
class State:
    """All that a training needs to go on as if nothing had happened."""

    step: int
    """Steps that are done."""
    examples: int
    """Examples that were met: the position in the data, which does not depend on the workers."""
    seconds: float
    """Of the training loop until here."""
    arrays: dict[str, np.ndarray]
    """Curves so far. Weights and optimizer state go through `tensors`, each worker's part in place."""


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature(said: dict[str, Any], key: bytes) -> str:
    """The HMAC of what a marker says, beside its own `hmac`: those who lack the key cannot forge it."""
    rest = {name: value for name, value in said.items() if name != "hmac"}
    return hmac.new(key, json.dumps(rest, sort_keys=True).encode(), "sha256").hexdigest()


def is_whole(folder: Path, key: bytes | None = None) -> bool:
    """Whether a checkpoint is all there, is what was written, and was written by us, at this place.

    Its metadata are a pickle, so nothing of it is read before this holds. key: by default that of this installation.
    """
    key = key or checkpoint_key()
    try:
        said = json.loads((folder / MARKER).read_bytes())
        if not hmac.compare_digest(signature(said, key), said["hmac"]):
            return False
        files = said["files"]
        if said["of"] != place_of(folder) or {path.name for path in folder.iterdir()} != {MARKER, *files}:
            return False
        return all(hmac.compare_digest(digest(folder / name), sha256) for name, sha256 in files.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False


def place_of(folder: Path) -> str:
    """TRIAL/STEP: what a marker is good for, wherever the results are moved."""
    return f"{folder.parent.name}/{folder.name}"


def newest(folder: Path, place: Placement) -> Path | None:
    """The newest whole checkpoint below `folder`, the same to every worker; None if there is none."""
    step = 0
    if place.rank == 0:
        step = next((int(path.name) for path in reversed(_all(folder)) if is_whole(path)), 0)
    step = int(sum_over_workers(torch.tensor([step], device=place.device), place))
    return folder / str(step) if step else None


def save(folder: Path, state: State, tensors: dict[str, Any], place: Placement) -> None:
    """Write a checkpoint below `folder`, then drop those older than the last but one. Every worker calls it.

    tensors: nested by name; each worker's shards, or the same in all. OSError where it cannot be written, which leaves the
    older ones as they are.
    """
    at = folder / str(state.step)
    if place.rank == 0:
        with suppress(FileNotFoundError):  # what a torn attempt left
            shutil.rmtree(at)
        at.mkdir(parents=True)
    _wait(place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it saves alone where there is no process group
        dcp.save(tensors, checkpoint_id=at, no_dist=place.world == 1)
    if place.rank == 0:
        about = {"step": state.step, "examples": state.examples, "seconds": state.seconds}
        with atomic(at / CURVES) as sink:
            np.savez(sink, allow_pickle=False, **state.arrays)
        files = {path.name: digest(path) for path in sorted(at.iterdir())}
        with atomic(at / MARKER) as sink:
            said = {**about, "of": place_of(at), "files": files}
            sink.write(json.dumps({**said, "hmac": signature(said, checkpoint_key())}).encode())
        for old in _all(folder)[:-KEPT]:
            shutil.rmtree(old)
    _wait(place)


def load(path: Path, tensors: dict[str, Any], place: Placement) -> State:
    """Fill `tensors` in place with a checkpoint that `newest` named, whatever the number of workers that wrote it."""
    said = json.loads((path / MARKER).read_bytes())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(tensors, checkpoint_id=path, no_dist=place.world == 1)
    with np.load(path / CURVES) as file:
        return State(said["step"], said["examples"], said["seconds"], dict(file))


def drop(folder: Path) -> None:
    """Remove the checkpoints of a trial that needs them no more."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _all(folder: Path) -> list[Path]:
    """The checkpoints below a folder, whole or torn, oldest first."""
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))


def _wait(place: Placement) -> None:
    if place.world > 1:
        dist.barrier()


class Timer:
    """Says after which steps a training writes a checkpoint or ends: all workers at the same ones."""

    def __init__(self, place: Placement):
        self.place = place
        self.interval = place.checkpoint_s
        self.last = time.monotonic()

    def asks(self, step: int) -> tuple[bool, bool]:
        """(whether a checkpoint is due, whether training is asked to stop) after `step`."""
        place = self.place
        if place.world > 1 and step % ASK_EVERY:
            return False, False
        due = place.checkpoints is not None and time.monotonic() - self.last >= self.interval
        stop = place.stop()
        if place.world > 1:
            votes: Tensor = sum_over_workers(torch.tensor([due, stop], dtype=torch.int32, device=place.device), place)
            due, stop = (bool(vote) for vote in votes.tolist())
        return due, stop

    def wrote(self, seconds: float) -> None:
        """A checkpoint has taken so long."""
        self.interval = max(self.place.checkpoint_s, COST * seconds)
        self.last = time.monotonic()
