"""`parrots plan`: what a sweep costs before it starts, and afterwards what it cost beside that."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from parrots.frozen import canonical_json
from parrots.provenance import cores
from parrots.spec import Cell
from sweeps import assumed, calibration, devices, room
from sweeps.devices import Device
from sweeps.narrow import Narrowing
from sweeps.plan import Plan, Timer, plan_of, timer_at, timer_of
from sweeps.say import columns, out, summary
from sweeps.spec import Sweep, find
from sweeps.verbs.options import again, narrowing_options, results_option, scale_option, sweep_argument
from sweeps.watch import clock

GIB = 2**30


@click.command()
@sweep_argument
@scale_option
@results_option
@narrowing_options
@click.option("--slots", type=click.IntRange(min=1), help="Trials at once.  [default: one a core, or one GPU]")
@click.option("--device", help="Plan for this device: cpu, a100, h100, h200, ...  [default: this machine's]")
@click.option("--device-memory", metavar="SIZE", help="Memory of each device, such as 80GiB.  [default: the device's]")
@click.option("--mfu", metavar="SHARES", help="Share of the device's peak, as dense=0.4,moe=0.2, where it was not measured.")
@click.option(
    "--step-ms",
    type=click.FloatRange(min=0),
    default=0.0,
    help="With --mfu: the least that a step takes. Of small ones it is launching kernels that takes time, and not FLOPs.",
)
@click.option("--price", metavar="USD|FILE", help="Of a device-hour, or a table.  [default: sweeps/prices.json]")
@click.option("--actual", is_flag=True, help="Planned beside actual, from the records; later plans go by them.")
@click.option("--jsonl", is_flag=True, help="Print the trials one JSON line each, for `python -m parrots.run`.")
@click.option("--manifest", is_flag=True, help="Print the expanded sweep as JSON, which `parrots run FILE.json` runs.")
def plan(
    sweep: str,
    scale: str | None,
    results: Path,
    narrowing: Narrowing,
    slots: int | None,
    device: str | None,
    device_memory: str | None,
    mfu: str | None,
    step_ms: float,
    price: str | None,
    actual: bool,
    jsonl: bool,
    manifest: bool,
) -> None:
    """Show every cell of SWEEP with its parameters, FLOPs, memory and expected time. Runs nothing."""
    found = narrowing.of(find(sweep, scale))
    if jsonl:
        for cell in found.asked(results):
            click.echo(canonical_json(cell.model_copy(update={"workers": 1})))
        return
    if manifest:
        command = again(sweep, scale, Path("results"), narrowing)
        click.echo(found.model_copy(update={"command": command}).text(), nl=False)
        return
    on = devices.find(device, device_memory)
    cost = devices.price(on, price)
    cells = found.asked(results)
    if actual:
        say_actual(found, cells, results)
        return
    if step_ms and not mfu:
        raise ValueError(f"--step-ms {step_ms:g}: goes with --mfu, which says what larger steps take")
    rates = calibration.mfu(mfu, [cell.trial for cell in cells], on.peak) if mfu else None
    timer = timer_at(rates, step_ms / 1e3) if rates else timer_of(on.hardware, results)
    made = plan_of(found, results, slots or (cores() if on.kind == "cpu" else 1), timer or (lambda trial: None), on)
    say_plan(found, made, on)
    how = f"at {mfu} of its peak{f', {step_ms:g} ms a step at least' if step_ms else ''}" if mfu else said_of(on, results)
    say_hours(found, made, on, how, cost)
    say_search(found)
    out.print("N_total and N_active leave out embedding and head. Time and memory are one slot's.")


def say_plan(found: Sweep, made: Plan, on: Device) -> None:
    """The table of cells, and what of it does not fit."""
    head = ("task", "trial", "workers", "N_total", "N_active", "FLOPs", "memory", "time", "state")
    rows, large = [], []
    most = 0
    for cell in made.cells:
        trial, took = cell.trial, made.seconds[cell.trial.id]
        needed = room.needed(cell, on)
        most = max(most, needed.peak)
        state = made.states[trial.id]
        if not room.fits(needed, on):
            large.append(cell)
            state += f", does not fit: {room.remedy(cell, on)}"
        time = "-" if math.isnan(took) else clock(took)
        sizes = (f"{trial.total.N:,}", f"{trial.active.N:,}", f"{trial.flops:.2e}", in_bytes(needed.peak), time)
        rows.append((trial.task.kind, trial.name, str(cell.workers), *sizes, state))
    out.print(found.title, style="bold")
    if found.note:
        out.print(found.note)
    columns(head, rows, left=("task", "trial", "state"))
    out.print(f"{summary(made)}, {sum(cell.trial.flops for cell in made.cells):.2e} FLOPs in all")
    has = f"{on.memory / GIB:,.0f} GiB" if math.isfinite(on.memory) else "unknown (--device-memory)"
    out.print(f"memory: at most {in_bytes(most)} a cell; {on.hardware} has {has} a slot")
    if large:
        remedies = Counter(room.remedy(cell, on) for cell in large)
        told = "; ".join(f"{count} with {remedy}" for remedy, count in remedies.items())
        out.print(f"{len(large)} cell{'s do' if len(large) > 1 else ' does'} not fit as declared; what would make them: {told}")
    if counted := [share for cell in large if (share := room.counting(cell, on))]:
        out.print(
            f"of them {len(counted)} balance load over more than a micro-batch: passes that count take {max(counted):.0%} "
            "of their training at most besides, which is in their time; with training.balance_by='step_before' there are none"
        )


def say_hours(found: Sweep, made: Plan, on: Device, how: str, cost: devices.Price | None) -> None:
    """Device-hours of what is left, their price, and what one can say of GPUs where none was measured."""
    left = [cell for cell in made.cells if made.states[cell.trial.id] != "done"]
    hours = sum(made.work(cell) for cell in left) / 3600
    name = "GPU-hours" if on.kind == "cuda" else "core-hours"
    if not math.isnan(hours):
        money = f", {cost.of(hours)} ({cost.said})" if cost else ""
        out.print(f"{in_hours(hours)} {name} on {on.hardware}{money}; {how}")
    steps = sum(cell.trial.training.steps for cell in left)
    mean = "" if math.isnan(hours) or not steps else f"; those above take {3.6e6 * hours / steps:,.3g} on average, with starts"
    out.print(f"{steps:,} steps: each millisecond that one takes is {steps / 3.6e6:,.3g} device-hours{mean}")
    if on.kind == "cuda" and not math.isnan(hours):
        say_calls(found, [made.work(cell) for cell in left])
        return
    gpu = on if on.peak else devices.known()["h200"]
    least = sum(cell.trial.flops / gpu.peak[cell.trial.training.precision] for cell in left) / 3600
    out.print(
        f"GPU-hours: not calibrated ({gpu.hardware}); at its peak FLOP/s, which nothing reaches, at least {in_hours(least)}. "
        f"`parrots bench` measures a machine, --device {gpu.label} --mfu dense=...,moe=... assumes a share of the peak "
        "and --step-ms what the smallest step takes."
    )
    if left and (on.kind == "cuda" or math.isnan(hours)):
        say_assumed(found, left, gpu)


def say_assumed(found: Sweep, cells: Sequence[Cell], gpu: Device) -> None:
    """What cells may take on one GPU by a roofline that nothing measured."""
    seconds = [assumed.cell_s(cell, gpu) for cell in cells]
    took = f"{in_hours(sum(seconds) / 3600)} GPU-hours on {gpu.hardware}, a cell at most {clock(max(seconds))}"
    out.print(f"assumed and not measured ({assumed.SAID}): {took}")
    say_calls(found, seconds)


def say_calls(found: Sweep, seconds: Sequence[float]) -> None:
    """How cells of so many seconds fit into calls of `python -m parrots.run` on one GPU; nothing where there is none left."""
    if not seconds:
        return
    made = assumed.calls(seconds)
    if not made.number:
        out.print(f"no call of {assumed.MOST_S / 60:g} minutes is long enough for the longest cell")
        return
    keep = " --keep none" * (found.keep == "none")
    out.print(
        f"in calls of {assumed.MOST_S / 60:g} minutes: `python -m parrots.run CELLS --out results{keep} "
        f"--begin-for {made.begin_for}`, {made.number} times, {clock(made.total_s)} in all; CELLS is what --jsonl prints"
    )


def said_of(on: Device, results: Path) -> str:
    """Where a device's times come from."""
    known = calibration.of(on.hardware, results)
    return f"times from {known.said} on {known.hardware}, {known.date}" if known else ""


