"""Where an interrupted training goes on: torch DCP shards, a completion marker written last, and a checksum of each file.

A checkpoint is a folder STEP below `checkpoints/NAME` of the results. It counts only if its marker is there and every file
has the SHA-256 that the marker says; else the one before is taken. The marker is signed with a key of this installation.

Files may change after that was looked at. What runs code when it is read, the pickle of the metadata, is read once, compared
and unpickled from memory. Shards are numbers to torch (`Verified`): they are hashed once, and who changes them later changes
numbers.

With a store (parrots/store.py) those in it count: each worker sends its shards, the first one the marker after all of them, and
a folder becomes what the signed marker says before it is read.
"""

import errno
import hashlib
import hmac
import io
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import FileSystemReader, LoadPlan, LoadPlanner
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.planner import LoadItemType
from torch.futures import Future

from parrots.atomic import atomic
from parrots.frozen import first_line
from parrots.keys import checkpoint_key
from parrots.placement import Placement
from parrots.store import Store
from parrots.training.parallel import sum_over_workers, synchronize

MARKER = "complete.json"
CURVES = "curves.npz"
METADATA = ".metadata"  # DCP's, a pickle
KEPT = 2  # complete ones, the older in case that the newer turns out to be torn
BAD = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what reading any file as a marker may raise
ASK_EVERY = 10  # steps at most between questions that all workers have to answer alike
ASK_EVERY_S = 3.0  # and seconds, if a step is no longer: a tenth of what torchrun, or the notice of a spot instance, leaves
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


class Files(FileSystem):
    """Those of a checkpoint for DCP: its metadata, whichever it asks for, are these bytes, and no link leads out of it."""

    def __init__(self, metadata: bytes):
        self.metadata = metadata

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[io.IOBase]:
        """A file of it."""
        with io.BytesIO(self.metadata) if Path(path).name.endswith(METADATA) else opened(Path(path)) as stream:
            yield stream


class Verified(FileSystemReader):
    """DCP's reader of a checkpoint of tensors alone, whose metadata are these bytes, whatever lies in the folder by now.

    In read_data (torch 2.13) tensors go through torch.load with weights_only, which runs nothing; entries of bytes go through
    a pickle, and are refused. Which entries there are, and in which files, the metadata say.
    """

    def __init__(self, path: Path, metadata: bytes):
        super().__init__(path)
        self.fs = Files(metadata)

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fill the tensors of a plan. ValueError for what is none."""
        if others := sorted(one.dest_index.fqn for one in plan.items if one.type == LoadItemType.BYTE_IO):
            raise ValueError(f"{others[0]} is no tensor")
        return super().read_data(plan, planner)


def opened(path: Path) -> io.BufferedReader:
    """A file to read. OSError for a link, which may lead out of the results."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def signature(said: dict[str, Any], key: bytes) -> str:
    """The HMAC of what a marker says, beside its own `hmac`: those who lack the key cannot forge it."""
    rest = {name: value for name, value in said.items() if name != "hmac"}
    return hmac.new(key, json.dumps(rest, sort_keys=True).encode(), "sha256").hexdigest()


def is_whole(folder: Path, key: bytes | None = None) -> bool:
    """Whether a checkpoint is all there, is what was written, and was written by us, at this place.

    key: by default that of this installation; OSError if that is none.
    """
    key = key or checkpoint_key()
    try:
        files = signed(folder, key)["files"]
        if {path.name for path in folder.iterdir()} != {MARKER, *files}:
            return False
        return all(_has(folder / name, sha256) for name, sha256 in files.items())
    except BAD:
        return False


def signed(folder: Path, key: bytes) -> dict[str, Any]:
    """What the marker of a checkpoint says. One of BAD if it is not ours, or of another place, or a folder is a link."""
    if _is_link(folder):
        raise ValueError("a link")
    with opened(folder / MARKER) as file:
        said: dict[str, Any] = json.loads(file.read())
    if not hmac.compare_digest(signature(said, key), said["hmac"]) or said["of"] != place_of(folder):
        raise ValueError("not signed by us for this place")
    return said


def _is_link(folder: Path) -> bool:
    """Whether a checkpoint, or the folder of its trial, may be somewhere else."""
    return folder.is_symlink() or folder.parent.is_symlink()


def _has(path: Path, sha256: str) -> bool:
    """Whether a file is there, with these bytes."""
    try:
        return hmac.compare_digest(digest(path), sha256)
    except OSError:
        return False


