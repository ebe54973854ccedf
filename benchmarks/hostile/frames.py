"""The bytes of gRPC clients that no library would write."""

from __future__ import annotations

import gzip

__all__ = [
    "EXT_PROC",
    "GREETING",
    "HEALTH",
    "body_message",
    "data_frame",
    "grpc_message",
    "headers_frame",
    "headers_message",
    "is_last",
    "split_frames",
]

EXT_PROC = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
HEALTH = "/grpc.health.v1.Health/Check"

_DATA, _HEADERS, _RESET, _SETTINGS, _WINDOW_UPDATE = 0, 1, 3, 4, 8
_END_STREAM, _END_HEADERS = 1, 4
_PREFIX = 9
_FULL_DUPLEX = 4


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


#: What a client says first, with all the room for answers that there can be.
GREETING = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + _frame(_SETTINGS, 0, 0, b"\x00\x04\x7f\xff\xff\xff")
    + _frame(_WINDOW_UPDATE, 0, 0, (2**31 - 1 - 65_535).to_bytes(4, "big"))
)


def headers_frame(stream: int, path: str, **more: str) -> bytes:
    """Begin an RPC; no table is used, so that frames do not depend on one another."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "picker",
        "te": "trailers",
        "content-type": "application/grpc",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    block = b"".join(
        b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
        for name, value in fields.items()
    )
    return _frame(_HEADERS, _END_HEADERS, stream, block)


def data_frame(stream: int, payload: bytes, *, last: bool = False) -> bytes:
    """Write up to 16 KiB of an RPC."""
    return _frame(_DATA, _END_STREAM if last else 0, stream, payload)


def grpc_message(payload: bytes, *, compressed: bool = False) -> bytes:
    """Write a message of gRPC."""
    data = gzip.compress(payload, 9) if compressed else payload
    return bytes((compressed,)) + len(data).to_bytes(4, "big") + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def headers_message(*, last: bool) -> bytes:
    """Write a `ProcessingRequest` with the headers of a chat, in full duplex; *last* if it has no body."""
    headers = {":method": "POST", ":path": "/v1/chat/completions", "content-type": "application/json"}
    fields = b"".join(
        _field(1, _field(1, name.encode()) + _field(3, value.encode())) for name, value in headers.items()
    )
    modes = b"\x08" + bytes((_FULL_DUPLEX,))
    return _field(2, _field(1, fields) + (b"\x18\x01" if last else b"")) + _field(10, modes)


def body_message(body: bytes) -> bytes:
    """Write a `ProcessingRequest` with a piece of a body that is not the last."""
    return _field(4, _field(1, body))


def split_frames(buffer: bytearray) -> list[bytes]:
    """Take the whole frames out of *buffer*."""
    frames, at = [], 0
    while len(buffer) - at >= _PREFIX:
        end = at + _PREFIX + int.from_bytes(buffer[at : at + 3], "big")
        if end > len(buffer):
            break
        frames.append(bytes(buffer[at:end]))
        at = end
    del buffer[:at]
    return frames


def is_last(frame: bytes) -> bool:
    """Tell whether a frame is the last one of its RPC."""
    kind, flags = frame[3], frame[4]
    return kind == _RESET or (kind in {_DATA, _HEADERS} and bool(flags & _END_STREAM))
