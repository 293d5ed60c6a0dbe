"""`parrots bench`: what a training step takes on this machine, for each shape; later plans go by it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from parrots.spec import Cell, Trial
from sweeps import calibration, devices, room
from sweeps.guard import writable
from sweeps.narrow import Narrowing
from sweeps.say import columns, out
from sweeps.spec import find, grid
from sweeps.verbs.options import again, narrowing_options, results_option, scale_option

GIB = 2**30


@click.command()
@click.argument("sweep", required=False)
@scale_option
@results_option
@narrowing_options
@click.option("--backend", default="auto", show_default=True, help="How experts are computed.")
@click.option("--seconds", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="For each shape, about.")
@click.option("--out", "file", type=click.Path(path_type=Path, dir_okay=False), help="Write the calibration here instead.")
def bench(
    sweep: str | None, scale: str | None, results: Path, narrowing: Narrowing, backend: str, seconds: float, file: Path | None
) -> None:
    """Measure a training step of each shape in SWEEP (by default of a grid), its memory, and what is made of its FLOPs.

    On a CPU with one thread, in that thread's own time, so a busy machine does not count.
    """
    import torch

    from parrots.models.moe import AUTO, BACKENDS
    from parrots.placement import Placement
    from parrots.provenance import hardware
    from parrots.training.rehearsal import peak_bytes, step_seconds

    if backend not in (AUTO, *BACKENDS):
        raise ValueError(f"--backend {backend}: one of {', '.join((AUTO, *BACKENDS))}")
    on_gpu = torch.cuda.is_available()
    cells = narrowing.of(find(sweep, scale)).asked(results) if sweep else standard(on_gpu)
    if file is None:
        writable(results)
    torch.set_num_threads(1)
    place = Placement(Path(), device="cuda" if on_gpu else "cpu", backend=backend)
    on, machine = devices.here(), hardware(place.device)
    by_shape = {calibration.shape(cell.trial): cell for cell in reversed(cells)}
    measured, rows = [], []
    for cell in reversed(by_shape.values()):
        trial = cell.trial
        took = step_seconds(trial, place, seconds)
        measured.append((trial, took))
        rows.append(
            row(trial, took, peak_bytes(trial, place), room.needed(cell.model_copy(update={"workers": 1}), on).peak, on)
        )
        out.print(f"[{len(rows)}/{len(by_shape)}] {rows[-1][0]} {rows[-1][1]}: {rows[-1][3]} ms a step")
    head = ("model", "precision", "tokens a step", "ms", "tokens/s", "FLOP/s", "of peak", "MiB", "planned")
    columns(head, rows, left=("model", "precision"))
    said = again(sweep, scale, Path("results"), narrowing, "bench") if sweep else "parrots bench"
    made = calibration.fitted(machine, f"{datetime.now(UTC):%Y-%m-%d}", f"`{said}`", measured, backend)
    for family, (low, high) in made.spread.items():
        out.print(f"{family}: 90 % of measured over fitted between {low:.2f} and {high:.2f}")
    if file:
        file.write_text(calibration.text([made]) + "\n")
    out.print(f"kept in {file or calibration.write(made, results)}")


def row(trial: Trial, took: float, bytes_: int, planned: int, on: devices.Device) -> tuple[str, ...]:
    """A measured shape as text."""
    steps = trial.training.steps
    tokens, flops = trial.tokens / steps, trial.flops / steps
    peak = on.peak.get(trial.training.precision)
    rate = (f"{1e3 * took:.2f}", f"{tokens / took:,.0f}", f"{flops / took:.2e}", f"{flops / took / peak:.1%}" if peak else "-")
    return (
        f"L{trial.model.n_layers}-{trial.model.name}",
        trial.training.precision,
        f"{tokens:,.0f}",
        *rate,
        f"{bytes_ / 2**20:,.1f}",
        f"{planned / bytes_:.2f}",
    )


def standard(on_gpu: bool) -> Sequence[Cell]:
    """Shapes between which a line is drawn: the laptop's, or twelve layers in bfloat16."""
    widths, batches = ([256, 512, 1024], [128, 1024]) if on_gpu else ([16, 32, 64, 128], [16, 64, 256])
    precision = "bfloat16" if on_gpu else "float32"
    made: list[Cell] = []
    for d in widths:
        wide: list[Any] = [{"kind": "dense", "d_ff": d}, {"kind": "dense", "d_ff": 4 * d}]
        wide += [{"kind": "moe", "d_ff": d, "n_experts": n} for n in (4, 16)]
        heads = max(4, d // 64)
        base = {
            "model": {"d_model": d, "n_layers": 12 if on_gpu else 2, "n_heads": heads, "n_kv_heads": heads},
            "training": {"steps": 1, "lr": 1e-3, "precision": precision},
        }
        books: dict[str, Any] = {"task": {"kind": "phonebook", "n_entries": 1000}}
        paths: dict[str, Any] = {"task": {"kind": "length2_path", "n_vertices": 10, "n_train": 1000, "train_queries": 12}}
        made += grid(base | books, {"model.ffn": wide, "training.batch_size": batches})
        graphs: dict[str, Any] = {"task": {"kind": "shortest_path", "n_vertices": 6, "p": 0.3, "n_train": 1000}}
        for task in (paths, graphs):
            made += grid(base | task, {"model.ffn": wide[::2], "training.batch_size": batches[:1]})
    return made
