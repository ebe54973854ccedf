"""What the headers of a request say, and whether they are those of an RPC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from inferencepool.runtime.grpc._ending import Ending, ending, http_ending, unknown_encoding
from inferencepool.runtime.grpc._status import Status

__all__ = ["Request", "read_request", "text_headers"]

_CONTENT_TYPE = b"application/grpc"
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MAX_DIGITS = 8


@attrs.frozen
class Request:
    """
    What the server itself needs of a request.

    Attributes:
        path: Which method is called.
        timeout: Seconds until the RPC must have ended; None when the client sets no limit.
        gzip: Whether messages may be compressed.
        refusal: The answer, when this is no RPC that can be served; None otherwise.
    """

    path: bytes
    timeout: float | None
    gzip: bool
    refusal: Ending | None


def read_request(headers: Iterable[tuple[bytes, bytes]]) -> Request:
    """Read the *headers* of a request. Of repeated ones the last counts."""
    fields: dict[bytes, bytes] = dict(headers)
    encoding = fields.get(b"grpc-encoding")
    timeout = fields.get(b"grpc-timeout")
    seconds = None if timeout is None else _read_timeout(timeout)
    refusal = None
    if fields.get(b":method") != b"POST":
        refusal = http_ending(405, (b"allow", b"POST"))
    elif not _is_grpc(fields.get(b"content-type", b"")):
        refusal = http_ending(415)
    elif encoding not in {None, b"identity", b"gzip"}:
        refusal = unknown_encoding(encoding or b"")
    elif timeout is not None and seconds is None:
        refusal = ending(Status.INTERNAL, f"grpc-timeout {timeout.decode('latin-1')!a} cannot be read")
    return Request(fields.get(b":path", b""), seconds, encoding == b"gzip", refusal)


def text_headers(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Give *headers* as text, those of the same name joined by commas."""
    texts: dict[str, str] = {}
    for name, value in headers:
        key = name.decode("latin-1")
        text = value.decode("latin-1")
        texts[key] = f"{texts[key]},{text}" if key in texts else text
    return texts


def _is_grpc(content_type: bytes) -> bool:
    if content_type == _CONTENT_TYPE:
        return True
    return content_type.startswith(_CONTENT_TYPE) and content_type[len(_CONTENT_TYPE) :][:1] in {b"+", b";"}


def _read_timeout(timeout: bytes) -> float | None:
    digits, unit = timeout[:-1], timeout[-1:]
    if unit not in _UNITS or not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    return int(digits) * _UNITS[unit]
