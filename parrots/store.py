"""An object store (S3, GCS) as what machines share that have no file system in common: each keeps a results folder of its own.

What has to outlive a machine is also in the store, under its path below the results. A folder puts files in place by a rename;
here one PUT is whole or not at all, and whoever asks next reads it. So a record goes into the store before it has its name in
the folder: what counts as done is in the store. The data of tasks are not, since each machine makes the same.
"""

import errno
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from parrots.atomic import atomic

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

T = TypeVar("T")
KINDS = "s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"
OPTIONS = ("region", "scheme", "endpoint_override")
FIRST_S, LONGEST_S = 0.5, 30.0  # between two attempts, twice as long each
AT_ONCE = 16  # files under way together: they are small, and each waits for the network
PIECE = 2**26  # bytes of a large file that are in memory at a time
OUTLIVES = ("weights", "evaluations", "records", "failures")
"""Folders that a run sends, the weights before the records that name them."""
READ = ("sweeps", "records", "evaluations", "failures")
"""Folders that say how far a sweep is."""
CHANGES = "manifest.json"
"""The one file of these that another takes the place of: of a sweep as it was last run."""


def checked(uri: str) -> str:
    """The address of a store. ValueError, which does not repeat it, if it is none or has credentials in it."""
    try:
        said = urlsplit(uri)
    except ValueError:
        raise ValueError(f"not the address of a store, which is {KINDS}") from None
    if "@" in uri:  # anywhere: a secret may have slashes in it
        raise ValueError("no credentials in a store's address: set them in the environment, or use the machine's role")
    if (
        said.scheme not in ("s3", "gs")
        or not re.fullmatch(r"[\w.-]+", said.netloc)
        or ".." in said.path.split("/")
        or said.fragment
    ):
        raise ValueError(f"not the address of a store, which is {KINDS}")
    if unknown := [name for name, _ in parse_qsl(said.query, keep_blank_values=True) if name not in OPTIONS]:
        raise ValueError(f"no option {unknown[0]!r} in a store's address; there are {', '.join(OPTIONS)}")
    return uri


@cache
def opened(uri: str) -> tuple["FileSystem", str]:
    """The client of a store, with credentials from the environment or the machine's role, and the folder in it."""
    from pyarrow.fs import FileSystem  # a fifth of a second

    # S3: what is small in one request, not in the three of an upload in parts; GCS: its own patience is a quarter of an hour
    more = "allow_delayed_open=true" if uri.startswith("s3:") else f"retry_limit_seconds={LONGEST_S:.0f}"
    client, folder = FileSystem.from_uri(f"{uri}{'&' if '?' in uri else '?'}{more}")
    return client, folder.rstrip("/")


