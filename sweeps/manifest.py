"""An expanded sweep as JSON: canonical, a line a cell so that two can be compared with `diff`, and hashed.

It says all that the Python document said once it was expanded, so it runs without it: `parrots run manifest.json`. The hash
is of everything but the command line that made it: equal sweeps have equal hashes.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FORMAT = 1
LARGEST = 2**30
"""Bytes; a manifest of a hundred thousand cells has a fifteenth of it."""
ABOUT = ("format", "hash", "name", "title", "scale", "command", "keep", "alarms", "claims", "search", "cells")
"""The order in which it is read."""


def digest(said: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name what a sweep asks, whoever runs it."""
    asked = {name: value for name, value in said.items() if name not in ("format", "hash", "command")}
    return hashlib.sha256(_json(asked).encode()).hexdigest()[:16]


def text(said: Mapping[str, Any]) -> str:
    """The manifest of a sweep given as canonical data."""
    whole = {**said, "format": FORMAT, "hash": digest(said)}
    lines = []
    for name in (name for name in ABOUT if name in whole):
        value = whole[name]
        listed = isinstance(value, list) and value
        inside = "[\n  " + ",\n  ".join(map(_json, value)) + "\n ]" if listed else _json(value)
        lines.append(f" {json.dumps(name)}: {inside}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(path: Path) -> dict[str, Any]:
    """What a manifest says of a sweep. ValueError if it is none, of another version, or was changed by hand."""
    if (size := path.stat().st_size) > LARGEST:
        raise ValueError(f"{path}: {size:,} bytes; a manifest has at most {LARGEST:,}")
    try:
        said = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({str(error).splitlines()[0]})") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested deeper than any manifest") from error
    if not isinstance(said, dict) or "format" not in said:
        raise ValueError(f"{path}: not a manifest of a sweep; `parrots plan SWEEP --manifest` prints one")
    if said["format"] != FORMAT:
        raise ValueError(f"{path}: a manifest of format {said['format']!r}, and this version reads {FORMAT}")
    given = said.pop("hash", None)
    if given is not None and given != (found := digest(said)):
        raise ValueError(f"{path}: its hash is {found}, and it says {given}; was it changed by hand? Then take that line out")
    return said


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(", ", ": "), allow_nan=False, ensure_ascii=False)
