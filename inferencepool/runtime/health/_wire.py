"""The messages of grpc.health.v1 as bytes; they have one or two fields each."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from inferencepool.errors import InvalidMessageError

__all__ = ["ServingStatus", "decode_request", "encode_list", "encode_status"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_SIZE = 10
_SERVICE = 1


class ServingStatus(enum.IntEnum):
    """What the health protocol can say about a service."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    #: Said by Watch only; Check ends with NOT_FOUND instead.
    SERVICE_UNKNOWN = 3


def decode_request(data: bytes) -> str:
    """
    Give the name of the service that a ``HealthCheckRequest`` asks for; empty stands for the server as a whole.

    Raises:
        InvalidMessageError: The bytes are no such message.
    """
    name, position = "", 0
    while position < len(data):
        key, position = _read_varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            _, position = _read_varint(data, position)
            continue
        if kind == _LENGTH:
            size, position = _read_varint(data, position)
        elif kind in _FIXED_SIZES:
            size = _FIXED_SIZES[kind]
        else:
            message = f"health check request: wire type {kind} at byte {position} is not allowed"
            raise InvalidMessageError(message)
        value, position = data[position : position + size], position + size
        if position > len(data):
            message = f"health check request: field {number} ends after the message"
            raise InvalidMessageError(message)
        if (number, kind) == (_SERVICE, _LENGTH):
            name = _read_text(value)
    return name


def encode_status(status: ServingStatus) -> bytes:
    """Write a ``HealthCheckResponse``."""
    return bytes((1 << 3 | _VARINT, status)) if status else b""


def encode_list(statuses: Mapping[str, ServingStatus]) -> bytes:
    """Write a ``HealthListResponse``: a map from names to responses."""
    entries = (_delimited(1, name.encode()) + _delimited(2, encode_status(status)) for name, status in statuses.items())
    return b"".join(_delimited(1, entry) for entry in entries)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[position : position + _MAX_VARINT_SIZE]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no such bit
            return value, position + index + 1
    message = f"health check request: the number at byte {position} does not end"
    raise InvalidMessageError(message)


def _read_text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        message = f"health check request: service: {value[:50]!r} is not UTF-8"
        raise InvalidMessageError(message) from None


def _delimited(number: int, value: bytes) -> bytes:
    size, head = len(value), bytearray((number << 3 | _LENGTH,))
    while size > 0x7F:  # noqa: PLR2004 - seven bits a byte
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + value