def say_search(found: Sweep) -> None:
    """How far a search may still go."""
    if search := found.search:
        out.print(
            f"search: {len(search.arms)} arms, each {len(search.listed)} listed sizes and then at most {search.at_most} from "
            f"{search.low:,} to {search.high:,}; a grid as fine has {search.grid}. Above is what each needs next."
        )


def say_actual(found: Sweep, cells: Sequence[Cell], results: Path) -> None:
    """Planned beside actual training time of the cells that are done, by device and family; keeps what was measured."""
    from parrots.record import path_of, read

    paths = [path for cell in cells if (path := path_of(cell.trial.id, results)).exists()]
    frame = read(paths).select(["trial_id", "status", "workers", "train_s", "hardware"]).to_pandas().drop_duplicates("trial_id")
    frame = frame[(frame["status"] == "done") & (frame["workers"] == 1) & (frame["train_s"] > 0)]
    if frame.empty:
        raise ValueError(f"no cell of {found.name} has been trained to its end by one worker in {results}")
    trials = {cell.trial.id: cell.trial for cell in cells}
    rows = []
    for hardware, part in frame.groupby("hardware"):
        known: Timer = timer_of(str(hardware), results) or (lambda trial: None)
        took = [(trials[trial_id], float(s)) for trial_id, s in zip(part["trial_id"], part["train_s"], strict=True)]
        for family in sorted({calibration.family(trial) for trial, _ in took}):
            own = [(known(trial), s) for trial, s in took if calibration.family(trial) == family]
            ratios = sorted(s / planned for planned, s in own if planned)
            planned = clock(sum(planned or 0 for planned, _ in own)) if len(ratios) == len(own) else "-"
            middle, low, high = (
                ("-", "-", "-") if not ratios else (f"{ratios[int(q * (len(ratios) - 1))]:.2f}" for q in (0.5, 0.05, 0.95))
            )
            rows.append((str(hardware), family, str(len(own)), planned, clock(sum(s for _, s in own)), middle, low, high))
        per_step = [(trial, s / trial.training.steps) for trial, s in took]
        made = calibration.fitted(str(hardware), f"{datetime.now(UTC):%Y-%m-%d}", f"records of {found.name}", per_step)
        calibration.write(made, results)
    columns(
        ("device", "family", "cells", "planned", "actual", "actual / planned", "5 %", "95 %"), rows, left=("device", "family")
    )
    out.print(f"later plans with --results {results} go by these times")


def in_hours(hours: float) -> str:
    """Hours as people read them: 0.277, 94.8, 2,350."""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def in_bytes(size: float) -> str:
    """A size as people read it: 512 MiB, 3.2 GiB."""
    return f"{size / 2**20:,.3g} MiB" if size < GIB else f"{size / GIB:,.3g} GiB"
