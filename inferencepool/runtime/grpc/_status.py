"""How an RPC ends, in gRPC's terms."""

from __future__ import annotations

import enum

__all__ = ["MAX_TEXT", "Status", "percent_encoded"]

#: Characters of a status text that are sent; peers limit the size of trailers.
MAX_TEXT = 1024


class Status(enum.IntEnum):
    """Status codes of gRPC."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


def percent_encoded(text: str) -> bytes:
    """
    Encode *text* for ``grpc-message``: printable ASCII but ``%`` as it is, every other byte of its UTF-8 as ``%XX``.

    A text longer than `MAX_TEXT` characters is cut; half of a surrogate pair becomes a question mark.
    """
    data = text[:MAX_TEXT].encode("utf-8", "replace")
    return b"".join(_ENCODED[byte] for byte in data)


_ENCODED = [
    bytes((byte,)) if ord(" ") <= byte <= ord("~") and byte != ord("%") else b"%%%02X" % byte for byte in range(256)
]
