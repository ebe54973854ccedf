"""No text of a value shows what a client said: prompts, tokens, values of headers, queries."""

from __future__ import annotations

from typing import Any

import pytest

from inferencepool.adapters.bodies import BodyParsers, ParsedBody
from inferencepool.adapters.extproc import (
    Exchange,
    ImmediateResponse,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
    RequestHeadersAnswer,
    ResponseBody,
    ResponseHeaders,
    ResponseHeadersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
)
from inferencepool.adapters.extproc._decision import Decision, Inquiry
from inferencepool.adapters.extproc._exchange import RequestTraits
from inferencepool.errors import InferencePoolError
from inferencepool.model import InferenceRequest
from inferencepool.scheduling import Scheduler, SchedulingProfile
from inferencepool.testing import make_snapshot

SECRET = "s3cr3t"  # noqa: S105 - it opens nothing
BYTES = SECRET.encode()
TOKENS = [50_123, 50_124]
HEADERS = {"authorization": SECRET, ":path": f"/v1/completions?key={SECRET}"}
REQUEST = InferenceRequest(prompt=BYTES, prompt_tokens=TOKENS, headers=HEADERS, cache_salt=SECRET)
PARSED = ParsedBody(prompt=BYTES, prompt_tokens=TOKENS, cache_salt=SECRET)
ROUTING = Routing("10.0.0.1:80", (("x-a", SECRET),))
TRAITS = RequestTraits()
RESULT = Scheduler(SchedulingProfile()).schedule(REQUEST, make_snapshot(1))

VALUES: list[Any] = [
    REQUEST,
    PARSED,
    ROUTING,
    RESULT,
    RequestHeaders(HEADERS, metadata={"a": {"b": SECRET}}),
    RequestBody(BYTES),
    RequestHeadersAnswer(ROUTING),
    RequestBodyAnswer(ROUTING, BYTES),
    StreamedRequestBody(memoryview(BYTES)),
    ResponseHeaders(HEADERS),
    ResponseHeadersAnswer((("x-a", SECRET),)),
    ResponseBody(BYTES),
    StreamedResponseBody(BYTES),
    ImmediateResponse(400, BYTES, (("x-a", SECRET),)),
    Inquiry(REQUEST, TRAITS, None, "", PARSED, (("x-a", SECRET),)),
    Decision(RESULT, ROUTING, "", TRAITS, response_headers=(("x-a", SECRET),)),
    Exchange(path=HEADERS[":path"]),
    RESULT.explain(),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_texts_of_values(value: Any) -> None:
    """What is shown are lengths and names."""
    for text in (repr(value), str(value), f"{value}"):
        assert SECRET not in text
        assert "50123" not in text
        assert BYTES.hex() not in text


def test_lengths_and_names_are_shown() -> None:
    """A text that says nothing at all would help nobody."""
    text = repr(REQUEST)

    assert "prompt=<6 long>" in text
    assert "prompt_tokens=<2 long>" in text
    assert "headers=<authorization, :path>" in text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", f'{{"prompt": "{SECRET}'),
        ("/v1/completions", f'{{"model": {SECRET}}}'),
        ("/v1/completions", f'["{SECRET}"]'),
        ("/v1/completions", f'{{"prompt": {{"{SECRET}": 1}}}}'),
        ("/v1/chat/completions", f'{{"messages": "{SECRET}"}}'),
        ("/v1/embeddings", f'{{"input": {{"a": "{SECRET}"}}}}'),
        ("/v1/messages", f'{{"messages": ["{SECRET}"], "max_tokens": "{SECRET}"}}'),
        ("/v1/completions/..", f"{SECRET}"),
        ("/v1/completions#", f"{SECRET}"),
        ("/v1/completions%00", f"{SECRET}"),
    ],
)
def test_errors_about_requests(path: str, body: str) -> None:
    """An error tells the client what is wrong, and the log nothing of what it said."""
    try:
        BodyParsers().parse({":path": f"{path}?key={SECRET}"}, body.encode())
    except InferencePoolError as error:
        shown: BaseException | None = error
        while shown is not None:
            assert SECRET not in f"{shown!r} {shown} {shown.args}"
            shown = shown.__cause__ or shown.__context__
