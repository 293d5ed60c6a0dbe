"""What is written down of a training as it goes, and the signs by which one that still runs is seen to fail."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import astuple
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from parrots.measurement import Measurement, mean
from parrots.placement import Placement
from parrots.thresholds import USUAL, Thresholds
from parrots.training.parallel import sum_over_workers

# W steps since the last point of a curve, L layers, E experts

DEAD = 0.01  # times an expert's fair share of the rows, below which the curves count it as dead


class Step(NamedTuple):
    """What one step did: this worker's part, such that the parts of all workers add up."""

    loss: Tensor
    """Mean over counted tokens, in nats."""
    rows_LE: Tensor
    """Rows that each expert was sent, padding left out; no layers where the model is dense."""
    entropy_L: Tensor
    """Mean entropy of a token's router probabilities, in nats; nan where a router has none."""
    cutoff_LE: Tensor
    """Mean over sequences of the least probability that each expert took; no layers unless experts choose."""


class Stretch(NamedTuple):
    """Steps one after another, over all workers, off the device; fields as in `Step`."""

    loss_W: np.ndarray
    rows_WLE: np.ndarray
    entropy_WL: np.ndarray
    norm_W: np.ndarray


NO_ROUTERS = torch.zeros(0, 1), torch.zeros(0), torch.zeros(0, 1)


