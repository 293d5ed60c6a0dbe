"""This machine as others see it, and where its processes listen."""

import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

LISTENS = "0A"  # of the kernel's table


def another_address() -> str:
    """An address of this machine that a server on 127.0.0.1 does not answer at: that of a network, if it is on one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it asks which address would be the sender's
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"


def family(process: int) -> set[int]:
    """A process and all that it or those have started and that still run."""
    children: dict[int, set[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end meanwhile
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, set()).add(int(status.parent.name))
    found, todo = set(), {process}
    while todo:
        found |= todo
        todo = set().union(*(children.get(one, set()) for one in todo)) - found
    return found


def listening(processes: set[int]) -> set[tuple[IPv4Address | IPv6Address, int]]:
    """Address and port of every TCP socket on which one of these processes waits for connections."""
    sockets = set()
    for file in (file for process in processes for file in Path(f"/proc/{process}/fd").glob("*")):
        with suppress(OSError):
            sockets.add(str(file.readlink()))
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {address_of(row[1]) for row in rows if row[3] == LISTENS and f"socket:[{row[9]}]" in sockets}


def address_of(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """What the kernel writes as 0100007F:1F90: words of four bytes, the lowest first."""
    words, _, port = text.partition(":")
    found = ip_address(b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8)))
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found, int(port, 16)
