"""What a verb makes sure of before it begins: that it may write, that it is alone, that a port and a store are free."""

import fcntl
import os
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_INET, SO_REUSEADDR, SOCK_STREAM, SOL_SOCKET, create_connection, socket

LOOPBACK = "127.0.0.1"
ASKING_S = 0.5  # a board or a status that asks who holds a lock has it for an instant itself
FOLDERS = ("records", "evaluations", "failures", "sweeps", "data", "weights", "tune", "train", "reports")


def writable(results: Path) -> None:
    """ValueError unless files can be made in the results folder and those in it, which are made if need be."""
    if said := unwritable(results, make=True):
        raise ValueError(f"{said}; name another folder with --results")


def unwritable(results: Path, make: bool = False) -> str:
    """Which folder that a run writes to takes no file, and why; empty where all do.

    One that is not there yet is made, or else the folder that it would be made in is asked.
    """
    for folder in (results, *(results / name for name in FOLDERS)):
        try:
            if make:
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=nearest(folder)):
                pass
        except OSError as error:
            return f"cannot write to {folder} ({error.strerror})"
    return ""


def nearest(folder: Path) -> Path:
    """A folder, or before it is made the nearest above it that is there."""
    return next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists() or one.is_symlink())


@contextmanager
def lock(results: Path) -> Iterator[None]:
    """Keep other runs out of this results folder. ValueError if one is at work there."""
    with (results / ".lock").open("a+") as file:
        end = time.monotonic() + ASKING_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() > end:
                    said = f"another `parrots run` is at work in {results}; wait for it, or name another folder"
                    raise ValueError(said) from error
                time.sleep(0.01)
        file.truncate(0)
        file.write(f"{os.getpid()} {platform.node()}")
        file.flush()
        yield


@dataclass(frozen=True)
class Holder:
    """The process that is at work in a results folder."""

    pid: int
    host: str


def holder(results: Path) -> Holder | None:
    """Who holds the lock of a results folder; None when nobody does."""
    path = results / ".lock"
    if not path.exists():
        return None
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pid, _, host = file.read().partition(" ")
            return Holder(int(pid or 0), host)
    return None


def free(port: int) -> None:
    """ValueError if somebody listens on this port of the loopback address."""
    with socket(AF_INET, SOCK_STREAM) as probe:
        probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ValueError(f"port {port} is in use; name another with --port") from error


def unheard(address: str) -> str:
    """Why nobody answers at HOST:PORT; nothing where somebody does, or where it names no port. Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdigit() and "://" not in host:
        try:
            create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except OverflowError as error:  # no port's number
            return str(error)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def unlocked(database: Path) -> None:
    """ValueError if another process holds MLflow's SQLite store locked."""
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=5)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT count(*) FROM experiments")
    except sqlite3.DatabaseError as error:
        raise ValueError(f"MLflow's store {database} cannot be used ({error}); end what holds it and try again") from error
