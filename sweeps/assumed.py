"""What a GPU that nobody has measured may take: a roofline of which every number is assumed, and told as such. No torch.

A step takes as long as the host needs to launch it or as the device needs to do it, whichever is longer. Launches were
counted on a CPU, in bfloat16 and without compiled kernels: 99 a layer and 77 beside them in a dense model, 158 and 86 with
top-2 experts. Bytes stand for norms, rotations and activations, which pass over memory and hardly compute.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from parrots.models.config import MoE
from parrots.spec import Cell, Trial
from sweeps.calibration import quantities
from sweeps.devices import Device

LAUNCH_S = 10e-6
LAUNCHES = {"dense": (100, 80), "moe": (160, 90)}  # a layer's, forward and backward; all others of a step
SHARE = {"dense": 0.3, "moe": 0.15}  # of the peak, while matrices are multiplied
BANDWIDTH = 0.7  # of the data sheet's
ELEMENT_BYTES = 200  # moved for each of `quantities`' elements, forward and backward
WEIGHT_BYTES = 40  # moved for each weight by its gradient, the clipping and AdamW
BESIDE_S = 5.0  # a cell's data, evaluation and record; again for each evaluation that it is asked besides
CALL_S = 30.0  # imports, CUDA, and kernels of numba
MOST_S = 540.0  # a call
SAID = (
    f"a launch {1e6 * LAUNCH_S:g} us, {LAUNCHES['dense'][0]} of them a dense layer and {LAUNCHES['moe'][0]} with experts; "
    f"{SHARE['dense']:.0%} and {SHARE['moe']:.0%} of the peak, {BANDWIDTH:.0%} of the bandwidth; "
    f"{BESIDE_S:g} s beside each training"
)


@dataclass(frozen=True)
class Calls:
    """A sweep in calls of `python -m parrots.run`, one after another on one GPU."""

    seconds: tuple[float, ...]
    """Of each cell."""
    begin_for: int
    """Seconds of a call after which no cell is begun, so that it ends within MOST_S; 0 where a cell alone is longer."""
    number: int

    @property
    def total_s(self) -> float:
        """All calls, one after another."""
        return sum(self.seconds) + self.number * CALL_S


def step_s(trial: Trial, device: Device) -> float:
    """Seconds of a training step. The device's peak and bandwidth have to be known."""
    kind = "moe" if isinstance(trial.model.ffn, MoE) else "dense"
    each, others = LAUNCHES[kind]
    amounts, steps = quantities(trial), trial.training.steps
    moved = (ELEMENT_BYTES * amounts["elements"] + WEIGHT_BYTES * amounts["weights"]) / steps
    computed = trial.flops / steps / (SHARE[kind] * device.peak[trial.training.precision])
    return max(LAUNCH_S * (each * trial.model.n_layers + others), computed + moved / (BANDWIDTH * device.bandwidth))


def cell_s(cell: Cell, device: Device) -> float:
    """Seconds of a cell on one GPU, from its start to its last record."""
    return step_s(cell.trial, device) * cell.trial.training.steps + BESIDE_S * (1 + len(cell.evaluations))


def calls(seconds: Sequence[float]) -> Calls:
    """In how many calls cells of so many seconds are done, begun in order while `begin_for` is not over."""
    begin_for = int(MOST_S - CALL_S - max(seconds, default=0.0))
    if begin_for <= 0:
        return Calls(tuple(seconds), 0, 0)
    number, at = 0, float("inf")
    for one in seconds:
        if at > begin_for:
            number, at = number + 1, 0.0
        at += one
    return Calls(tuple(seconds), begin_for, number)
