"""Bodies that model servers take are routed, whether they can be understood or not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inferencepool.adapters.bodies import BodyParsers, ParsedBody, SglangHttpParser, default_parsers
from inferencepool.errors import InvalidRequestError

PARSERS = BodyParsers()
MESSAGE = {"role": "user", "content": "hi"}
CLIP = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}


def parse(body: dict[str, Any] | bytes, path: str | None = None, **headers: str) -> ParsedBody:
    """Read *body*, with a model where it is an object."""
    data = body if isinstance(body, bytes) else json.dumps({"model": "m", **body}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return PARSERS.parse(named if path is None else {":path": path, **named}, data)


@pytest.mark.parametrize(
    ("path", "body", "prompt"),
    [
        ("/v1/embeddings", {"messages": [MESSAGE]}, b"\xfeuser\xffhi"),
        ("/v1/embeddings", {"input": [MESSAGE, MESSAGE]}, b""),
        ("/v1/embeddings", {"input": [[MESSAGE], [MESSAGE]]}, b""),
        ("/v1/embeddings", {"input": {"content": [CLIP]}}, b""),
        ("/v1/embeddings", {"input": [{"image": "x"}, "text"]}, b""),
        ("/v1/completions", {"prompt_embeds": "AAAA"}, b""),
        ("/v1/completions", {"prompt_embeds": ["AAAA", "AAAA"], "prompt": ""}, b""),
        ("/v1/completions", {"prompt_embeds": ["AAAA"], "prompt": []}, b""),
        ("/v1/completions", {"prompt_embeds": ["AAAA"], "prompt": None}, b""),
        ("/v1/completions", {"prompt_embeds": ["AAAA"], "prompt": "a"}, b"a"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": ["a", "b"]}]}, b"\xfeuser\xffa\xffb"),
        ("/v1/responses", {"prompt": {"id": "pmpt_1", "variables": {}}}, b""),
        ("/v1/responses", {"conversation": "conv_1", "instructions": "x"}, b"\xfesystem\xffx"),
        ("/v1/responses", {"conversation": {"id": "conv_1"}, "input": None}, b""),
        ("/v1/responses", {"previous_response_id": "resp_1"}, b""),
    ],
)
def test_taken(path: str, body: dict[str, Any], prompt: bytes) -> None:
    """The model is read; where the prompt cannot be understood there is none."""
    parsed = parse(body, path)

    assert ("m", prompt, (), True) == (parsed.model, parsed.prompt, tuple(parsed.more_prompts), parsed.needs_model)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"messages": []}),
        ("/v1/embeddings", {"messages": [1]}),
        ("/v1/embeddings", {"input": [1, MESSAGE]}),
        ("/v1/completions", {"prompt_embeds": []}),
        ("/v1/completions", {"prompt_embeds": 1}),
        ("/v1/completions", {"prompt_embeds": "AAAA", "prompt": 1}),
        ("/v1/completions", {"prompt_embeds": "AAAA", "prompt": {}}),
        ("/v1/chat/completions", {"prompt": "a"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": ["a", 1]}]}),
        ("/v1/responses", {"prompt": {}, "conversation": ""}),
        ("/v1/responses", {"input": 1, "conversation": "conv_1"}),
    ],
)
def test_still_refused(path: str, body: dict[str, Any]) -> None:
    """What lacks what its API demands, or has it of the wrong type, is refused."""
    with pytest.raises(InvalidRequestError, match="must have"):
        parse(body, path)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/rerank", "/rerank", "/v2/rerank", "/score", "/v1/score", "/pooling", "/classify", "/tokenize"),
        *(
            "/detokenize",
            "/invocations",
            "/v1/audio/transcriptions",
            "/v1/audio/translations",
            "/v1/messages/count_tokens",
        ),
    ],
)
def test_calls_beside_generating(path: str) -> None:
    """Their model is read, so that it can be rewritten; one without, or no JSON at all, is passed on."""
    parsed = parse({"stream": True, "query": 1}, path)
    nameless = PARSERS.parse({":path": path}, b"{}")

    assert ("m", True, False, b"") == (parsed.model, parsed.can_rewrite, parsed.needs_model, parsed.prompt)
    assert (None, True, False) == (nameless.model, nameless.can_rewrite, nameless.needs_model)
    assert not PARSERS.parse({":path": path}, b"\xff").can_rewrite


def test_a_byte_order_mark() -> None:
    """It is passed over, in bodies of any size."""
    body = b'\xef\xbb\xbf{"model":"m","prompt":[%b]}' % b",".join([b'"a"'] * 300_000)

    assert "m" == parse(b'\xef\xbb\xbf{"model":"m","prompt":"a"}', "/v1/completions").model
    parsed = parse(body, "/v1/completions")
    assert parsed.model_span is not None
    assert b'"m"' == body[slice(*parsed.model_span)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [MESSAGE]}, ("openai-parser", "chat/completions")),
        ({"messages": [MESSAGE], "system": "s", "max_tokens": 1}, ("anthropic-parser", "messages")),
        ({"messages": [MESSAGE], "system": "s"}, ("anthropic-parser", "messages/count_tokens")),
        ({"input": "a"}, ("openai-parser", "embeddings")),
        ({"input": "a", "instructions": "b"}, ("openai-parser", "responses")),
        ({"prompt": {"id": "1"}}, ("openai-parser", "responses")),
        ({"conversation": "1"}, ("openai-parser", "responses")),
        ({"prompt": "a"}, ("openai-parser", "completions")),
        ({"prompt_embeds": "a"}, ("openai-parser", "completions")),
        ({"items": [MESSAGE]}, ("openai-parser", "conversations")),
        ({"token_ids": [1]}, ("vllmhttp-parser", "inference/v1/generate")),
        ({"input_ids": [1]}, ("sglanghttp-parser", "generate")),
        ({"query": "a", "documents": ["b"]}, ("openai-parser", "rerank")),
        ({"text_1": "a", "text_2": "b"}, ("openai-parser", "score")),
        ({"tokens": [1]}, ("openai-parser", "detokenize")),
    ],
)
def test_without_a_path_the_members_tell_the_api(body: dict[str, Any], expected: tuple[str, str]) -> None:
    """As NGINX Gateway Fabric asks; also where the body is too dear to be read whole."""
    told: list[tuple[str, str]] = []

    def telling(parser: Any) -> Any:
        class Telling(type(parser)):  # type: ignore[misc]  # a class known only here
            def read(self, body: bytes, route: Any, budget: Any) -> Any:
                told.append((self.name, route.claim))
                return super().read(body, route, budget)

        parser.__class__ = Telling
        return parser

    *others, fallback = default_parsers()
    parsers = BodyParsers([*map(telling, (*others, SglangHttpParser())), fallback])
    parsers.parse({}, json.dumps({"model": "m", **body}).encode())
    parsers.parse({}, json.dumps({"model": "m", "padding": [""] * 9_000, **body}).encode())

    assert [expected] * 2 == told


def test_anthropic_is_told_by_its_header() -> None:
    """Its clients send a version with each request."""
    chat = parse({"messages": [MESSAGE], "max_tokens": 1})
    messages = parse({"messages": [MESSAGE], "max_tokens": 1}, anthropic_version="2023-06-01")

    assert ("openai", "anthropic") == (chat.usage.value, messages.usage.value)
    assert not parse({"messages": [MESSAGE]}, anthropic_version="2023-06-01").reads_response


def test_without_a_path_what_cannot_be_read_is_refused() -> None:
    """It counts as completions, as in the reference."""
    for body in (b"", b"[]", b"{}", b"\xff"):
        with pytest.raises(InvalidRequestError):
            PARSERS.parse({}, body)
