"""What can go wrong between a client and the API server, on purpose."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from threading import Condition
from typing import Any, Literal, TypeAlias, final

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._refusals import RefusedError
from inferencepool.lab.apiserver._resources import Document

__all__ = ["ENDINGS", "Answer", "Cut", "Ending", "Fault", "Gate"]

#: How a response breaks off: the connection is reset, closed in good order, or left open without a word.
Ending: TypeAlias = Literal["reset", "close", "silence"]
ENDINGS = ("reset", "close", "silence")


@attrs.frozen(kw_only=True)
class Answer:
    """
    A whole response.

    Attributes:
        status: Status of HTTP.
        body: The body.
        content_type: Type of the body.
        headers: Further headers.
    """

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def of(cls, document: Any, status: int = 200) -> Answer:
        """Answer with *document* as JSON."""
        return cls(status=status, body=json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")

    @classmethod
    def refusal(cls, refusal: RefusedError) -> Answer:
        """Answer with a Status that says why not."""
        headers = {} if refusal.retry_after is None else {"retry-after": f"{refusal.retry_after:g}"}
        return attrs.evolve(cls.of(refusal.document, refusal.document["code"]), headers=headers)


@attrs.frozen(kw_only=True)
class Cut:
    """
    Where a response breaks off, and how.

    Attributes:
        lines: After so many whole lines of the body,
        bytes: and so many bytes of what follows.
        how: ``reset``, ``close`` or ``silence``.
        headers: Whether the headers are sent; without them nothing is.
    """

    lines: int = 0
    bytes: int = 0
    how: Ending = "reset"
    headers: bool = True


@final
class Gate:
    """
    Holds requests up until a test opens it, so that no test depends on a clock. Thread-safe.

        gate = Gate()
        server.inject(Fault(gate=gate), verb="list")
        ...
        gate.wait(1)     # a request stands before it
        gate.open()
    """

    def __init__(self) -> None:
        """Begin closed."""
        self._changed = Condition()
        self._is_open = False
        self._arrived = 0
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def open(self) -> None:
        """Let everything through, from here on."""
        with self._changed:
            self._is_open = True
            waiting, self._waiting = self._waiting, []
        for loop, passed in waiting:
            if not loop.is_closed():
                loop.call_soon_threadsafe(_let_pass, passed)

    def wait(self, count: int = 1, *, timeout: float = 30.0) -> None:
        """
        Wait until *count* requests have come to it, in all.

        Raises:
            TimeoutError: There were not as many within *timeout* seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._arrived >= count, timeout):
                message = f"{self._arrived} of {count} requests came to the gate in {timeout:g} s"
                raise TimeoutError(message)

    async def passed(self) -> None:
        """Wait, on the server's loop, until it is open."""
        loop = asyncio.get_running_loop()
        passed = loop.create_future()
        with self._changed:
            self._arrived += 1
            self._changed.notify_all()
            if self._is_open:
                return
            self._waiting.append((loop, passed))
        await passed


def _let_pass(passed: asyncio.Future[None]) -> None:
    if not passed.done():
        passed.set_result(None)