def place_of(folder: Path) -> str:
    """TRIAL/STEP: what a marker is good for, wherever the results are moved."""
    return f"{folder.parent.name}/{folder.name}"


def newest(folder: Path, place: Placement) -> Path | None:
    """The newest whole checkpoint below `folder`, the same to every worker; None if there is none.

    If there is a store, the newest in it, brought to every worker; where it has none, that which was left here.
    """
    store = place.store
    step = _newest(folder, store) if place.rank == 0 else 0
    step = int(sum_over_workers(torch.tensor([step], device=place.device), place))
    if place.rank and step and store and not bring(folder / str(step), store):
        raise ConnectionError(f"checkpoint {step} of {folder.name} did not come to worker {place.rank} whole")
    if step and place.world > 1:
        believed = int(sum_over_workers(torch.tensor([int(_is_signed(folder / str(step)))], device=place.device), place))
        if believed < place.world:
            said = f"checkpoint {step} of {folder.name} is signed by the key of {believed} of {place.world} workers"
            raise ValueError(f"{said}; give all machines that share it one key")
    return folder / str(step) if step else None


def _is_signed(path: Path) -> bool:
    """Whether this worker's key signed it."""
    try:
        signed(path, checkpoint_key())
    except BAD:
        return False
    return True


def _newest(folder: Path, store: Store | None) -> int:
    """Its step, 0 if there is none. With a store it is in there then, and here."""
    if store and (found := next((at for at in reversed(_stored(folder, store)) if bring(at, store)), None)):
        return int(found.name)
    found = next((at for at in reversed(_all(folder)) if is_whole(at)), None)
    if store and found:
        for file in sorted(found.iterdir(), key=lambda file: file.name == MARKER):
            store.put(file)
    return int(found.name) if found else 0


def bring(folder: Path, store: Store) -> bool:
    """Make a checkpoint here what it is in the store; whether it is whole, and was written by us at this place.

    Only names in a marker whose signature holds are written to. Workers of one machine may do it at once.
    """
    key = checkpoint_key()
    if _is_link(folder) or not store.get(folder / MARKER):
        return False
    try:
        files = signed(folder, key)["files"]
    except BAD:
        return False
    for path, sha256 in ((folder / name, sha256) for name, sha256 in files.items()):
        if not _has(path, sha256) and not (store.get(path) and _has(path, sha256)):
            return False
    return True


def save(folder: Path, state: State, tensors: dict[str, Any], place: Placement) -> None:
    """Write a checkpoint below `folder`, then drop those older than the last but one. Every worker calls it.

    tensors: nested by name; each worker's shards, or the same in all. OSError where it cannot be written, which leaves the
    older ones as they are.
    """
    at, store = folder / str(state.step), place.store
    if place.rank == 0:
        with suppress(FileNotFoundError):  # what a torn attempt left
            shutil.rmtree(at)
        if store:
            store.delete(at)
        at.mkdir(parents=True)
    _wait(place)
    at.mkdir(parents=True, exist_ok=True)  # on a machine that the first worker is not on
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it saves alone where there is no process group
        try:
            dcp.save(tensors, checkpoint_id=at, no_dist=place.world == 1)
        except CheckpointException as error:  # no Exception, so few would catch it
            raise OSError(errno.EIO, f"checkpoint {place_of(at)} was not written ({_cause(error)})") from error
    if place.rank == 0:
        about = {"step": state.step, "examples": state.examples, "seconds": state.seconds}
        with atomic(at / CURVES) as sink:
            np.savez(sink, allow_pickle=False, **state.arrays)
    files = _sent(at, store, place) if store else {path.name: digest(path) for path in sorted(at.iterdir()) if not place.rank}
    if place.rank == 0:
        said = {**about, "of": place_of(at), "files": files}
        marker = json.dumps({**said, "hmac": signature(said, checkpoint_key())}).encode()
        with atomic(at / MARKER) as sink:
            if store:
                store.put(at / MARKER, marker)
            sink.write(marker)
        if store:
            for old in _before(at, _stored(folder, store)):
                store.delete(old)
    for old in _before(at, _all(folder)) if store or place.rank == 0 else ():
        shutil.rmtree(old, ignore_errors=store is not None)  # several workers of a machine may do it at once
    _wait(place)


