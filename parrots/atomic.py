"""A file is there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO


@contextmanager
def atomic(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends well, and vanishes when it does not.

    The bytes are on the disk before the name is, and the name replaces an older file in one step.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sink = NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False)  # noqa: SIM115
    try:
        with sink:
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        os.chmod(sink.name, 0o666 & ~_umask())
        os.replace(sink.name, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(sink.name)
        raise


def _umask() -> int:
    """The process's file mode mask, which temporary files ignore; read the only way there is."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