@attrs.frozen(kw_only=True)
class Fault:
    """
    What goes wrong with a request. The parts combine; the functions below make the usual ones.

    Attributes:
        gate: Hold the request up until the gate opens.
        answer: Answer this, and do not do what the request asks for.
        chunks: Sizes of the HTTP chunks into which the body is cut, used in turn, across lines; 1 cuts every character
            of more than one byte. Empty for one chunk for each line.
        batch: Collect so many lines of a watch into one chunk; fewer only at its end.
        first: Lines, without their line feeds, that a watch tells before its own.
        cut: Break off.
    """

    gate: Gate | None = None
    answer: Answer | None = None
    chunks: Sequence[int] = ()
    batch: int = 1
    first: Sequence[bytes] = ()
    cut: Cut | None = None

    def __attrs_post_init__(self) -> None:
        if any(size < 1 for size in self.chunks) or self.batch < 1:
            message = f"fault: chunks {list(self.chunks)}, batch {self.batch}: sizes must be 1 or more"
            raise ConfigurationError(message)
        if self.cut is not None and self.cut.how not in ENDINGS:
            message = f"fault: cut: how: {self.cut.how!r} is not one of {', '.join(ENDINGS)}"
            raise ConfigurationError(message)

    @classmethod
    def status(cls, code: int, reason: str = "", message: str = "", *, retry_after: int | None = None) -> Fault:
        """Refuse with an object of kind Status, and with the header ``retry-after``, in seconds, if wanted."""
        details: Document | None = None if retry_after is None else {"retryAfterSeconds": retry_after}
        return cls(answer=Answer.refusal(refusals.make(code, reason or "Unknown", message or "fault", details)))

    @classmethod
    def unauthorized(cls) -> Fault:
        """Refuse with 401, as to a token that is not valid any more."""
        return cls(answer=Answer.refusal(refusals.unauthorized()))

    @classmethod
    def forbidden(cls) -> Fault:
        """Refuse with 403."""
        return cls.status(403, "Forbidden", "forbidden by a fault")

    @classmethod
    def conflict(cls) -> Fault:
        """Refuse with 409, as when somebody else was faster."""
        return cls.status(
            409, "Conflict", "the object has been modified; please apply your changes to the latest version"
        )

    @classmethod
    def expired(cls) -> Fault:
        """Refuse with 410."""
        return cls(answer=Answer.refusal(refusals.expired("too old resource version: 1 (2)")))

    @classmethod
    def expired_event(cls) -> Fault:
        """Begin a watch, and tell at once that its resource version is too old."""
        return cls.error_event(refusals.expired("too old resource version: 1 (2)").document)

    @classmethod
    def error_event(cls, status: Document) -> Fault:
        """Begin a watch, tell an error, and end."""
        return cls(answer=Answer.of({"type": "ERROR", "object": status}))

    @classmethod
    def too_many_requests(cls, retry_after: int = 1) -> Fault:
        """Refuse with 429, and ask to come back after *retry_after* seconds."""
        return cls(answer=Answer.refusal(refusals.too_many_requests(retry_after)))

    @classmethod
    def internal_error(cls) -> Fault:
        """Refuse with 500."""
        return cls.status(500, "InternalError", "Internal error occurred: a fault")

    @classmethod
    def unavailable(cls) -> Fault:
        """Refuse with 503 and a text, as a load balancer without a server behind it."""
        body = b"upstream connect error or disconnect/reset before headers"
        return cls(answer=Answer(status=503, body=body, content_type="text/plain"))

    @classmethod
    def garbage(cls, body: bytes = b'{"kind":"PodList","items":[{{\n') -> Fault:
        """Answer 200 with what is no JSON."""
        return cls(answer=Answer(body=body))

    @classmethod
    def web_page(cls) -> Fault:
        """Answer 200 with a page of HTML, as a proxy that asks for a password."""
        body = b"<!doctype html><title>Sign in</title>"
        return cls(answer=Answer(body=body, content_type="text/html"))

    @classmethod
    def split(cls, *sizes: int) -> Fault:
        """Cut the body into chunks of *sizes* bytes, used in turn, wherever lines and characters end."""
        return cls(chunks=sizes or (1,))

    @classmethod
    def merge(cls, lines: int) -> Fault:
        """Send *lines* lines of a watch in one chunk."""
        return cls(batch=lines)

    @classmethod
    def drop(cls, how: Ending = "reset") -> Fault:
        """Do what the request asks for, and send nothing of the response."""
        return cls(cut=Cut(how=how, headers=False))

    @classmethod
    def break_off(cls, how: Ending = "reset", *, lines: int = 0, bytes: int = 0) -> Fault:  # noqa: A002 - as of `Cut`
        """Break the body off after *lines* whole lines and *bytes* more bytes."""
        return cls(cut=Cut(how=how, lines=lines, bytes=bytes))
