"""How a run treats its cells: options of the verbs that run some. None changes a result, but for one that records tell."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import inf
from pathlib import Path
from typing import Any

import click

from parrots.store import Store, checked
from parrots.thresholds import USUAL, Thresholds
from sweeps import devices
from sweeps.lanes import joined


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
    slots: int | None = None
    """Cores that cells are given, or GPUs where there are some; None: all of this machine, or of the cluster."""
    elastic: bool = False
    """Whether a group on a cluster may go on with fewer workers."""
    max_cost: float = inf
    """US dollars after which it ends likewise."""
    price: str | None = None
    """Of a device-hour, or the file of a table; None: sweeps/prices.json."""
    alarms: tuple[str, ...] = ()
    """NAME=VALUE of thresholds that go before the sweep's own."""
    store: str | None = None
    """Where what outlives a machine goes, if machines share no results folder."""

    def hours(self, device: devices.Device) -> float:
        """The device-hours that it may take. ValueError where money is the limit and no price of the device is known."""
        return min(self.max_device_hours, inf if self.max_cost == inf else hours_for(self.max_cost, self.price, device))

    def stored(self, results: Path) -> Store | None:
        """The store beside these results, if there is one."""
        return Store(self.store, results) if self.store else None


class Stack(click.ParamType):
    """A number of cells, or auto."""

    name = "K|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """None for auto."""
        if value in (None, "auto"):
            return None
        return click.IntRange(min=1).convert(value, param, ctx)


def bounds(_: click.Context, option: click.Parameter, said: tuple[str, ...]) -> tuple[str, ...]:
    """Thresholds that may be: refused before anything runs."""
    try:
        USUAL.but(said)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return said


def address(_: click.Context, __: click.Parameter, uri: str | None) -> str | None:
    """The address of a store, or None. ValueError if it is none."""
    return checked(uri) if uri else None


store_option = click.option(
    "--store",
    metavar="URI",
    envvar="PARROTS_STORE",
    callback=address,
    help="s3://BUCKET/FOLDER or gs://..., where machines that share no folder keep results; also $PARROTS_STORE.",
)
OPTIONS = (
    store_option,
    click.option(
        "--slots", type=click.IntRange(min=1), help="Cores that cells may take, or GPUs where there are some.  [default: all]"
    ),
    click.option("--elastic", is_flag=True, help="On a cluster, groups go on with fewer workers while a node is gone."),
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
    click.option(
        "--max-cost",
        type=click.FloatRange(min=0, min_open=True),
        default=inf,
        metavar="USD",
        help="The same, as money.  [default: no limit]",
    ),
    click.option(
        "--alarm",
        "alarms",
        multiple=True,
        callback=bounds,
        metavar="NAME=VALUE",
        help=f"When a training looks wrong: {', '.join(f'{k}={v.default:g}' for k, v in Thresholds.model_fields.items())}.",
    ),
    click.option("--price", metavar="USD|FILE", help="Of a device-hour, or a table.  [default: sweeps/prices.json]"),
)


def hours_for(cost: float, price: str | None, device: devices.Device) -> float:
    """The hours of a device that so much money buys, at the most that is asked for them."""
    if (found := devices.price(device, price)) is None:
        raise ValueError(f"--max-cost {cost:g}: no price of {device.hardware} is known; give --price")
    return cost / found.high if found.high else inf


def how_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that runs cells: these options reach it as one argument, `how`."""

    @wraps(verb)
    def told(
        *args: Any,
        slots: int | None,
        elastic: bool,
        checkpoint_s: float,
        stack: int | None,
        early_stop: str | None,
        max_device_hours: float,
        max_cost: float,
        price: str | None,
        alarms: tuple[str, ...],
        store: str | None,
        **more: Any,
    ) -> Any:
        how = How(checkpoint_s, stack, early_stop or "", max_device_hours, slots, elastic, max_cost, price, alarms, store)
        if not joined():  # of a cluster's devices, the run asks when it has joined it
            how.hours(devices.here())
        return verb(*args, how=how, **more)

    for option in reversed(OPTIONS):
        told = option(told)
    return told