@dataclass(frozen=True)
class Store:
    """A store beside a results folder; paths are those of the folder. ConnectionError where it stays away too long."""

    uri: str
    results: Path
    patience_s: float = 300.0
    """It may be away for as long; less than the 10 minutes that NCCL lets a worker wait for another."""

    @property
    def impatient(self) -> "Store":
        """The same, which is asked once each time: for those who have others to serve."""
        return replace(self, patience_s=0.0)

    def key(self, path: Path) -> str:
        """Where the file of this path is in the store."""
        return f"{opened(self.uri)[1]}/{path.absolute().relative_to(self.results.absolute()).as_posix()}"

    def put(self, path: Path, content: Any = None) -> None:
        """Send a file, or these bytes in its name, in place of an older one.

        In one call: a stream that is closed after half of its bytes would complete the object with them.
        """
        import pyarrow as pa

        def send() -> None:
            found = content
            if found is None:
                found = pa.memory_map(str(path)).read_buffer() if path.stat().st_size else b""
            with opened(self.uri)[0].open_output_stream(self.key(path)) as sink:
                sink.write(found)

        self._patiently(send, f"{path.name} was not sent")

    def get(self, path: Path) -> bool:
        """Bring a file here, whole, in place of an older one; False if the store has none."""

        def bring() -> bool:
            with suppress(FileNotFoundError), opened(self.uri)[0].open_input_stream(self.key(path)) as source:
                with atomic(path) as sink:
                    shutil.copyfileobj(source, sink, PIECE)
                return True
            return False

        return self._patiently(bring, f"{path.name} was not brought")

    def has(self, path: Path) -> bool:
        """Whether a file is in the store."""

        def look() -> bool:
            return bool(opened(self.uri)[0].get_file_info(self.key(path)).is_file)

        return self._patiently(look, f"{path.name} was not looked for")

    def share(self, path: Path) -> bool:
        """Have a file on both sides; False if it is on neither."""
        if not path.exists():
            return self.get(path)
        if not self.has(path):
            self.put(path)
        return True

    def inside(self, folder: Path) -> list[Path]:
        """The files below a folder in the store, in order. ValueError for a name that leads out of it."""
        from pyarrow.fs import FileSelector

        def look() -> list[str]:
            select = FileSelector(self.key(folder), recursive=True, allow_not_found=True)
            return [one.path for one in opened(self.uri)[0].get_file_info(select) if one.is_file]

        found, above = [], len(self.key(folder)) + 1
        for key in self._patiently(look, f"{folder.name} was not listed"):
            parts = key[above:].split("/")
            if any(part in ("", ".", "..") or "\0" in part for part in parts):
                raise ValueError(f"{self.uri}: {key!r} is no name of ours; delete it")
            found.append(folder.joinpath(*parts))
        return sorted(found)

    def delete(self, path: Path) -> None:
        """Take a file or a folder out of the store, if it is there."""

        def remove() -> None:
            client, key = opened(self.uri)[0], self.key(path)
            with suppress(FileNotFoundError):
                kind = client.get_file_info(key).type.name
                if kind == "File":
                    client.delete_file(key)
                if kind == "Directory":
                    client.delete_dir(key)

        self._patiently(remove, f"{path.name} was not deleted")

    def fetch(self, *folders: str) -> None:
        """Bring what these folders of the results lack here, and manifests that have changed."""
        there = [path for name in folders for path in self.inside(self.results / name)]
        _each(self._renew, (path for path in there if path.name == CHANGES and path.exists()))
        _each(self.get, (path for path in there if not path.exists()))

    def _renew(self, path: Path) -> None:
        """Bring what another file may have taken the place of; the same bytes leave it as old as it is, as its index needs."""

        def look() -> bytes | None:
            with suppress(FileNotFoundError), opened(self.uri)[0].open_input_stream(self.key(path)) as source:
                return bytes(source.read())
            return None

        content = self._patiently(look, f"{path.name} was not brought")
        if content is not None and path.read_bytes() != content:
            with atomic(path) as sink:
                sink.write(content)

    def exchange(self) -> None:
        """Before a run: send what is here alone and fetch what is there alone, but for weights, which are large.

        Checkpoints of what has its record go from there: who wrote that was lost before it came to them.
        """
        self.put_away((self.results / "failures").glob("*.parquet"))
        for name in OUTLIVES:
            there = set(self.inside(self.results / name))
            here = (path for path in sorted((self.results / name).rglob("[!.]*")) if path.is_file())
            _each(self.put, (path for path in here if path not in there))
        self.fetch(*READ)
        folder = self.results / "checkpoints"
        for name in {path.relative_to(folder).parts[0] for path in self.inside(folder)}:
            if (self.results / "records" / f"{name}.parquet").exists():
                self.delete(folder / name)

    def put_away(self, failures: Iterable[Path]) -> None:
        """Of these failures here, remove those that `parrots retry` has put away on another machine; its copies come here.

        By their bytes, since a later attempt may have the name of one that counts no more.
        """
        found = list(failures)
        there = self.inside(self.results / "failures" / "retried") if found else []
        for path in found:
            with suppress(FileNotFoundError):  # another worker of this machine does the same
                said = path.read_bytes()
                copies = (copy for copy in there if copy.name.startswith(f"{path.stem}-"))
                if any((copy.exists() or self.get(copy)) and copy.read_bytes() == said for copy in copies):
                    path.unlink()

    def look(self) -> None:
        """ValueError, in a line, unless it answers and may be listed."""
        from pyarrow.fs import FileSelector, FileType

        try:
            client, folder = opened(self.uri)
            client.get_file_info(FileSelector(folder, allow_not_found=True))
            # on GCS whoever may read and write objects may not ask after their bucket
            absent = self.uri.startswith("s3:") and client.get_file_info(folder.partition("/")[0]).type == FileType.NotFound
        except (OSError, ValueError) as error:
            raise ValueError(f"store {self.uri}: {_line(error)}") from error
        if absent:
            raise ValueError(f"store {self.uri}: no such bucket")

    def check(self) -> None:
        """ValueError, in a line, unless files can be written, read and deleted there."""
        self.look()
        probe, said = self.results / f".check-{socket.gethostname()}-{os.getpid()}", os.urandom(16)
        try:
            client, _ = opened(self.uri)
            with client.open_output_stream(self.key(probe)) as sink:
                sink.write(said)
            with client.open_input_stream(self.key(probe)) as source:
                same = source.read() == said
            client.delete_file(self.key(probe))
        except (OSError, ValueError) as error:
            raise ValueError(f"store {self.uri}: {_line(error)}") from error
        if not same:
            raise ValueError(f"store {self.uri}: what was written there reads otherwise")

    def _patiently(self, act: Callable[[], T], problem: str) -> T:
        """What `act` returns, tried again while the store fails. Errors of this machine, as a full disk, pass at once."""
        until, wait = time.monotonic() + self.patience_s, FIRST_S
        while True:
            try:
                return act()
            except OSError as error:
                if error.errno is not None:  # those of the store have none
                    raise
                if time.monotonic() + wait > until:
                    raise ConnectionError(errno.ECONNABORTED, f"{self.uri}: {problem} ({_line(error)})") from error
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_S)


def _each(act: Callable[[Path], Any], paths: Iterable[Path]) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(act, paths))


def _line(error: Exception) -> str:
    """What a client said, in a line of some length."""
    return (next(iter(str(error).splitlines()), "") or type(error).__name__)[:300]
