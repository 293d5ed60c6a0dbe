"""How a run treats its cells: options of the verbs that run some. None changes a result, but for one that records tell."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import inf
from typing import Any

import click


@dataclass(frozen=True)
class How:
    """Checkpoints, stacks, early ends and the budget of a run."""

    checkpoint_s: float = 60.0
    """Seconds of training between two checkpoints of a cell."""
    stack: int | None = None
    """Cells of one shape that train side by side at most; None: as many as pay."""
    early_stop: str = ""
    """asha, or nothing: then every cell trains to its end."""
    max_device_hours: float = inf
    """Slot-hours after which the run writes checkpoints and ends."""


class Stack(click.ParamType):
    """A number of cells, or auto."""

    name = "K|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """None for auto."""
        if value in (None, "auto"):
            return None
        return click.IntRange(min=1).convert(value, param, ctx)


OPTIONS = (
    click.option(
        "--checkpoint-every",
        "checkpoint_s",
        type=click.FloatRange(min=0),
        default=60,
        show_default=True,
        metavar="S",
        help="Seconds of training between two checkpoints of a cell; cheaper cells write none.",
    ),
    click.option("--stack", type=Stack(), help="Cells of one shape to train side by side.  [default: auto, as many as pay]"),
    click.option(
        "--early-stop",
        type=click.Choice(["asha"]),
        help="End the worse cells early. It biases every curve that is fitted, so records tell it; off by default.",
    ),
    click.option(
        "--max-gpu-hours",
        "max_device_hours",
        type=click.FloatRange(min=0, min_open=True),
        default=inf,
        metavar="H",
        help="Write checkpoints and end when slots (GPUs, or cores) were held for so many hours.  [default: no limit]",
    ),
)


def how_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that runs cells: these options reach it as one argument, `how`."""

    @wraps(verb)
    def told(
        *args: Any, checkpoint_s: float, stack: int | None, early_stop: str | None, max_device_hours: float, **more: Any
    ) -> Any:
        return verb(*args, how=How(checkpoint_s, stack, early_stop or "", max_device_hours), **more)

    for option in reversed(OPTIONS):
        told = option(told)
    return told