class Curves:
    """Collects steps on the device and takes them off it a hundred times a trial."""

    def __init__(self, place: Placement) -> None:
        self.place = place
        self.points: list[Measurement] = []
        self.losses: list[float] = []
        """Of every step so far."""
        self.alarms = Alarms(place.alarms)
        self.steps: list[Step] = []
        self.norms: list[Tensor] = []
        self.ready: list[Stretch] = []
        """Steps since the last point that have been taken off the device."""

    def add(self, step: Step, norm: Tensor) -> None:
        """Take in one step and its gradient norm before clipping, the same for every worker."""
        self.steps.append(step)
        self.norms.append(norm)

    def drain(self) -> None:
        """Take the steps so far off the device, summed over workers."""
        if self.steps:
            loss_W = self._summed([step.loss for step in self.steps])
            rows_WLE = self._summed([step.rows_LE for step in self.steps])
            entropy_WL = self._summed([step.entropy_L for step in self.steps])
            self.ready.append(Stretch(loss_W, rows_WLE, entropy_WL, torch.stack(self.norms).cpu().double().numpy()))
            self.steps, self.norms = [], []

    def point(self) -> float:
        """End a stretch of steps with a point on each curve; returns its mean loss."""
        self.drain()
        loss_W, rows_WLE, entropy_WL, norm_W = (np.concatenate(parts) for parts in zip(*self.ready, strict=True))
        first = len(self.losses)
        self.losses.extend(loss_W.tolist())
        self.ready = []
        at = len(self.losses)
        self.points.append(mean("loss", at, loss_W))
        self.points.append(mean("gradient_norm", at, norm_W))
        for step, norm in enumerate(norm_W, start=first + 1):
            self.alarms.gradient(step, float(norm))
        if rows_WLE.shape[1]:
            n_experts = rows_WLE.shape[2]
            share_WLE = n_experts * rows_WLE / rows_WLE.sum(2, keepdims=True)
            entropy_WL = entropy_WL / np.log(n_experts) if n_experts > 1 else np.full_like(entropy_WL, np.nan)
            for step, share_LE, entropy_L in zip(range(first + 1, at + 1), share_WLE, entropy_WL, strict=True):
                self.alarms.routing(step, share_LE, entropy_L)
            for layer in range(rows_WLE.shape[1]):
                self.points.append(mean(f"router_largest_share_{layer}", at, share_WLE[:, layer].max(1)))
                self.points.append(mean(f"router_dead_{layer}", at, (share_WLE[:, layer] < DEAD).sum(1)))
                if not np.isnan(entropy_WL).any():
                    self.points.append(mean(f"router_entropy_{layer}", at, entropy_WL[:, layer]))
        return float(loss_W.mean())

    def arrays(self) -> dict[str, np.ndarray]:
        """All of it, for a checkpoint; steps that are on the device still are drained."""
        self.drain()
        found = {f"ready.{i}.{name}": x for i, one in enumerate(self.ready) for name, x in one._asdict().items()}
        points = json.dumps([astuple(point) for point in self.points])
        return {**found, "losses": np.array(self.losses), "points": np.array(points), **self.alarms.arrays()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what `arrays` was taken of."""
        self.points = [Measurement(*point) for point in json.loads(str(arrays["points"]))]
        self.losses = arrays["losses"].tolist()
        stretches = sum(name.startswith("ready.") for name in arrays) // len(Stretch._fields)
        self.ready = [Stretch(*(arrays[f"ready.{i}.{name}"] for name in Stretch._fields)) for i in range(stretches)]
        self.alarms.restore(arrays)

    def _summed(self, parts: list[Tensor]) -> np.ndarray:
        """One value of each step, over all workers."""
        return sum_over_workers(torch.stack(parts), self.place).cpu().double().numpy()


class Alarms:
    """Watches a training step by step; each sign is raised once for each layer and expert."""

    def __init__(self, bounds: Thresholds = USUAL) -> None:
        self.bounds = bounds
        self.raised: dict[str, str] = {}
        self.norms: deque[float] = deque(maxlen=bounds.steps)
        self.streak: dict[str, np.ndarray] = {}

    @property
    def said(self) -> tuple[str, ...]:
        """What has been raised so far, in the order in which it was."""
        return tuple(self.raised.values())

    def gradient(self, step: int, norm: float) -> None:
        """Watch one step's gradient norm, before clipping."""
        times = self.bounds.gradient
        if len(self.norms) == self.bounds.steps and norm > times * (median := float(np.median(self.norms))):
            self._raise("gradient", f"gradient norm {norm:.3g} at step {step}, over {times:g} times its median {median:.3g}")
        self.norms.append(norm)

    def routing(self, step: int, share_LE: np.ndarray, entropy_L: np.ndarray) -> None:
        """Watch one step's routers.

        share_LE: rows of each expert over its fair share, 1 when even. entropy_L: mean entropy of a token's router
        probabilities over log E; nan where the router has none.
        """
        steps = self.bounds.steps
        for name, out_LE in (("starved", share_LE < self.bounds.starved), ("swamped", share_LE > self.bounds.swamped)):
            streak_LE = self.streak.get(name, np.zeros(share_LE.shape, int))
            self.streak[name] = streak_LE = np.where(out_LE, streak_LE + 1, 0)
            for layer, expert in zip(*np.nonzero(streak_LE >= steps), strict=True):
                share = share_LE[layer, expert]
                said = f"layer {layer} expert {expert} {name}: {share:.3g} of its fair share, {steps} steps up to step {step}"
                self._raise(f"{name} {layer} {expert}", said)
        for layer in np.flatnonzero(entropy_L < self.bounds.entropy):
            said = f"layer {layer} router collapsed: entropy {entropy_L[layer]:.3g} of log E at step {step}"
            self._raise(f"collapsed {layer}", said)

    def unwritten(self, step: int, error: BaseException) -> None:
        """A checkpoint could not be written."""
        said = next(reversed(str(error).strip().splitlines()), type(error).__name__)
        self._raise("checkpoint", f"no checkpoint at step {step}: {said}")

    def eager(self, error: BaseException) -> None:
        """Compiled blocks failed, and run as they are written."""
        cause = getattr(error, "inner_exception", error)  # torch's own wraps it
        said = next(iter(str(cause).strip().splitlines()), "")
        self._raise("compile", f"not compiled: {type(cause).__name__}: {said}")

    def arrays(self) -> dict[str, np.ndarray]:
        """What it remembers, for a checkpoint."""
        streaks = {f"streak.{name}": streak for name, streak in self.streak.items()}
        return {"raised": np.array(json.dumps(self.raised)), "norms": np.array(self.norms), **streaks}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what `arrays` was taken of."""
        self.raised = json.loads(str(arrays["raised"]))
        self.norms.extend(arrays["norms"].tolist())
        streaks = (name for name in arrays if name.startswith("streak."))
        self.streak = {name.removeprefix("streak."): arrays[name] for name in streaks}

    def _raise(self, sign: str, said: str) -> None:
        self.raised.setdefault(sign, said)
