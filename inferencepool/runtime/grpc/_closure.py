"""Why an RPC is over."""

from __future__ import annotations

import enum

import attrs

from inferencepool.runtime.grpc._status import Status

__all__ = ["Closure", "Reason"]


class Reason(enum.Enum):
    """What ended an RPC."""

    ENDED = "ended"
    """This side ended it, and its status was handed to the network."""

    RESET = "reset"
    """The client reset it. Envoy does so at the normal end of a stream, with code 2."""

    LOST = "lost"
    """The connection ended: the peer closed it, or broke the protocol or a limit, or was silent for too long."""

    OVERFLOW = "overflow"
    """The client did not take answers: more waited than limits allow, or for longer; the RPC was reset."""

    BROKEN = "broken"
    """The client broke HTTP/2 on this stream alone, such as by data after its end; the RPC was reset."""

    STOPPED = "stopped"
    """The server stopped, and ended the RPC with status OK, or as its call chose."""


@attrs.frozen
class Closure:
    """
    Why an RPC is over.

    Attributes:
        reason: What ended it.
        code: Error code of HTTP/2 for RESET and BROKEN; None otherwise.
        status: Status that was sent for ENDED; None otherwise.
    """

    reason: Reason
    code: int | None = None
    status: Status | None = None
