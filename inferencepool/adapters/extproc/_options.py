"""What an external processor does beyond picking."""

from __future__ import annotations

import enum
from typing import Any

import attrs

from inferencepool._checks import checked_number, checked_whole_number, optional, refusal
from inferencepool.adapters.bodies import PROMPT_BYTES
from inferencepool.model._protocol import FORGEABLE

__all__ = ["ErrorFormat", "ProcessorOptions", "ResponsePhase"]

# A list of so many addresses is below 5 kB, which fits into the headers of every proxy.
_MOST_FALLBACKS = 100

_OWNER = "ext_proc"
_seconds = checked_number(_OWNER, above=True, unit="seconds")
_size = checked_whole_number(_OWNER, 1, None, unit="bytes")


class ErrorFormat(enum.Enum):
    """What clients are told where a request is refused."""

    TEXT = "text"
    """A line of text, as by the reference: ``inference error: <code> - <message>``."""

    JSON = "json"
    """An object of OpenAI's API, as model servers answer: see `InferencePoolError.to_json`."""


class ResponsePhase(enum.Enum):
    """How long a session stays after it answered a request."""

    KEEP = "keep"
    """
    To the end of the response, wherever the proxy sends anything of it.

    Chunks of its body are handed back as they came. The end of the response releases what was reserved, and the
    response can get headers and tell its usage. A picker that dies takes responses with it whose bodies pass through.
    """

    AUTO = "auto"
    """
    To the end of the response where that costs nothing for each chunk, or usage is wanted, or strategies want the
    response to have a header; else as `END`.

    Where the proxy sends no response bodies, the session stays: the end of the stream is the end of the request, and
    releases what was reserved. Where it sends them, the session would have to answer every chunk, so it ends. Not every
    proxy goes on then: agentgateway fails the request.
    """

    END = "end"
    """
    No longer: the stream ends with the answer to the request.

    Neither the end of the response nor the endpoint that served is seen, and no header can be added to it; what was
    reserved is held for `ProcessorOptions.hold`. Proxies differ as with `AUTO`.
    """


def _to_format(value: Any) -> ErrorFormat:
    try:
        return ErrorFormat(value)
    except ValueError:
        rule = f"is not one of {', '.join(each.value for each in ErrorFormat)}"
        raise refusal(_OWNER, "error_format", value, rule) from None


def _to_phase(value: object) -> ResponsePhase:
    try:
        return ResponsePhase(value)
    except ValueError as error:
        rule = f"is none of {', '.join(phase.value for phase in ResponsePhase)}"
        raise refusal(_OWNER, "response_phase", value, rule) from error


def _to_names(value: Any) -> Any:
    return frozenset({value} if isinstance(value, str) else value)


def _forgeable(_: object, attribute: attrs.Attribute[Any], value: frozenset[object]) -> None:
    for name in value:
        if name not in FORGEABLE:
            raise refusal(_OWNER, attribute.name, name, f"is none of {', '.join(sorted(FORGEABLE))}")


@attrs.frozen(kw_only=True)
class ProcessorOptions:
    """
    What an external processor does beyond picking.

    Attributes:
        request_timeout: Seconds that a request may stall before its end has come; then it is refused with 408. A
            proxy in full duplex has no timeout of its own for that. It does not count where the proxy sends a body as
            a whole: nobody sees then whether more of it arrives, and the proxy's own timeouts act.
        least_rate: Bytes per second that a body must bring while it is not whole. Each chunk gives its client as much
            more time as its bytes take at this rate, `request_timeout` from then on at most; so a client that sends
            steadily but less is refused with 408 as well.
        max_body: Most bytes that a request's body may have; a longer one is refused with 413.
        prompt_bytes: How much of a prompt is read, in bytes; token ids count four each. What is longer is matched so
            far, so it should be no less than what the profile's prefix index matches; its whole length is estimated.
        chunk_size: Most bytes of a body in one message to the proxy.
        partial_body: In the mode ``STREAMED`` the request's headers leave with the first answers, so a body is read up
            to this many bytes, and a request with a longer one is picked for without it; where rewrites depend on the
            model it is refused with 413.
        response_phase: How long a session stays after it answered the request.
        usage: Whether token usage is read from responses; needs the response's body.
        ends_with_response: Whether a proxy that sends no response bodies keeps the stream until the response ended,
            as Envoy does with ``response_trailer_mode: SEND``. Then a reset of the stream, as Envoy closes it,
            releases the pick. With other proxies set it to False: they reset the stream as soon as the picker has no
            more to answer, and the pick is held.
        hold: Seconds after which what a request reserved is taken back, when its end cannot be seen. None for as long
            as responses take on average whose end is seen, 300 at most, and 10 as long as none was.
        max_holds: How many picks may be held so; beyond it the one is taken back that has been held for the longest
            part of its time.
        fallbacks: How many fallbacks of a pick the destination lists at most, 0 to 100; there are as many as the
            profile's ``max_num_of_endpoints`` leaves beside the pick. None by default: only proxies that balance by
            `override_host` read such a list, others fail on it.
        emit_scores: Whether the score of each candidate is told as metadata.
        ignore_subset: Whether subset hints are disregarded.
        keep_headers: Request headers that only a gateway may set and that are not removed all the same, because the
            client is a gateway; in lower case.
        error_format: How clients are told that their request is refused; one of the texts of `ErrorFormat` will do.
        served_header: Response header that tells the endpoint that served; empty for none.

    Raises:
        ConfigurationError: A value is out of range; the message names the option.
    """

    request_timeout: float = attrs.field(default=10.0, validator=_seconds)
    least_rate: float = attrs.field(
        default=4096.0, validator=checked_number(_OWNER, above=True, unit="bytes per second")
    )
    max_body: int = attrs.field(default=64 << 20, validator=_size)
    prompt_bytes: int = attrs.field(default=PROMPT_BYTES, validator=_size)
    chunk_size: int = attrs.field(default=62_000, validator=_size)
    partial_body: int = attrs.field(default=512 << 10, validator=_size)
    response_phase: ResponsePhase = attrs.field(default=ResponsePhase.KEEP, converter=_to_phase)
    usage: bool = False
    ends_with_response: bool = True
    hold: float | None = attrs.field(default=None, validator=optional(_seconds))
    max_holds: int = attrs.field(default=100_000, validator=checked_whole_number(_OWNER, 1, None))
    fallbacks: int = attrs.field(default=0, validator=checked_whole_number(_OWNER, 0, _MOST_FALLBACKS))
    emit_scores: bool = False
    ignore_subset: bool = False
    keep_headers: frozenset[str] = attrs.field(default=frozenset(), converter=_to_names, validator=_forgeable)
    error_format: ErrorFormat = attrs.field(default=ErrorFormat.TEXT, converter=_to_format)
    served_header: str = ""
