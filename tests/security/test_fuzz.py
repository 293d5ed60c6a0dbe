"""Readers of manifests, cells and records, given what hypothesis makes: they answer, or refuse in a line, and nothing else.

For $PARROTS_FUZZ_SECONDS, 30 by default, shared out among the readers; tests/slow takes five minutes.
"""

import json
import os
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from parrots.expressions import Expression
from parrots.record import SCHEMA, read
from parrots.run import read_cells
from parrots.training.checkpoint import MARKER, is_whole
from sweeps import index
from sweeps.intake import looked_at
from sweeps.spec import Sweep, find
from sweeps.spec import read as read_manifest

from ..conftest import make
from ..test_record import record
from .hostile import TEXTS

SECONDS = float(os.environ.get("PARROTS_FUZZ_SECONDS", "30"))
READERS = 7
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


def fuzz(reader: Callable[..., None], *strategies: Any) -> None:
    """Call it with what the strategies make, until its share of the time is over."""
    quick = settings(max_examples=50, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    once, end = quick(given(*strategies)(reader)), time.monotonic() + SECONDS / READERS
    while True:
        once()
        if time.monotonic() > end:
            return


def answers(reader: Callable[[], Any]) -> Any:
    """What it gives; None where it refuses, which is a ValueError of a line."""
    try:
        return reader()
    except ValueError as error:
        assert str(error).strip(), "refused without a word"
        return None


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """The way to each part of nested JSON."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(way for key, one in inner for way in places(one, (*at, key)))]


def changed(value: Any, way: tuple, to: Any) -> Any:
    """JSON with another part."""
    if not way:
        return to
    value = deepcopy(value)
    inner = value
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = to
    return value


def cut(content: bytes, at: float, drop: int, insert: bytes) -> bytes:
    """Bytes of which a few are others."""
    where = int(at * len(content))
    return content[:where] + insert + content[where + drop :]


BYTES = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 8), st.binary(max_size=8))
MANIFEST = json.loads(find("quickstart", "smoke").text())
WAYS = places(MANIFEST)


def test_manifests_of_which_parts_are_others(tmp_path):
    path = tmp_path / "manifest.json"

    def reader(way, to, hashed):
        said = changed(MANIFEST, way, to)
        if not hashed and isinstance(said, dict):
            said.pop("hash", None)
        path.write_text(json.dumps(said))
        found = answers(lambda: read_manifest(path))
        assert found is None or isinstance(found, Sweep)
        if found:
            assert found.name.isascii()
            assert "/" not in found.name
            found.text()

    fuzz(reader, st.sampled_from(WAYS), JSON, st.booleans())


def test_manifests_of_which_bytes_are_others(tmp_path):
    path, content = tmp_path / "manifest.json", json.dumps(MANIFEST | {"hash": None}).encode()

    def reader(how):
        path.write_bytes(cut(content, *how))
        answers(lambda: read_manifest(path))

    fuzz(reader, BYTES)


def test_cells_and_indexes(tmp_path):
    path, cell = tmp_path / "cells.jsonl", MANIFEST["cells"][0]
    known = [["s", "", "t", "c", False], [["i", "t", "n", []]]]
    beside = index.path_of(tmp_path / "manifest.json")
    (tmp_path / "manifest.json").touch()

    def reader(way, of_index, to, how):
        content = json.dumps(changed(cell, way, to)).encode()
        path.write_bytes(cut(content, *how))
        answers(lambda: read_cells(path))
        beside.write_bytes(cut(json.dumps(changed(known, of_index, to)).encode(), *how))
        answers(lambda: index.read(tmp_path / "manifest.json"))

    fuzz(reader, st.sampled_from(places(cell)), st.sampled_from(places(known)), JSON, BYTES)


def test_records_of_which_bytes_are_others(tmp_path):
    path = record(make()).write(tmp_path)
    content = path.read_bytes()

    def reader(how):
        path.write_bytes(cut(content, *how))
        answers(lambda: read([path]))
        taken = answers(lambda: looked_at(path))
        assert taken is None or taken.trial == make()

    fuzz(reader, BYTES)


def test_records_of_which_values_are_others(tmp_path):
    path = record(make()).write(tmp_path)
    rows = read([path]).to_pylist()
    kinds = {
        pa.types.is_string: st.text(max_size=30) | st.sampled_from(TEXTS) | JSON.map(json.dumps),
        pa.types.is_integer: st.integers(-(2**31), 2**31 - 1),
        pa.types.is_floating: st.floats(),
        pa.types.is_timestamp: st.integers(-(2**62), 2**62),
        pa.types.is_map: st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=3),
    }
    values = {one.name: next(v for test, v in kinds.items() if test(one.type)) for one in SCHEMA}
    other = st.sampled_from(SCHEMA.names).flatmap(lambda name: st.tuples(st.just(name), st.none() | values[name]))

    def reader(changes, row):
        told = [one | dict(changes) if row in (None, number) else one for number, one in enumerate(rows)]
        try:
            table = pa.Table.from_pylist(told, SCHEMA)
        except (pa.ArrowException, UnicodeEncodeError):  # lone surrogates
            return
        pq.write_table(table, path)
        answers(lambda: read([path]))
        taken = answers(lambda: looked_at(path))
        if taken:
            assert taken.trial == make()
            assert taken.place.parts[0] in ("records", "evaluations", "failures")
            assert len(taken.place.parts) == 2

    fuzz(reader, st.lists(other, min_size=1, max_size=3), st.none() | st.integers(0, len(rows) - 1))


def test_expressions():
    words = ["x", "y.z", "1", "'a'", *"()[],*+<-~:{", "==", "**", "and", "not", "in", "is", "None", "lambda"]
    text = st.text(max_size=60) | st.lists(st.sampled_from(words)).map(" ".join)

    def reader(said):
        answers(lambda: Expression(said)({"x": 1, "y.z": "a"}))

    fuzz(reader, text)


def test_markers_of_checkpoints(tmp_path):
    said = {"step": 20, "of": "t/20", "files": {"a": "0" * 64}, "hmac": "0" * 64}
    at = tmp_path / "t" / "20"
    at.mkdir(parents=True)

    def reader(way, to, how):
        (at / MARKER).write_bytes(cut(json.dumps(changed(said, way, to)).encode(), *how))
        assert is_whole(at, b"k" * 32) is False

    fuzz(reader, st.sampled_from(places(said)), JSON, BYTES)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_depth_is_no_crash(text, tmp_path):
    for name, reader in (("m.json", read_manifest), ("c.jsonl", read_cells)):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match="nested deeper"):
            reader(Path(tmp_path / name))
