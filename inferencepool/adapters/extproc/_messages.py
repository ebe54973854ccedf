"""
What the proxy says over ext_proc, and what it may be answered, as plain values.

They follow ``envoy.service.ext_proc.v3`` without its nesting: what the picker never reads or sends is left out.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from inferencepool._showing import show_length, show_names

__all__ = [
    "UNCHANGED",
    "Answer",
    "BodyMode",
    "ImmediateResponse",
    "Message",
    "Metadata",
    "RequestBody",
    "RequestBodyAnswer",
    "RequestHeaders",
    "RequestHeadersAnswer",
    "RequestTrailers",
    "RequestTrailersAnswer",
    "ResponseBody",
    "ResponseBodyAnswer",
    "ResponseHeaders",
    "ResponseHeadersAnswer",
    "ResponseTrailers",
    "ResponseTrailersAnswer",
    "Routing",
    "StreamedRequestBody",
    "StreamedResponseBody",
]

Metadata = Mapping[str, Mapping[str, Any]]
"""Filter metadata by namespace, as in ``metadata_context.filter_metadata``: JSON values, numbers as floats."""

_NO_METADATA: Metadata = {}
_NO_HEADERS: Mapping[str, str] = {}


class BodyMode(enum.IntEnum):
    """How a proxy hands over bodies: ``ProcessingMode.BodySendMode``."""

    NONE = 0
    STREAMED = 1
    BUFFERED = 2
    BUFFERED_PARTIAL = 3
    FULL_DUPLEX_STREAMED = 4


@attrs.frozen
class RequestHeaders:
    """
    The first message: the request's headers.

    Attributes:
        headers: By name in lower case, pseudo headers such as ``:path`` included; of repeated ones the last. Values
            are Latin-1, so that every byte survives.
        end_of_stream: Whether the request has neither body nor trailers.
        request_body_mode: How the request's body will come; None when the proxy does not tell.
        response_body_mode: How the response's body will come; None when the proxy does not tell.
        metadata: Filter metadata that the proxy forwards, such as the subset hint.
    """

    headers: Mapping[str, str] = attrs.field(repr=show_names)
    end_of_stream: bool = False
    request_body_mode: BodyMode | None = None
    response_body_mode: BodyMode | None = None
    metadata: Metadata = attrs.field(default=_NO_METADATA, repr=show_names)


@attrs.frozen
class RequestBody:
    """The request's body, or a chunk of it; a long one may be a view of the message that it came in."""

    body: bytes | memoryview = attrs.field(default=b"", repr=show_length)
    end_of_stream: bool = False
    metadata: Metadata = attrs.field(default=_NO_METADATA, repr=show_names)


@attrs.frozen
class RequestTrailers:
    """The request's trailers; they end its body. What they hold is not read."""


@attrs.frozen
class ResponseHeaders:
    """
    The response's headers, as `RequestHeaders`.

    Attributes:
        headers: By name in lower case.
        end_of_stream: Whether the response has neither body nor trailers.
        metadata: Filter metadata that the proxy forwards; it tells which endpoint served.
        attributes: What the proxy was asked to tell of the response, by name of the filter and of the attribute, such
            as ``response.code_details``.
    """

    headers: Mapping[str, str] = attrs.field(repr=show_names)
    end_of_stream: bool = False
    metadata: Metadata = attrs.field(default=_NO_METADATA, repr=show_names)
    attributes: Metadata = attrs.field(default=_NO_METADATA, repr=show_names)


@attrs.frozen
class ResponseBody:
    """The response's body, or a chunk of it; a long one may be a view of the message that it came in."""

    body: bytes | memoryview = attrs.field(default=b"", repr=show_length)
    end_of_stream: bool = False
    metadata: Metadata = attrs.field(default=_NO_METADATA, repr=show_names)


@attrs.frozen
class ResponseTrailers:
    """The response's trailers, as headers are told; they end its body."""

    headers: Mapping[str, str] = attrs.field(default=_NO_HEADERS, repr=show_names)


Message = RequestHeaders | RequestBody | RequestTrailers | ResponseHeaders | ResponseBody | ResponseTrailers
"""What a proxy sends: ``ProcessingRequest``."""


@attrs.frozen
class Routing:
    """
    What an answer changes about the request and where it goes.

    Attributes:
        destination: ``ip:port``, or several with commas; told as header ``x-gateway-destination-endpoint``, as
            metadata of the same name in ``envoy.lb``, and with the route cache cleared. Empty for no destination.
        set_headers: Headers to set; one that is there already is overwritten. Values are Latin-1.
        remove_headers: Headers to remove.
        scores: Score of each candidate by address, told as metadata ``x-gateway-destination-endpoint-scores``;
            None to leave it out.
    """

    destination: str = ""
    set_headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=show_names)
    remove_headers: tuple[str, ...] = ()
    scores: Mapping[str, float] | None = None


UNCHANGED = Routing()
"""No change."""


@attrs.frozen
class RequestHeadersAnswer:
    """Answers `RequestHeaders`."""

    routing: Routing = UNCHANGED


@attrs.frozen
class RequestBodyAnswer:
    """
    Answers a `RequestBody` in the modes that wait for each answer (buffered, streamed).

    Attributes:
        routing: Changes to the headers, which the proxy still holds.
        replacement: The body to send instead; None to leave it as it is.
    """

    routing: Routing = UNCHANGED
    replacement: bytes | None = attrs.field(default=None, repr=show_length)


@attrs.frozen
class StreamedRequestBody:
    """A chunk of the request's body on its way on, in full duplex: what is not sent here does not arrive."""

    body: bytes | memoryview = attrs.field(default=b"", repr=show_length)
    end_of_stream: bool = False


@attrs.frozen
class RequestTrailersAnswer:
    """Answers `RequestTrailers`."""


@attrs.frozen
class ResponseHeadersAnswer:
    """Answers `ResponseHeaders`."""

    set_headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=show_names)
    remove_headers: tuple[str, ...] = ()


@attrs.frozen
class ResponseBodyAnswer:
    """Answers a `ResponseBody` in the modes that wait for each answer: what goes on instead, None to leave it."""

    replacement: bytes | None = attrs.field(default=None, repr=show_length)


@attrs.frozen
class StreamedResponseBody:
    """A chunk of the response's body on its way on, in full duplex."""

    body: bytes | memoryview = attrs.field(default=b"", repr=show_length)
    end_of_stream: bool = False


@attrs.frozen
class ResponseTrailersAnswer:
    """Answers `ResponseTrailers`."""


@attrs.frozen
class ImmediateResponse:
    """
    Ends the exchange: the proxy answers the client with this, and the request reaches no endpoint.

    Attributes:
        status: HTTP status.
        body: The response's body.
        set_headers: Its headers.
        details: Why, for the proxy's access log (``RESPONSE_CODE_DETAILS``).
    """

    status: int
    body: bytes = attrs.field(default=b"", repr=show_length)
    set_headers: tuple[tuple[str, str], ...] = attrs.field(default=(), repr=show_names)
    details: str = ""


Answer = (
    RequestHeadersAnswer
    | RequestBodyAnswer
    | StreamedRequestBody
    | RequestTrailersAnswer
    | ResponseHeadersAnswer
    | ResponseBodyAnswer
    | StreamedResponseBody
    | ResponseTrailersAnswer
    | ImmediateResponse
)
"""What a proxy may be answered: ``ProcessingResponse``."""
