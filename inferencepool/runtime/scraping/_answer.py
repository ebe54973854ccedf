"""From an HTTP response to a metrics page."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Mapping
from http import HTTPStatus

import attrs

__all__ = ["Answer", "ScrapeError", "inflated", "page_of"]

_GZIP = 16 + zlib.MAX_WBITS
_OK = int(HTTPStatus.OK)
_SHOWN = 80
# Bytes that are inflated in one step.
_PIECE = 256 * 1024


class ScrapeError(Exception):
    """Raised inside this package when an endpoint gives no page; the message is the reason."""


@attrs.frozen
class Answer:
    """
    An HTTP response.

    Attributes:
        status: Its status.
        headers: Its headers, with names in lower case; of several with one name the last.
        body: Its body as it came.
    """

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes


def page_of(answer: Answer) -> bytes | None:
    """
    Give the page that *answer* holds; None where it is compressed, see `inflated`.

    Raises:
        ScrapeError: It holds none.
    """
    if answer.status != _OK:
        raise ScrapeError(_status_reason(answer))
    kind = answer.headers.get(b"content-type", b"").lower()
    if not kind.startswith(b"text/plain"):
        _check_kind(kind)
    encoding = answer.headers.get(b"content-encoding")
    if encoding is None:
        return answer.body
    encoding = encoding.strip().lower()
    if encoding in {b"", b"identity"}:
        return answer.body
    if encoding not in {b"gzip", b"x-gzip"}:
        message = f"content-encoding {_shown(encoding)} was not asked for"
        raise ScrapeError(message)
    return None


def inflated(body: bytes, limit: int) -> Generator[None, None, bytes]:
    """
    Decompress the page that is *body*; a long one takes several steps.

    Raises:
        ScrapeError: It is not what it says, or has more than *limit* bytes.
    """
    decompressor = zlib.decompressobj(_GZIP)
    page = bytearray()
    while not decompressor.eof:
        room = min(_PIECE, limit + 1 - len(page))
        try:
            piece = decompressor.decompress(body, room)
        except zlib.error as error:
            message = f"bad gzip: {error}"
            raise ScrapeError(message) from None
        page += piece
        if len(page) > limit:
            message = f"the page is longer than {limit} bytes when decompressed"
            raise ScrapeError(message)
        if len(piece) < room:
            break
        body = decompressor.unconsumed_tail
        yield
    if not decompressor.eof or decompressor.unused_data:
        message = "bad gzip: the stream does not end where the body does"
        raise ScrapeError(message)
    return bytes(page)


def _check_kind(kind: bytes) -> None:
    """Raise ScrapeError where a content type is surely not that of a metrics page."""
    if kind.startswith((b"text/html", b"application/xhtml")):
        message = "it answers with HTML, not with a metrics page"
        raise ScrapeError(message)
    if b"protobuf" in kind:
        message = f"it answers in protobuf, not in text: {_shown(kind)}"
        raise ScrapeError(message)
    if kind.startswith(b"application/json"):
        message = "it answers with JSON, not with a metrics page: that of trtllm-serve is at /prometheus/metrics"
        raise ScrapeError(message)


def _status_reason(answer: Answer) -> str:
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = ""
    reason = f"it answers {answer.status}{phrase}"
    location = answer.headers.get(b"location")
    # Whoever answers could send the picker anywhere in the cluster.
    return f"{reason} to {_shown(location)}: redirects are not followed" if location is not None else reason


def _shown(text: bytes) -> str:
    return repr(text[:_SHOWN].decode("ascii", "backslashreplace"))
