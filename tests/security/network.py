"""This machine as others see it."""

import socket


def another_address() -> str:
    """An address of this machine that a server on 127.0.0.1 does not answer at: that of a network, if it is on one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: it asks which address would be the sender's
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"
