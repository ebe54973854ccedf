"""One RPC on a server of grpcio."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from inferencepool.runtime.grpc import Call, CallFactory, Closure, Holdings, Reason, Status

__all__ = ["Exchange"]

# As on our own server.
_MAX_TEXT = 1024
_PREFIX_SIZE = 5


class Exchange:
    """
    One RPC on a server of grpcio: what waits to be sent, and the call that serves it. It is the call's `Stream`.

    The event loop's thread guards it.

    Attributes:
        headers: Metadata of the request.
        waiting: Messages that wait to be sent.
        changed: Set when there is something to send, or the end came.
        roomy: Set while little enough waits that more may be read from the client.
        end_with: Status and text of the end, after what waits; None while the RPC goes on.
    """

    def __init__(
        self,
        path: str,
        metadata: Iterable[tuple[str, str | bytes]],
        queued_bytes: int,
        holdings: Holdings,
        on_error: Callable[[Exception], None],
    ) -> None:
        self.headers: Mapping[str, str] = _text_headers(path, metadata)
        self.waiting: deque[bytes] = deque()
        self.changed = asyncio.Event()
        self.roomy = asyncio.Event()
        self.roomy.set()
        self.end_with: tuple[Status, str] | None = None
        self._most_queued = queued_bytes
        self._queued = 0
        self._holdings = holdings
        self._held = 0
        self._overflowed = False
        self._is_closed = False
        self._call: Call | None = None
        self._on_error = on_error

    def send(self, *messages: bytes) -> None:
        """Send gRPC *messages*, in order."""
        if self.end_with is not None or self._is_closed:
            return
        self.waiting.extend(messages)
        self._count(sum(_PREFIX_SIZE + len(message) for message in messages))
        self.changed.set()
        if self._queued > self._most_queued:
            self.waiting.clear()
            self._overflowed = True
            self.end_with = Status.RESOURCE_EXHAUSTED, f"more than {self._most_queued} bytes wait for the client"
            # Not at once: no method of the call runs inside one of the stream's.
            asyncio.get_running_loop().call_soon(self.close, Closure(Reason.OVERFLOW))

    def hold(self, size: int) -> bool:
        """Tell how many bytes the call holds; False where that is too much."""
        more = 0 if self._is_closed else size - self._held
        self._held += more
        self._holdings.unfinished += more
        return more <= 0 or self._holdings.room >= 0

    def end(self, status: Status = Status.OK, text: str = "") -> None:
        """End the RPC after everything sent so far."""
        if self.end_with is None and not self._is_closed:
            self.end_with = status, text[:_MAX_TEXT].encode("utf-8", "replace").decode()
            self.changed.set()

    def sent(self, message: bytes) -> None:
        """Take note that *message* no longer waits."""
        self._count(-_PREFIX_SIZE - len(message))

    # The call. Its errors end the RPC and are handed to `on_error`.

    def begin(self, factory: CallFactory) -> None:
        """Make the call."""
        try:
            self._call = factory(self)
        except Exception as error:  # noqa: BLE001 - an RPC may fail in any way; the others go on
            self.fail(error)

    def deliver(self, message: bytes) -> None:
        """Hand *message* to the call, unless the RPC is ending."""
        if self._call is not None and self.end_with is None:
            try:
                self._call.message(message)
            except Exception as error:  # noqa: BLE001 - as above
                self.fail(error)

    def half_close(self) -> None:
        """Tell the call that the client will send no more."""
        if self._call is not None:
            try:
                self._call.half_closed()
            except Exception as error:  # noqa: BLE001 - as above
                self.fail(error)

    def close(self, closure: Closure) -> None:
        """End all, and tell the call; once."""
        if self._is_closed:
            return
        self.hold(0)
        self._is_closed = True
        self.waiting.clear()
        call, self._call = self._call, None
        if call is not None:
            try:
                call.closed(Closure(Reason.OVERFLOW) if self._overflowed else closure)
            except Exception as error:  # noqa: BLE001 - as above
                self._on_error(error)

    def _count(self, size: int) -> None:
        self._queued += size
        if self._queued * 2 > self._most_queued:
            self.roomy.clear()
        else:
            self.roomy.set()

    def fail(self, error: Exception) -> None:
        """End the RPC as an exception of the call does."""
        self.end(Status.INTERNAL, f"the server failed: {type(error).__name__}")
        self._on_error(error)


def _text_headers(path: str, metadata: Iterable[tuple[str, str | bytes]]) -> dict[str, str]:
    """Give *metadata* as our own server does: repeated names joined by commas, bytes in base64."""
    texts = {":method": "POST", ":path": path}
    for name, value in metadata:
        text = value if isinstance(value, str) else b64encode(value).rstrip(b"=").decode()
        texts[name] = f"{texts[name]},{text}" if name in texts else text
    return texts
