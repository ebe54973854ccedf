"""Having the system look after connections on which nothing may be said for long."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

__all__ = ["keep_alive"]


def keep_alive(connection: Any, *, idle: int, interval: int, probes: int) -> None:
    """
    Let the system find out when the machine at the other end of a TCP connection is gone; where it can.

    Args:
        connection: A socket, or what an event loop gives for one.
        idle: Seconds without a word after which it asks.
        interval: Seconds between two questions.
        probes: How many may stay without an answer.
    """
    options = (("TCP_KEEPIDLE", idle), ("TCP_KEEPINTVL", interval), ("TCP_KEEPCNT", probes))
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in options:
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
