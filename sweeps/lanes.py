"""How a cell is run: packed with others into reused processes, or by a Train worker group of its own; its part of a device.

On a laptop a cell for one worker is packed: some tenths of a CPU-second a trial, where a group takes 20. On a cluster, and
at the scale `paper` anywhere, cells are long and machines go away, so each is a group, unless its sweep says
`lane="packed"`.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from parrots.spec import Cell
from sweeps import room
from sweeps.devices import Device, known

PROCESS_BYTES = 600 * 2**20  # of GPU memory for a process's CUDA context and cuBLAS's workspace, beside its tensors
MOST = 8  # cells of one GPU; more processes only take turns
UP = Path("~/ray_bootstrap_config.yaml").expanduser()  # where `ray up` leaves its file on a head, as JSON
GRAIN = 10_000  # parts of a resource that Ray tells apart

Lane = Literal["packed", "group"]


def joined() -> bool:
    """Whether cells run on a cluster that was there before, and not on a Ray of this run's own."""
    return "RAY_ADDRESS" in os.environ


def lane_of(cell: Cell, scale: str) -> Lane:
    """How a cell of a sweep at this scale is run here."""
    if cell.workers > 1 or cell.lane == "group":
        return "group"
    return "group" if cell.lane == "auto" and (joined() or scale == "paper") else "packed"


def split(cells: Sequence[Cell], scale: str) -> list[tuple[Lane, list[Cell]]]:
    """The cells by lane, and groups by their number of workers, since a Tuner that mixes them reuses no actor."""
    kinds = sorted({(cell.workers, lane_of(cell, scale)) for cell in cells}, key=lambda kind: (kind[0], kind[1] == "group"))
    return [
        (lane, [cell for cell in cells if (cell.workers, lane_of(cell, scale)) == (workers, lane)]) for workers, lane in kinds
    ]


def per_gpu(cell: Cell, device: Device, cores: float, stack: int = 1) -> int:
    """How many like this one share a GPU: as many as fit into its memory, with a core each. 1 where that is not known.

    stack: cells that each of them trains side by side.
    """
    if cell.workers > 1 or not math.isfinite(device.memory):
        return 1
    each = stack * room.needed(cell, device).peak + PROCESS_BYTES
    return max(1, min(MOST, int(cores), int(room.HEADROOM * device.memory / each)))


def part(number: int) -> float:
    """One of so many parts of a resource, so that Ray finds room for all of them."""
    return GRAIN // number / GRAIN


def smallest(accelerators: Iterable[str]) -> Device | None:
    """The GPU with the least memory of these, by Ray's names (H200); None if there is one that is not known."""
    found = [[gpu for label, gpu in known().items() if label.startswith(name.lower())] for name in accelerators]
    return min((gpu for alike in found for gpu in alike), key=lambda gpu: gpu.memory) if found and all(found) else None


def elastic(cell: Cell) -> int | tuple[int, int]:
    """The workers of a group, or on a cluster the fewest and the most: all numbers between have to divide the batch."""
    fewest = cell.workers
    while joined() and fewest > 1 and cell.trial.training.batch_size % (fewest - 1) == 0:
        fewest -= 1
    return cell.workers if fewest == cell.workers else (fewest, cell.workers)


def up() -> dict[str, Any]:
    """The file that `ray up` left on this head; empty elsewhere."""
    return dict(json.loads(UP.read_text())) if UP.exists() else {}


def fewest() -> int:
    """Machines that this head's cluster keeps at least, itself among them."""
    return 1 + sum(kind.get("min_workers", 0) for kind in up().get("available_node_types", {}).values())


def capacity(now: Mapping[str, float]) -> dict[str, float]:
    """CPUs and GPUs of a cluster: those that it has, or may grow to by the file that `ray up` left on its head."""
    said = up() if joined() else {}
    kinds = [(kind.get("resources", {}), kind.get("max_workers", 0)) for kind in said.get("available_node_types", {}).values()]
    found = {}
    for name in ("CPU", "GPU"):
        each = sorted((has.get(name, 0) for has, number in kinds for _ in range(number)), reverse=True)
        found[name] = max(now.get(name, 0), sum(each[: said.get("max_workers", 0)]))
    return found
