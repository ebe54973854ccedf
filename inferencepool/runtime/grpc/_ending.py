"""How an RPC ends on the wire."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from inferencepool.runtime.grpc._closure import Closure, Reason
from inferencepool.runtime.grpc._hpack import ReadyHeaders
from inferencepool.runtime.grpc._status import Status, percent_encoded

__all__ = ["ANSWER_HEADERS", "OK", "STOPPED", "Ending", "ending", "http_ending", "unknown_encoding"]

_ANSWER = ((b":status", b"200"), (b"content-type", b"application/grpc"))

#: What goes before the first message.
ANSWER_HEADERS = ReadyHeaders(_ANSWER)

_Headers = Iterable[tuple[bytes, bytes]]


@attrs.frozen
class Ending:
    """
    How an RPC ends on the wire.

    Attributes:
        trailers: The last headers after messages.
        alone: The only headers when there was no message.
        closure: What the call is told.
    """

    trailers: _Headers
    alone: _Headers
    closure: Closure


#: The usual end.
OK = Ending(
    ReadyHeaders([(b"grpc-status", b"0")]),
    ReadyHeaders([*_ANSWER, (b"grpc-status", b"0")]),
    Closure(Reason.ENDED, status=Status.OK),
)

#: The end of what is in flight when the server stops. To Envoy status OK means: go on without this server.
STOPPED = attrs.evolve(OK, closure=Closure(Reason.STOPPED))


def ending(status: Status, text: str = "", *more: tuple[bytes, bytes]) -> Ending:
    """Make the end with *status*, a *text* for people and *more* headers."""
    if status == Status.OK and not text and not more:
        return OK
    trailers: tuple[tuple[bytes, bytes], ...] = ((b"grpc-status", b"%d" % status),)
    if text:
        trailers += ((b"grpc-message", percent_encoded(text)),)
    trailers += more
    return Ending(trailers, _ANSWER + trailers, Closure(Reason.ENDED, status=status))


def http_ending(code: int, *more: tuple[bytes, bytes]) -> Ending:
    """Make the answer to what is no request of gRPC: a status of HTTP, and *more* headers."""
    headers = ((b":status", b"%d" % code), *more)
    return Ending(headers, headers, Closure(Reason.ENDED, status=Status.UNKNOWN))


def unknown_encoding(encoding: bytes) -> Ending:
    """Make the answer to a compression that is not known; it lists those that are."""
    text = f"grpc-encoding {encoding.decode('latin-1')!a} is not supported"
    return ending(Status.UNIMPLEMENTED, text, (b"grpc-accept-encoding", b"identity,gzip"))
