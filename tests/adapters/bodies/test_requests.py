"""What a gateway has in its hands becomes the same request as behind ext_proc."""

from __future__ import annotations

import gzip
import json
from typing import Any

import attrs
import pytest

from inferencepool import InferenceRequest
from inferencepool.adapters.bodies import BodyParsers, SglangHttpParser
from inferencepool.adapters.extproc import RequestBody, RequestHeaders
from inferencepool.errors import InvalidRequestError
from tests.adapters.extproc.sessions import FULL, make_bench

CHAT: dict[str, Any] = {
    "model": "llama-3",
    "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    "stream": True,
    "max_tokens": 7,
}


def _behind_ext_proc(headers: dict[str, str], body: bytes) -> InferenceRequest:
    bench = make_bench(observe_picks=True)
    session = bench.session()
    session.receive(RequestHeaders(headers=headers, end_of_stream=not body, request_body_mode=FULL))
    if body:
        session.receive(RequestBody(body, end_of_stream=True))
    (request,) = bench.asked.requests
    return request


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions?beta=true", CHAT),
        ("/v1/completions", {"model": "m", "prompt": [[1, 2], [3]], "max_tokens": "5"}),
        ("/v1/messages", {"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "a"}]}),
        ("/anything", {"model": "m"}),
        ("", CHAT),
        ("/v1/models", None),
    ],
)
def test_the_same_as_behind_ext_proc(path: str, body: dict[str, Any] | None) -> None:
    """Every field is what the picker gets where a proxy sends the same."""
    content = json.dumps(body).encode() if body is not None else b""
    headers = {
        "content-type": "application/json",
        "x-request-id": "7",
        "prefer": "wait=3, if-available",
        "x-llm-d-inference-fairness-id": "team",
    }

    request = InferenceRequest.from_http(path, headers, content)

    behind = _behind_ext_proc({**headers, **({":path": path} if path else {})}, content)
    without = {"produced"}
    assert {name: value for name, value in attrs.asdict(request, recurse=False).items() if name not in without} == {
        name: value for name, value in attrs.asdict(behind, recurse=False).items() if name not in without
    }
    assert request.if_available
    assert "team" == request.fairness_id


def test_headers_as_asgi_has_them() -> None:
    """Pairs of bytes, names in any case, and a name that comes twice."""
    pairs = [(b"X-Request-Id", b"7"), (b"accept", b"a"), (b"Accept", b"b"), (b"x-name", "é".encode("latin-1"))]

    request = InferenceRequest.from_http("/v1/chat/completions", pairs, json.dumps(CHAT).encode(), priority=-1)

    assert ("llama-3", "7", -1, True, 7) == (
        request.model,
        request.id,
        request.priority,
        request.stream,
        request.max_output_tokens,
    )
    assert {"accept": "a, b", "x-name": "é"}.items() <= request.headers.items()


def test_compressed() -> None:
    """A body is unpacked as its encoding tells."""
    body = gzip.compress(json.dumps(CHAT).encode())

    assert "llama-3" == InferenceRequest.from_http("/v1/chat/completions", {"Content-Encoding": "gzip"}, body).model


def test_parsers_of_ones_own() -> None:
    """Who reads bodies may be chosen."""
    parsers = BodyParsers([SglangHttpParser()])
    body = b'{"input_ids": [1, 2, 3]}'

    assert [1, 2, 3] == list(InferenceRequest.from_http("/generate", {}, body, parsers=parsers).prompt_tokens or ())


@pytest.mark.parametrize(
    ("path", "body", "reason"),
    [
        ("/v1/chat/completions", b"{", "error unmarshaling request bodyMap"),
        ("/v1/chat/completions", b'{"messages": [{"role": "user", "content": "a"}]}', "model not found"),
        ("/v1/chat/completions", b'{"model": "m"}', "must have valid messages field"),
        ("/v1/../chat/completions", json.dumps(CHAT).encode(), "segment '..'"),
    ],
)
def test_refused(path: str, body: bytes, reason: str) -> None:
    """What ext_proc refuses with 400 is refused here, in words that can be answered with."""
    with pytest.raises(InvalidRequestError, match=reason) as caught:
        InferenceRequest.from_http(path, {}, body)

    told = json.loads(caught.value.to_json())["error"]
    assert {"message": str(caught.value), "type": "BadRequestError", "param": None, "code": 400} == told
