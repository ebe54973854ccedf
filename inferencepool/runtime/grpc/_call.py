"""The two sides of an RPC: what the server gives, and what it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from inferencepool.runtime.grpc._closure import Closure
from inferencepool.runtime.grpc._status import Status

__all__ = ["Call", "CallFactory", "StoppableCall", "Stream"]


class Stream(Protocol):
    """
    The server's end of one RPC, given to the call that serves it.

    Only the thread of the event loop may use it, at any time. No method of the call runs inside one of these.
    """

    @property
    def headers(self) -> Mapping[str, str]:
        """
        Metadata of the request by name in lower case, pseudo headers such as ``:path`` included.

        Values of a repeated name are joined by commas. Values are Latin-1, so that every byte survives; those of names
        in ``-bin`` are still in base64.
        """

    def send(self, *messages: bytes) -> None:
        """Send gRPC *messages*, in order. What the client cannot take yet is queued. Ignored after the end."""

    def hold(self, size: int) -> bool:
        """
        Tell how many bytes the call holds for a request that is not whole yet, in place of what it told before.

        They count toward the limits of the connection and of the server until it tells less, or the RPC is over.

        Returns:
            Whether they may stay. If not, the call is to let go of them, and to end the RPC in its own manner.
        """

    def end(self, status: Status = Status.OK, text: str = "") -> None:
        """
        End the RPC after everything sent so far. Only the first end counts.

        Args:
            status: How it ends.
            text: For people; at most 1,024 characters of it are sent.
        """

    def fail(self, error: Exception) -> None:
        """End the RPC as an exception of the call's methods does, from outside of them."""


class Call(Protocol):
    """
    What serves one RPC.

    All methods are called by the thread of the event loop and must not block. An exception ends the RPC with INTERNAL.
    """

    def message(self, data: bytes) -> None:
        """Take a whole gRPC message. Not called after the end."""

    def half_closed(self) -> None:
        """Learn that the client will send no more; at most once, and possibly after the end."""

    def closed(self, closure: Closure) -> None:
        """Learn that the RPC is over, and why. Called exactly once, as the last of all."""


@runtime_checkable
class StoppableCall(Protocol):
    """**Protocol:** a `Call` that may choose how it ends when the server does."""

    def stopping(self) -> None:
        """Learn that the server ends this RPC with status OK, unless it is ended in another way now."""


CallFactory = Callable[[Stream], Call]
"""Makes the call that serves an RPC; it may send and end at once."""
