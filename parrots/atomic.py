"""A file is there whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends well, and vanishes when it does not.

    The bytes are on the disk before the name is, and the name replaces an older file in one step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unnamed = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with unnamed.open("xb") as sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.replace(unnamed, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unnamed)
        raise
