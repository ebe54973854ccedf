"""Writing what a proxy is answered over ext_proc."""

from __future__ import annotations

import math
import tracemalloc

import attrs
import pytest
from hypothesis import given

from inferencepool.adapters.extproc import encode
from inferencepool.adapters.extproc._messages import (
    Answer,
    ImmediateResponse,
    RequestBodyAnswer,
    RequestHeadersAnswer,
    RequestTrailersAnswer,
    ResponseBodyAnswer,
    ResponseHeadersAnswer,
    ResponseTrailersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.errors import InvalidMessageError
from tests.adapters.extproc import oracle
from tests.strategies.extproc import answers

# What xds-protos 1.85.0, which is generated from Envoy's own files, reads as the answers beside them.
ENVOY_ANSWERS = [
    (
        RequestHeadersAnswer(Routing("1.2.3.4:5", (("a", "b"),), ("c",))),
        (
            "0a460a4412400a0a0a060a01611a016218020a2f0a2b0a1e782d676174657761792d64657374696e6174696f6e2d656e6470"
            "6f696e741a09312e322e332e343a3518021201632801423f0a3d0a08656e766f792e6c6212312a2f0a2d0a1e782d67617465"
            "7761792d64657374696e6174696f6e2d656e64706f696e74120b1a09312e322e332e343a35"
        ),
    ),
    (
        RequestBodyAnswer(Routing("1.2.3.4:5"), b"{}"),
        (
            "1a3d0a3b12310a2f0a2b0a1e782d676174657761792d64657374696e6174696f6e2d656e64706f696e741a09312e322e332e"
            "343a3518021a040a027b7d2801423f0a3d0a08656e766f792e6c6212312a2f0a2d0a1e782d676174657761792d6465737469"
            "6e6174696f6e2d656e64706f696e74120b1a09312e322e332e343a35"
        ),
    ),
    (
        RequestHeadersAnswer(Routing(scores={"x": 0.5})),
        (
            "0a020a00424d0a4b0a08656e766f792e6c62123f2a3d0a3b0a25782d676174657761792d64657374696e6174696f6e2d656e"
            "64706f696e742d73636f72657312122a100a0e0a0178120911000000000000e03f"
        ),
    ),
    (
        StreamedRequestBody(b"ab", end_of_stream=True),
        "1a0c0a0a1a081a060a0261621001",
    ),
    (
        StreamedResponseBody(b"ab"),
        "220a0a081a061a040a026162",
    ),
    (
        ResponseHeadersAnswer((("a", "b"),)),
        "12100a0e120c0a0a0a060a01611a01621802",
    ),
    (
        ImmediateResponse(429, b"no", (("a", "b"),), "why"),
        "3a1c0a0308ad03120c0a0a0a060a01611a016218021a026e6f2a03776879",
    ),
]


@given(answers())
def test_the_library_reads_it(answer: Answer) -> None:
    """An answer comes back from protobuf as it was, the first time and again."""
    expected = answer
    if isinstance(answer, StreamedRequestBody | StreamedResponseBody):
        expected = attrs.evolve(answer, body=bytes(answer.body))

    assert expected == oracle.to_answer(oracle.parse_response(encode(answer)))
    assert encode(answer) == encode(answer)


@pytest.mark.parametrize(("answer", "written"), ENVOY_ANSWERS)
def test_envoys_bytes(answer: Answer, written: str) -> None:
    """Field numbers are Envoy's, also where the oracle has them wrong."""
    assert written == encode(answer).hex()


@pytest.mark.parametrize(
    ("answer", "written"),
    [
        (RequestHeadersAnswer(), "0a00"),
        (ResponseHeadersAnswer(), "1200"),
        (RequestBodyAnswer(), "1a00"),
        (ResponseBodyAnswer(), "2200"),
        (RequestTrailersAnswer(), "2a00"),
        (ResponseTrailersAnswer(), "3200"),
        (RequestBodyAnswer(replacement=b""), "1a060a041a020a00"),
        (StreamedRequestBody(), "1a060a041a021a00"),
        (StreamedResponseBody(end_of_stream=True), "22080a061a041a021001"),
    ],
)
def test_nothing_to_tell(answer: Answer, written: str) -> None:
    """An answer without content names its kind; an empty body is told apart from none."""
    assert written == encode(answer).hex()


def test_destination_is_set_last() -> None:
    """A header of the same name does not make header and metadata differ."""
    name = "x-gateway-destination-endpoint"
    answer = RequestHeadersAnswer(Routing("10.0.0.1:80", set_headers=((name, "10.0.0.2:80"),), remove_headers=(name,)))

    assert oracle.to_answer(oracle.parse_response(encode(answer))) == answer


@pytest.mark.parametrize("name", ["", ":", "a b", "a\r", "a\n", "a\x00", "a:", "\xe4", "\u20ac", "a\n\n", "::a"])
def test_header_name_refused(name: str) -> None:
    """A name that is no token is refused wherever a name can stand."""
    header = ((name, "v"),)
    for answer in (
        RequestHeadersAnswer(Routing(set_headers=header)),
        RequestHeadersAnswer(Routing(remove_headers=(name,))),
        RequestBodyAnswer(Routing("10.0.0.1:80", set_headers=header), b"x"),
        ResponseHeadersAnswer(header),
        ImmediateResponse(503, set_headers=header),
    ):
        with pytest.raises(InvalidMessageError, match="is no HTTP token"):
            encode(answer)


@pytest.mark.parametrize("value", ["\r", "a\n", "\x00b", "\x7f", "\x1b[0m", "\u20ac", "a\ud800"])
def test_header_value_refused(value: str) -> None:
    """A control character, and what is not Latin-1, is refused; the header is named."""
    with pytest.raises(InvalidMessageError, match=r"header x-a: the value .* (control character|not Latin-1)"):
        encode(ResponseHeadersAnswer((("x-a", value),)))


@pytest.mark.parametrize("value", ["\x00", "1\r\n", "\xe4", "\u20ac", "\xe4" * 300])
def test_destination_refused(value: str) -> None:
    """A destination that a header cannot tell is refused, however long it is and how often it comes."""
    for _ in range(2):
        with pytest.raises(InvalidMessageError, match="destination"):
            encode(RequestHeadersAnswer(Routing(value)))


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_score_refused(score: float) -> None:
    """A score is a number of JSON."""
    with pytest.raises(InvalidMessageError, match=r"score of '10.0.0.1:80': .* is not a finite number"):
        encode(RequestHeadersAnswer(Routing(scores={"10.0.0.1:80": score})))


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 199, 600, 2**40])
def test_status_refused(status: int) -> None:
    """A status that ends no exchange is refused."""
    with pytest.raises(InvalidMessageError, match=f"status {status} is not from 200 to 599"):
        encode(ImmediateResponse(status))


@pytest.mark.parametrize(
    "answer", [ImmediateResponse(503, details="\ud800"), RequestHeadersAnswer(Routing(scores={"\ud800": 1.0}))]
)
def test_text_refused(answer: Answer) -> None:
    """Half a surrogate pair has no form on the wire."""
    with pytest.raises(InvalidMessageError, match="no UTF-8 form"):
        encode(answer)


@pytest.mark.parametrize("streamed", [False, True])
def test_large_body_is_copied_once(streamed: bool) -> None:
    """20 MiB are written once, with nothing made of them on the way."""
    size = 20 << 20
    body = bytes(size)
    answer = StreamedRequestBody(memoryview(body)) if streamed else RequestBodyAnswer(replacement=body)
    tracemalloc.start()
    try:
        written = encode(answer)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert written.endswith(body)
    assert peak < size + (1 << 16)
