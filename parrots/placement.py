"""Where and how a trial runs. None of it is hashed, and none of it may change a result beyond rounding."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from parrots.store import Store
from parrots.thresholds import USUAL, Thresholds

AUTO, EAGER = "auto", "eager"


@dataclass(frozen=True)
class Progress:
    """How far a trial is."""

    step: int
    steps: int
    tokens: int
    loss: float
    alarms: tuple[str, ...] = ()
    """What looks wrong so far, each sign once."""
    seconds: float = 0.0
    """Of the training loop in this process, for each worker; those of trials side by side for all."""


def ignore(_: Progress) -> None:
    """For runs that nobody watches."""


def never() -> bool:
    """For runs that nobody stops."""
    return False


@dataclass(frozen=True)
class Placement:
    """One worker's place in a run."""

    data: Path
    """Folder for the tasks' Arrow files."""
    weights: Path | None = None
    """Folder that keeps each trial's final weights; None keeps none."""
    device: str = "cpu"
    rank: int = 0
    world: int = 1
    """Workers that train this trial together; their process group exists already."""
    backend: str = "auto"
    """How experts are computed: one of parrots.models.moe.BACKENDS, or the fastest of them for each shape."""
    micro_batch: int | None = None
    """Examples a worker takes in one forward pass, the rest of its share following; by default all at once."""
    recompute: bool = False
    """Forget activations inside a block and compute them again on the way back (activation checkpointing)."""
    compile: str = AUTO
    """Mode of torch.compile for the blocks, such as `default` or `reduce-overhead` (CUDA graphs); `eager`; or, by default, as
    parrots/compiling.py chooses."""
    stack: int | None = 1
    """Trials of one shape that train side by side in this process; None: as many as pay."""
    checkpoints: Path | None = None
    """Folder of the checkpoints of trials under way; None writes none."""
    checkpoint_s: float = 60.0
    """Seconds of training between two of them, so that a cheap trial writes none."""
    fits: Path | None = None
    """Folder that remembers which micro-batch fitted into memory, by shape and hardware; None forgets."""
    alarms: Thresholds = USUAL
    """From where on a training looks wrong."""
    store: Store | None = None
    """Where what outlives this machine goes too, if its folders are its own and not shared with others."""
    stop: Callable[[], bool] = never
    """Asked after each step whether to write a checkpoint and end."""
    progress: Callable[[Progress], None] = ignore
    """Called about a hundred times a trial, by every worker."""

    def lasting(self, results: Path) -> "Placement":
        """This place, with what outlives an interruption kept in a results folder."""
        return replace(self, checkpoints=results / "checkpoints", fits=results / "fits")
