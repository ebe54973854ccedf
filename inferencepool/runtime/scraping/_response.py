"""One HTTP/1 response, from its bytes."""

from __future__ import annotations

from typing import NoReturn, final

from inferencepool.errors import MissingExtraError
from inferencepool.runtime.scraping._answer import Answer

try:
    import httptools
except ImportError:
    _MESSAGE = 'scraping model servers needs httptools: pip install "inferencepool[epp]"'
    raise MissingExtraError(_MESSAGE) from None

__all__ = ["Response"]

# What a response may have beside its body: headers, and the framing of chunks.
_OVERHEAD = 64 * 1024
# Most headers of a response, those of informational ones before it included, and most of these.
_MOST_HEADERS = 256
_MOST_INFORMATIONAL = 8
_INFORMATIONAL = range(100, 200)
_LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class _RefusedError(Exception):
    """Raised in the parser's callbacks, to end its work at once."""


@final
class Response:
    """
    A response that arrives in pieces, and after it the next one of its connection. Informational ones are skipped.

    What one may have beside its body is bounded: 256 headers, 8 informational responses, 64 KiB before the body, and as
    much around its chunks as they hold and 64 KiB more. So work and memory are linear in the limit, whatever comes.

    Attributes:
        received: Bytes so far.
        is_whole: Whether all of it is there.
        keeps_alive: Whether the connection may be used for another request after it.
        problem: Why it is of no use; empty while it may be.
    """

    def __init__(self, limit: int) -> None:
        """Await responses whose bodies have *limit* bytes at most."""
        self._limit = limit
        self._parser = httptools.HttpResponseParser(self)
        self.let_go()

    def let_go(self) -> None:
        """Hold nothing of the response any more, and await the next one of the connection, if it is kept alive."""
        self.received = 0
        self.is_whole = self.keeps_alive = False
        self.problem = ""
        self._headers: dict[bytes, bytes] = {}
        self._body: bytes | bytearray = b""
        self._count = self._informational = self._status = 0
        self._in_body = False

    def feed(self, data: memoryview) -> None:
        """Take over the next bytes."""
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.keeps_alive = False
            if self.is_whole:
                return
            self.problem = self.problem or f"it answers with something that is no HTTP/1 response: {error}"
        except httptools.HttpParserUpgrade:
            self.problem = "it answers 101 Switching Protocols"
        if not self.is_whole and not self.problem:
            self.problem = self._excess()

    def end(self) -> None:
        """Take notice that nothing follows: a body without a length ends there."""
        if self._in_body and not self._headers.keys() & _LENGTHS:
            self.is_whole = True

    def answer(self) -> Answer:
        """Give the response, which is whole, and await the next one."""
        answer = Answer(self._status, self._headers, bytes(self._body))
        self.let_go()
        return answer

    def _excess(self) -> str:
        """Tell what there is too much of, if there is."""
        size = len(self._body)
        # The parser has checked that the length is a number.
        announced = int(self._headers.get(b"content-length", b"0")) if self._in_body else 0
        if announced > self._limit or size > self._limit:
            return f"the page is longer than {self._limit} bytes"
        if self.received - size > _OVERHEAD + size:
            return f"it answers with more than {_OVERHEAD} bytes of headers, or chunks that hold nearly nothing"
        return ""

    def _refuse(self, problem: str) -> NoReturn:
        self.problem = problem
        raise _RefusedError

    # What the parser calls. It would go on behind the end of the response, where nothing was asked for.

    def on_message_begin(self) -> None:
        """Be at the start of a response."""
        if self.is_whole:
            raise _RefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take over a header; what follows a body is none."""
        self._count += 1
        if self._count > _MOST_HEADERS:
            self._refuse(f"it answers with more than {_MOST_HEADERS} headers")
        if not self._in_body:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Be at the end of the headers."""
        if not self.is_whole:
            self._in_body = True
            self._status = self._parser.get_status_code()
            self.keeps_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Take over a piece of the body."""
        if self.is_whole:
            return
        if not self._body:
            # Most pages come in one piece.
            self._body = body
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += body

    def on_message_complete(self) -> None:
        """Be at the end of a response."""
        if self._status in _INFORMATIONAL:
            self._headers, self._in_body = {}, False
            self._informational += 1
            if self._informational > _MOST_INFORMATIONAL:
                self._refuse(f"it answers with more than {_MOST_INFORMATIONAL} informational responses")
        else:
            self.is_whole = True