def _sent(at: Path, store: Store, place: Placement) -> dict[str, str]:
    """Each worker sends what it wrote of a checkpoint; returns the SHA-256 of every file, so that none travels twice."""
    shards = set(at.glob("__*"))  # __RANK_NUMBER.distcp
    own = [path for path in shards if path.name.startswith(f"__{place.rank}_")]
    own += [path for path in at.iterdir() if place.rank == 0 and path not in shards]
    for path in own:
        store.put(path)
    said = [{path.name: digest(path) for path in own}]
    if place.world > 1:
        said = [{} for _ in range(place.world)]
        dist.all_gather_object(said, {path.name: digest(path) for path in own})
    return {name: sha256 for files in said for name, sha256 in sorted(files.items())}


def load(path: Path, tensors: dict[str, Any], place: Placement) -> State:
    """Fill `tensors` in place with a checkpoint that `newest` named, whatever the number of workers that wrote it.

    ValueError where they are other ones than it holds, or it has changed since. Every worker looks at what it reads itself.
    """
    key = checkpoint_key()
    try:
        said = signed(path, key)
        metadata, curves = (_content(path / name, said["files"][name]) for name in (METADATA, CURVES))
    except BAD as error:
        remedy = "delete it, or give all machines that share it one key"
        raise ValueError(f"checkpoint {path} is not what this machine's key signed ({first_line(error)}); {remedy}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dcp.load(tensors, storage_reader=Verified(path, metadata), no_dist=place.world == 1)
        except CheckpointException as error:
            raise ValueError(f"checkpoint {path} does not fit this model ({_cause(error)}); delete it") from error
    with np.load(io.BytesIO(curves)) as file:
        return State(said["step"], said["examples"], said["seconds"], dict(file))


def _content(path: Path, sha256: str) -> bytes:
    """The bytes of a file, read once. ValueError if they are others."""
    with opened(path) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path.name} has changed")
    return content


def _cause(error: CheckpointException) -> str:
    """What the first worker that failed met, in a line."""
    return first_line(next(found for found, _ in error.failures.values()))


def drop(folder: Path, place: Placement) -> None:
    """Remove the checkpoints of a trial that needs them no more: from this machine, the first worker from the store too."""
    shutil.rmtree(folder, ignore_errors=True)  # several workers of a machine may do it at once
    if place.store and place.rank == 0:
        place.store.delete(folder)


def _all(folder: Path) -> list[Path]:
    """The checkpoints below a folder, whole or torn, oldest first."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.iterdir() if _is_step(path.name) and not path.is_symlink())
    return sorted(found, key=lambda path: int(path.name))


def _stored(folder: Path, store: Store) -> list[Path]:
    """Those in the store that have a marker, oldest first."""
    found = {path.parent for path in store.inside(folder) if path.name == MARKER}
    return sorted((at for at in found if at.parent == folder and _is_step(at.name)), key=lambda at: int(at.name))


def _is_step(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _before(at: Path, found: list[Path]) -> list[Path]:
    """Those that the one just written at `at` makes needless; not those of later steps, which `newest` has passed over."""
    return [path for path in found if int(path.name) <= int(at.name)][:-KEPT]


def _wait(place: Placement) -> None:
    if place.world > 1:
        dist.barrier()


class Timer:
    """Says after which steps a training writes a checkpoint or ends: all workers at the same ones."""

    def __init__(self, place: Placement):
        self.place = place
        self.interval = place.checkpoint_s
        self.last = self.asked = time.monotonic()
        self.next, self.steps = 0, 1
        """The step after which workers ask one another again, and how many those are since they asked last."""

    def asks(self, step: int) -> tuple[bool, bool]:
        """(whether a checkpoint is due, whether training is asked to stop) after `step`; called after each."""
        place = self.place
        if step < self.next:
            return False, False
        due = place.checkpoints is not None and time.monotonic() - self.last >= self.interval
        stop = place.stop()
        if place.world > 1:
            synchronize(place)
            took_ms = round(1000 * (time.monotonic() - self.asked))
            said: Tensor = torch.tensor([due, stop, took_ms], dtype=torch.int64, device=place.device)
            *votes, total_ms = sum_over_workers(said, place).tolist()
            due, stop = map(bool, votes)
            # from what all have said, since each one's clock tells something else
            fitting = int(1000 * ASK_EVERY_S * place.world * self.steps / max(1, total_ms))
            self.steps = min(max(1, fitting), ASK_EVERY)
            self.next, self.asked = step + self.steps, time.monotonic()
        return due, stop

    def wrote(self, seconds: float) -> None:
        """A checkpoint has taken so long."""
        self.interval = max(self.place.checkpoint_s, COST * seconds)
        self.last = time.monotonic()
