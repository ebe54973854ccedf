"""Having the system look after connections."""

from __future__ import annotations

import socket

from inferencepool.runtime._keep_alive import keep_alive


def test_the_system_is_told_how() -> None:
    """The system asks after the times given, where it can be told them."""
    with socket.socket() as connection:
        keep_alive(connection, idle=30, interval=10, probes=3)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, name):
                assert value == connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))


def test_what_cannot_be_kept_alive() -> None:
    """A connection that is no TCP connection, or is gone, is left as it is."""
    one, other = socket.socketpair()
    one.close()
    keep_alive(one, idle=30, interval=10, probes=3)
    with other:
        keep_alive(other, idle=30, interval=10, probes=3)
