"""Ray's authentication token, made before Ray makes one: it writes its own so that everybody may read it (2.60: 0644).

And what keeps a Ray of this machine alone to itself.
"""

import os
import secrets
import stat
import sys
from pathlib import Path

from parrots import keys


def of_its_own() -> dict[str, str]:
    """The environment, before Ray is imported, of one that is started here and that no other machine is to join.

    It obeys those who have the token of this moment, and its processes listen on the loopback address, as they do of
    themselves on macOS and Windows, where firewalls ask. (127.0.0.1 as `_node_ip_address` Ray takes for the network's.)
    """
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
    }


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
