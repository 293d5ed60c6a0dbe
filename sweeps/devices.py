"""What a sweep is planned for: this machine, or a device by its name; its memory, its peak, its price. No torch."""

import json
import os
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from parrots.models.memory import Device as Kind
from parrots.provenance import cores, processor

HERE = Path(__file__).parent
NUMBER = re.compile(r"[0-9.]+")
UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


@dataclass(frozen=True)
class Device:
    """Something that computes."""

    label: str
    """For the command line: h200, or cpu."""
    hardware: str
    """As records name it; of a CPU, how they begin."""
    kind: Kind
    memory: float
    """Bytes that one worker may use."""
    peak: dict[str, float]
    """FLOP/s by precision; nothing where it is not known."""
    bandwidth: float = 0.0
    """Bytes a second of its memory, known where the peak is."""


@dataclass(frozen=True)
class Price:
    """Money for an hour of one device, between the least and the most asked."""

    low: float
    high: float
    said: str
    """Where it is from, and of when."""

    def of(self, hours: float) -> str:
        """What so many device-hours cost."""
        low, high = (f"{each * hours:,.2f}" for each in (self.low, self.high))
        return f"USD {low}" if low == high else f"USD {low} to {high}"


@cache
def known() -> dict[str, Device]:
    """The GPUs of devices.json by label."""
    said = json.loads((HERE / "devices.json").read_text())["devices"]
    return {label: _gpu(label, one) for label, one in said.items()}


def _gpu(label: str, one: dict[str, Any]) -> Device:
    return Device(label, one["name"], "cuda", one["memory_gib"] * 2**30, one["peak"], one["bandwidth"])


def find(label: str | None, memory: str | None = None) -> Device:
    """The device of this label, by default this machine's, with another size of memory if one is given."""
    if label not in (None, "cpu", *known()):
        raise ValueError(f"--device {label}: one of cpu, {', '.join(known())}")
    found = here() if label is None else cpu() if label == "cpu" else known()[label]
    return replace(found, memory=size(memory)) if memory else found


def here() -> Device:
    """This machine's first GPU, or else its CPU."""
    for told in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        name = next((line.split(":", 1)[1].strip() for line in told.read_text().splitlines() if line.startswith("Model")), "")
        same = next((device for device in known().values() if device.hardware == name), None)
        return same or Device("gpu", name, "cuda", float("inf"), {})
    return cpu()


def slots_here() -> int:
    """Trials that this machine has room for side by side: one a GPU, or a core."""
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*/information"))) or cores()


def cpu() -> Device:
    """This machine's CPU; its memory is shared by as many workers as it has cores."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device("cpu", processor(), "cpu", memory / cores(), {})


def size(text: str) -> float:
    """Bytes of `80GiB`, `80GB` or a number of bytes."""
    found = re.fullmatch(r"\s*([0-9.]+)\s*([kKMGT]?i?)B?\s*", text)
    try:
        assert found is not None
        return float(found[1]) * UNITS[found[2].upper()]
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(f"--device-memory {text}: a size such as 80GiB") from error


def price(device: Device, given: str | None) -> Price | None:
    """What an hour of a device costs: as given (a number, or a file like prices.json), or by the table that comes along."""
    if given is not None and NUMBER.fullmatch(given):
        return Price(float(given), float(given), "as given")
    path = Path(given) if given else HERE / "prices.json"
    try:
        table = json.loads(path.read_text())
        asked = table["per_device_hour"].get(device.label)
        low, high = asked if isinstance(asked, list) else (asked, asked)
        said = f"{table['date']}, {table['source']}"
        return None if asked is None else Price(float(low), float(high), said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"--price {given}: US dollars an hour, or a table like sweeps/prices.json") from error
