"""Ray's authentication token, made before Ray makes one: it writes its own so that everybody may read it (2.60: 0644)."""

import os
import stat
from pathlib import Path

from parrots import keys


def path() -> Path:
    """Where Ray looks for it."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def ensure() -> Path:
    """Make the token, 0600, unless there is one; one that others may read is closed to them."""
    where = path()
    where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not where.exists():
        keys.make(where)
    elif stat.S_IMODE(where.stat().st_mode) & 0o077:
        where.chmod(0o600)
    return where
