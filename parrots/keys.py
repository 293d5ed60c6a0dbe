"""Secrets of this installation: made once, at random, in files that only their owner may read; never in a log or a record.

They lie in `$PARROTS_KEYS`, or in `parrots/keys` of the user's configuration. Hosts that share a results folder share this
folder too (docs/SECURITY.md): a checkpoint that was signed with another key is passed over.
"""

import errno
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path


class Secret(str):
    """A string whose repr is stars, as tracebacks and logged structures show it; `str` and f-strings show it all."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def covered(text: str) -> str:
    """Text in which addresses have neither a user's name and password nor a query, which may hold them too."""
    return re.sub(r"\?[^\s=]+=\S*", "?***", re.sub(r"://\S*@", "://***@", text))


def folder() -> Path:
    """Where the secrets lie."""
    if named := os.environ.get("PARROTS_KEYS"):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "parrots" / "keys"


def secret(name: str) -> Secret:
    """The secret of this name, 64 hexadecimal digits, made if it is not there. OSError where it is none or others may read."""
    path = folder() / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        make(path)
    about = path.stat()
    if stat.S_IMODE(about.st_mode) & 0o077 or about.st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "others may read this secret; delete it if they did, else `chmod 600`", str(path))
    text = path.read_text(errors="replace").strip()
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise OSError(errno.EINVAL, "no secret of ours, which are 64 hexadecimal digits; copy it anew or delete it", str(path))
    return Secret(text)


def checkpoint_key() -> bytes:
    """What completion markers of checkpoints are signed with."""
    return bytes.fromhex(secret("checkpoint"))


def make(path: Path) -> None:
    """Write a new secret, whole; of several processes that do so at once, the first one's stays."""
    mine = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as sink:
            sink.write(secrets.token_hex(32))
            sink.flush()
            os.fsync(sink.fileno())
        with suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink()
