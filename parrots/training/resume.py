"""A training that can be left and taken up again: from what its steps change to a checkpoint, and back."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from parrots.placement import Placement
from parrots.training import checkpoint
from parrots.training.checkpoint import State, Stopped, Timer
from parrots.training.curves import Curves
from parrots.training.parallel import sum_over_workers, synchronize


class Resumable:
    """Brings a training to its newest checkpoint when it is made, writes one when it is time, ends it when asked.

    name: of its folder below `place.checkpoints`. tensors: what its steps change, nested by name, each to be filled in place.
    """

    def __init__(self, name: str, tensors: Callable[[], dict[str, Any]], curves: Sequence[Curves], place: Placement):
        self.folder: Path | None = place.checkpoints and place.checkpoints / name
        self.tensors, self.curves, self.place = tensors, curves, place
        self.timer = Timer(place)
        self.state = State(0, 0, 0.0, {})
        if self.folder and (found := checkpoint.newest(self.folder, place)):
            self.state = checkpoint.load(found, tensors(), place)
            for k, one in enumerate(curves):
                one.restore(part(self.state.arrays, f"{k}."))
            set_random(self.state.arrays["random"], place)
        self.before, self.began = self.state.seconds, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Of the training loop: steps that were lost and done again count once, writing checkpoints not at all."""
        return self.before + time.perf_counter() - self.began

    @property
    def here_s(self) -> float:
        """Those of them that passed in this process."""
        return self.seconds - self.state.seconds

    def after(self, step: int, examples: int, more: Mapping[str, np.ndarray] | None = None) -> None:
        """Called after each step with all examples that were met; raises `Stopped`.

        more: arrays to find again in `state`.

        A worker alone that cannot write goes on, since the record at the end is what counts, and says so in its alarms.
        """
        due, stop = self.timer.asks(step)
        if self.folder and (due or stop):
            synchronize(self.place)
            self.before, began = self.seconds, time.perf_counter()
            try:
                arrays = {f"{k}.{name}": x for k, one in enumerate(self.curves) for name, x in one.arrays().items()}
                arrays |= {"random": random(self.place), **(more or {})}
                checkpoint.save(self.folder, State(step, examples, self.before, arrays), self.tensors(), self.place)
            except OSError as error:
                if self.place.world > 1:
                    raise
                for one in self.curves:
                    one.alarms.unwritten(step, error)
            self.timer.wrote(time.perf_counter() - began)
            self.began = time.perf_counter()
        if stop:
            raise Stopped(f"stopped after step {step}")


def part(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): x for name, x in arrays.items() if name.startswith(prefix)}


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Weights, buffers and AdamW's state by weight."""
    by_weight = {name: dict(optimizer.state[weight]) for name, weight in model.named_parameters()}
    return {"model": model.state_dict(), "optimizer": by_weight}


def random(place: Placement) -> np.ndarray:
    """(workers, bytes) the states of torch's generators in each worker: the CPU's, then its GPU's."""
    states = [torch.get_rng_state()]
    if place.device.startswith("cuda"):
        states.append(torch.cuda.get_rng_state(place.device))
    own = torch.cat(states)
    table = torch.zeros(place.world, len(own), dtype=torch.int32, device=place.device)
    table[place.rank] = own.to(place.device)
    return sum_over_workers(table, place).cpu().numpy().astype(np.uint8)


def set_random(states: np.ndarray, place: Placement) -> None:
    """Give this worker's generators back their states; a worker that was not there keeps its own."""
    if place.rank < len(states):
        own, size = torch.from_numpy(states[place.rank].copy()), len(torch.get_rng_state())
        torch.set_rng_state(own[:size])
        if place.device.startswith("cuda") and len(own) > size:
            torch.cuda.set_rng_state(own[size:], place.device)
