"""Bodies that came compressed, unpacked in steps and within bounds."""

from __future__ import annotations

import zlib
from io import BytesIO
from typing import Final

from inferencepool.adapters.bodies._steps import Budget, Steps
from inferencepool.errors import InvalidRequestError, RequestTooLargeError

__all__ = ["is_encoded", "known_encodings", "unpack"]

_IDENTITY: Final = frozenset({"", "identity"})
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_KNOWN: Final = _GZIP | {"deflate"}
# As zlib takes them: what stands around the data tells which it is.
_GZIP_WINDOW, _ZLIB_WINDOW, _RAW_WINDOW = 31, 15, -15

# Nobody compresses twice for good reasons; unpacking again and again would multiply the work.
_MOST_CODINGS = 2
# A file of gzip may have several members. Beginning one costs more than the bytes that it may consist of.
_MOST_MEMBERS = 1_000
_CHUNK = 1 << 16
_LONGEST_SHOWN = 64


def is_encoded(encoding: str) -> bool:
    """Tell whether a body with the header ``content-encoding: encoding`` is not as its client made it."""
    return bool(_codings(encoding))


def known_encodings(encoding: str) -> bool:
    """Tell whether `unpack` can undo *encoding*."""
    codings = _codings(encoding)
    return len(codings) <= _MOST_CODINGS and _KNOWN.issuperset(codings)


def unpack(body: bytes, encoding: str, budget: Budget) -> Steps[bytes]:
    """
    Undo *encoding*, which is known, in steps of 64 KiB.

    Args:
        body: What came.
        encoding: The value of the header ``content-encoding``.
        budget: How long the result may be.

    Raises:
        InvalidRequestError: *body* is not what the header says.
        RequestTooLargeError: The result is longer than the budget allows.
    """
    for coding in reversed(_codings(encoding)):
        try:
            body = yield from _inflate(body, coding, budget)
        except zlib.error:
            raise _broken(coding) from None
    return body


def _codings(encoding: str) -> list[str]:
    return [coding for text in encoding.split(",") if (coding := text.strip().lower()) not in _IDENTITY]


def _inflate(body: bytes, coding: str, budget: Budget) -> Steps[bytes]:
    window = _GZIP_WINDOW if coding in _GZIP else _deflate_window(body)
    # Joining pieces at the end of a long body would be a long step.
    whole, found = BytesIO(), b""
    before, members, at = budget.unpacked, 1, 0
    inflater = zlib.decompressobj(window)
    while at < len(body):
        rest = body[at : at + _CHUNK]
        at += len(rest)
        # What fills the chunk may not be all, even where no input is left.
        while not inflater.eof and (rest or len(found) == _CHUNK):
            found = inflater.decompress(rest, _CHUNK)
            whole.write(found)
            rest = inflater.unconsumed_tail
            budget.unpacked += len(found)
            if budget.unpacked - before > budget.plain_bytes:
                message = f"the request's body is unpacked longer than the {budget.plain_bytes} bytes allowed"
                raise RequestTooLargeError(message)
            yield
        if inflater.eof:
            at -= len(inflater.unused_data)
            if window != _GZIP_WINDOW or not body[at : at + 1].strip(b"\0"):
                break  # what follows is padding
            members += 1
            if members > _MOST_MEMBERS:
                raise _broken(coding)
            inflater = zlib.decompressobj(window)
    if not inflater.eof:
        raise _broken(coding)
    return whole.getvalue()


def _deflate_window(body: bytes) -> int:
    """Tell apart what RFC 9110 calls deflate, zlib's format, and the bare data that some clients send."""
    head = int.from_bytes(body[:2], "big")
    return _ZLIB_WINDOW if body[:1] and body[0] & 0x0F == 8 and not head % 31 else _RAW_WINDOW  # noqa: PLR2004 - RFC 1950


def _broken(coding: str) -> InvalidRequestError:
    return InvalidRequestError(f"request: content-encoding: the body is not {coding[:_LONGEST_SHOWN]}")
