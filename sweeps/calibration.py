"""What a training step takes on a device: measured for a shape, or from a line through the shapes that were. No torch.

Dense models and mixtures have lines of their own, and so has each precision: they never share a rate. Calibrations come with
the package (calibration.json) and from a results folder, where `parrots bench` and `parrots plan --actual` leave theirs.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from parrots.atomic import atomic
from parrots.frozen import canonical_json
from parrots.models.config import MoE
from parrots.spec import Trial

PACKAGED = Path(__file__).with_name("calibration.json")
FEWEST = 5  # shapes, for a line
FAR = 3.0  # times as long as its line says: a machine that slept, and no part of the fit
NOT_TIMED = ("init_std", "depth_scaled_init", "rope_theta", "norm_eps")


@dataclass(frozen=True)
class Calibration:
    """Of one device."""

    hardware: str
    """As records name it."""
    date: str
    said: str
    """How it was made."""
    backend: str = "auto"
    """How experts were computed."""
    per: dict[str, dict[str, float]] = field(default_factory=dict)
    """Seconds for one of each of `quantities`, by `family`."""
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds of a step, by `shape`."""
    spread: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Between which 90 % of measured over fitted lay, by family."""

    def seconds(self, trial: Trial) -> float | None:
        """Training seconds of a trial on one worker; None where nothing like it was measured."""
        if (step := self.steps.get(shape(trial))) is not None:
            return step * trial.training.steps
        if (rates := self.per.get(family(trial))) is None:
            return None
        return sum(rates[name] * amount for name, amount in quantities(trial).items() if name in rates)


def family(trial: Trial) -> str:
    """What may share a line: dense or moe, in one precision."""
    return f"{'moe' if isinstance(trial.model.ffn, MoE) else 'dense'} {trial.training.precision}"


def quantities(trial: Trial) -> dict[str, float]:
    """What a training's time on one worker is made of."""
    model, steps = trial.model, trial.training.steps
    rows = trial.tokens * model.n_layers
    found: dict[str, float] = {
        "steps": steps,
        "launches": steps * model.n_layers,
        "rows": rows,
        "attended": rows * trial.padded_len,
        "elements": rows * (model.d_model + model.top_k * model.ffn.d_ff),
        "weights": steps * trial.total.all,
        "flops": trial.flops,
    }
    if isinstance(model.ffn, MoE):
        found |= {"experts": steps * model.n_layers * model.n_experts, "routed": rows * model.top_k * model.d_model}
    return found


def shape(trial: Trial) -> str:
    """Sixteen digits that name all that a step's time depends on."""
    model = trial.model.model_dump(exclude=set(NOT_TIMED))
    task, training = trial.task, trial.training
    batch = training.batch_size, training.group_size
    said = [task.vocab_size, trial.padded_len, task.input_dim, task.n_counted, *batch]
    return hashlib.sha256(canonical_json([model, *said, training.precision]).encode()).hexdigest()[:16]


def load(results: Path | None = None) -> list[Calibration]:
    """All there are, the newest first: those of a results folder, then those that come along. ValueError names a bad file."""
    found = []
    paths = sorted((results / "calibration").glob("*.json"), reverse=True) if results else []
    for path in (*paths, PACKAGED):
        try:
            found += [Calibration(**one) for one in json.loads(path.read_text())]
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{path}: not a calibration ({str(error).splitlines()[0]}); delete it, and measure again"
            ) from error
    return found


def of(hardware: str, results: Path | None = None, backend: str = "auto") -> Calibration | None:
    """What is known of a device: measured shapes of all its calibrations, and for each family the newest line."""
    known = [one for one in load(results) if one.hardware.startswith(hardware) and one.backend == backend]
    if not known:
        return None
    merged = Calibration(known[0].hardware, known[0].date, known[0].said, backend)
    for one in reversed(known):
        merged.per.update(one.per)
        merged.steps.update(one.steps)
        merged.spread.update(one.spread)
    return merged


def fitted(hardware: str, date: str, said: str, measured: Iterable[tuple[Trial, float]], backend: str = "auto") -> Calibration:
    """Lines by least squares of relative errors with rates that are not negative, and what was measured of each shape.

    measured: trials, and the seconds that a step of theirs took. Fewer than FEWEST shapes of a family give no line.
    """
    given = [(trial, seconds) for trial, seconds in measured if seconds > 0 and math.isfinite(seconds)]
    made = Calibration(hardware, date, said, backend)
    by_shape: dict[str, list[float]] = {}
    for trial, seconds in given:
        by_shape.setdefault(shape(trial), []).append(seconds)
    made.steps.update({key: _digits(sorted(values)[len(values) // 2]) for key, values in by_shape.items()})
    for name in sorted({family(trial) for trial, _ in given}):
        own = [(trial, seconds) for trial, seconds in given if family(trial) == name]
        if len({shape(trial) for trial, _ in own}) >= FEWEST:
            made.per[name], made.spread[name] = _line(own)
    return made


def _line(measured: Sequence[tuple[Trial, float]]) -> tuple[dict[str, float], tuple[float, float]]:
    import numpy as np
    from scipy.optimize import nnls

    amounts = [quantities(trial) for trial, _ in measured]
    names = list(amounts[0])
    took = np.array([seconds * trial.training.steps for trial, seconds in measured])
    matrix = np.array([[amount[name] for name in names] for amount in amounts]) / took[:, None]
    scale = matrix.max(0)
    near = np.ones(len(took), bool)
    for _ in range(2):
        rates, _ = nnls(matrix[near] / scale, np.ones(near.sum()))
        ratio = 1 / np.maximum(matrix / scale @ rates, 1e-12)
        near = ratio < FAR
    low, high = np.percentile(ratio, [5, 95])
    return {name: _digits(rate / each) for name, rate, each in zip(names, rates, scale, strict=True)}, (
        _digits(low),
        _digits(high),
    )


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def write(made: Calibration, results: Path) -> Path:
    """Leave a calibration in a results folder, where later plans find it before older ones; returns the file."""
    name = hashlib.sha256(f"{made.hardware} {made.said} {made.backend}".encode()).hexdigest()[:8]
    path = results / "calibration" / f"{made.date}-{name}.json"
    with atomic(path) as sink:
        sink.write((text([made]) + "\n").encode())
    return path


def text(made: Sequence[Calibration]) -> str:
    """Calibrations as JSON."""
    return json.dumps([asdict(one) for one in made], indent=1)


def mfu(given: str, trials: Iterable[Trial], peak: Mapping[str, float]) -> Mapping[str, float]:
    """FLOP/s by family from `dense=0.4,moe=0.2` (of a device's peak). A single number is for sweeps of one of the two."""
    kinds = {family(trial).split()[0] for trial in trials}
    shares: dict[str, float] = {}
    for part in given.split(","):
        kind, equals, share = part.partition("=")
        try:
            shares |= {kind.strip(): float(share)} if equals else dict.fromkeys(kinds, float(kind))
        except ValueError as error:
            raise ValueError(f"--mfu {given}: a share of the peak, as dense=0.4,moe=0.2") from error
        if not equals and len(kinds) > 1:
            raise ValueError(f"--mfu {given}: dense models and mixtures do not share one; give dense=...,moe=...")
    if not peak:
        raise ValueError("--mfu: the peak of this device is not known; name one with --device")
    if not all(0 < share <= 1 for share in shares.values()) or not kinds <= shares.keys():
        raise ValueError(f"--mfu {given}: between 0 and 1, for {' and '.join(sorted(kinds))}")
    return {f"{kind} {precision}": share * top for kind, share in shares.items() for precision, top in peak.items()}
