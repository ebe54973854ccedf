"""Conversations about a request: bodies in pieces, and messages in any order."""

from __future__ import annotations

from hypothesis import strategies as st

from inferencepool.adapters.extproc import (
    BodyMode,
    Message,
    RequestBody,
    RequestHeaders,
    RequestTrailers,
    ResponseBody,
    ResponseHeaders,
    ResponseTrailers,
)
from tests.strategies.bodies import cuts

_READABLE = b'{"model": "llama", "prompt": "Why?"}'
_USAGE = b'{"usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}'
_PATHS = st.sampled_from(["/v1/completions", "/v1/messages/count_tokens", "/v1/models", "/"])


def cut_bodies() -> st.SearchStrategy[list[bytes]]:
    """Make bodies cut into pieces, some of them empty; at least one piece."""
    return st.binary(max_size=200).flatmap(cuts)


def request_heads() -> st.SearchStrategy[RequestHeaders]:
    """Make the headers of requests."""
    # A proxy tells both or none.
    modes = st.tuples(st.sampled_from(BodyMode), st.sampled_from(BodyMode)) | st.just((None, None))
    named = ["10.0.0.1", ["10.0.0.2:8000", 1.0, ["x"], {}], "10.9.9.9", "", 4.0]
    hints = st.sampled_from([None, None, None, None, *named])

    # The length may be wrong: nobody has to believe it.
    lengths = [{"content-length": text} for text in (str(len(_READABLE)), "50", "0", "7", "x")]
    more = st.sampled_from([{}, {}, {}, *lengths, {"upgrade": "websocket"}, {":method": "CONNECT", ":protocol": "x"}])

    def build(
        path: str,
        modes: tuple[BodyMode | None, BodyMode | None],
        hint: object,
        headers: dict[str, str],
        *,
        end: bool,
    ) -> RequestHeaders:
        metadata = {} if hint is None else {"envoy.lb.subset_hint": {"x-gateway-destination-endpoint-subset": hint}}
        return RequestHeaders({":path": path, **headers}, end, *modes, metadata)

    return st.builds(build, _PATHS, modes, hints, more, end=st.booleans())


def any_messages() -> st.SearchStrategy[list[Message]]:
    """Make messages in any order, also in those that no proxy sends."""
    return st.lists(request_heads() | _LATER, max_size=8)


@st.composite
def likely_messages(draw: st.DrawFn) -> list[Message]:
    """Make what a proxy says about a request, up to any point; sometimes one message more somewhere in between."""
    first = draw(request_heads())
    messages: list[Message] = [first]
    if not first.end_of_stream and first.request_body_mode is not BodyMode.NONE:
        trailers = draw(st.booleans())
        data = draw(st.sampled_from([_READABLE, _READABLE, b"x" * 50, b""]))
        # Some proxies know only behind the last chunk that it was the last.
        late = not trailers and draw(st.booleans())
        messages += _body(draw, RequestBody, data, ends=not trailers and not late)
        messages += [RequestBody(b"", end_of_stream=True)] * late
        messages += [RequestTrailers()] * trailers
    end = draw(st.booleans())
    messages.append(ResponseHeaders({":status": "200"}, end))
    if not end and draw(st.booleans()):
        messages += _body(draw, ResponseBody, _USAGE, ends=True)
    elif not end:
        messages.append(ResponseTrailers())
    messages = messages[: draw(st.integers(0, len(messages)))]
    if not draw(st.integers(0, 3)):
        messages.insert(draw(st.integers(0, len(messages))), draw(request_heads() | _LATER))
    return messages


def _body(draw: st.DrawFn, kind: type[RequestBody | ResponseBody], data: bytes, *, ends: bool) -> list[Message]:
    chunks = draw(cuts(data))
    return [kind(chunk, ends and number == len(chunks) - 1) for number, chunk in enumerate(chunks)]


_LATER: st.SearchStrategy[Message] = (
    st.builds(RequestBody, st.sampled_from([b"", _READABLE, _READABLE[:7], b"x" * 50]), st.booleans())
    | st.builds(RequestBody, st.just(_READABLE), st.just(True))
    | st.just(RequestTrailers())
    | st.builds(ResponseHeaders, st.sampled_from([{":status": "200"}, {":status": "x"}, {}]), st.booleans())
    | st.builds(ResponseBody, st.sampled_from([b"", _USAGE, b"y" * 50]), st.booleans())
    | st.just(ResponseTrailers())
)
