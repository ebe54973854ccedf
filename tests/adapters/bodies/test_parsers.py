"""What each kind of body tells, and what is said of one that cannot be used."""

from __future__ import annotations

import contextlib
import json
import struct
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import BodyParsers, Loads, ParsedBody, UsageKind, loads_json, parser_named
from inferencepool.errors import InvalidRequestError
from tests.strategies.bodies import VALUES, objects

DECODERS: dict[str, Loads] = {"orjson": orjson.loads, "msgspec": msgspec.json.decode, "json": loads_json}
NAMES = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "sglanghttp-parser", "vllmgrpc-parser")
# What the refusal of a body that is no JSON object begins with.
_BODY = "error unmarshaling request body"
FAILURES = {
    "/v1/chat/completions": f"{_BODY}Map",
    "/v1/completions": f"{_BODY}Map",
    "/v1/embeddings": f"{_BODY}Map",
    "/v1/responses": f"{_BODY}Map",
    "/v1/conversations": f"{_BODY}Map",
    "/v1/chat/completions/render": f"{_BODY}Map",
    "/v1/completions/render": f"{_BODY}Map",
    "/v1/images/generations": f"{_BODY}Map",
    "/v1/messages": _BODY,
    "/inference/v1/generate": "invalid generate request",
    "/generate": "invalid generate request",
}
PATHS = tuple(FAILURES)
FIELDS = (
    *("model", "messages", "prompt", "input", "items", "token_ids", "input_ids", "tools", "system", "instructions"),
    *("stream", "max_tokens", "sampling_params", "extra_key", "cache_salt"),
)
SERVICE = "/vllm.grpc.engine.VllmEngine"


def parse(path: str, body: dict[str, Any] | bytes, loads: Loads = loads_json) -> ParsedBody:
    """Read a body with the parsers of all paths."""
    parsers = BodyParsers(parser_named(name, loads) for name in NAMES)
    return parsers.parse({":path": path}, body if isinstance(body, bytes) else json.dumps(body).encode())


def refusal(path: str, body: dict[str, Any] | bytes) -> str:
    """Give what is said of a body that is refused."""
    with pytest.raises(InvalidRequestError) as caught:
        parse(path, body)
    return str(caught.value)


def tokens_of(parsed: ParsedBody) -> list[int] | None:
    """Give the token ids as a list."""
    return None if parsed.prompt_tokens is None else list(parsed.prompt_tokens)


class TestRefused:
    """The reference's texts, protocol sections 2.4 and 3.4."""

    @pytest.mark.parametrize(
        ("path", "body", "expected"),
        [
            ("/v1/chat/completions", {}, "invalid chat completions request: must have valid messages field"),
            ("/v1/chat/completions/render", {}, "invalid chat completions request: must have valid messages field"),
            ("/v1/completions", {}, "invalid completions request: must have prompt field"),
            ("/v1/completions/render", {}, "invalid completions request: must have prompt field"),
            ("/v1/embeddings", {}, "invalid embeddings request: must have input field"),
            ("/v1/responses", {}, "invalid responses request: must have input field"),
            ("/v1/conversations", {}, "invalid conversations request: must have items field"),
            ("/v1/conversations", {"items": []}, "invalid conversations request: must have items field"),
            ("/v1/images/generations", {}, "invalid images generations request: must have prompt field"),
            ("/v1/images/generations", {"prompt": ""}, "invalid images generations request: must have prompt field"),
            ("/v1/messages", {}, "invalid messages request: must have at least one message"),
            ("/v1/messages", {"messages": []}, "invalid messages request: must have at least one message"),
            ("/v1/messages", {"messages": "a"}, "error parsing messages request: messages must be a list"),
            (
                "/v1/messages",
                {"messages": [{"role": "user"}, "a"]},
                (
                    "error parsing messages request: messages[1] must be an object with a role and a content that is a "
                    "string or a list of parts"
                ),
            ),
            (
                "/v1/messages",
                {"system": 1, "messages": [{"role": "user"}]},
                "error parsing messages request: system must be a string or a list of parts",
            ),
            ("/inference/v1/generate", {}, "invalid generate request: must have non-empty token_ids field"),
            (
                "/inference/v1/generate",
                {"token_ids": []},
                "invalid generate request: must have non-empty token_ids field",
            ),
            (
                "/inference/v1/generate",
                {"token_ids": "a"},
                "invalid generate request: token_ids must be an array of uint32 integers",
            ),
            ("/generate", {"text": "a"}, "invalid generate request: input_ids must be provided"),
            ("/generate", {"input_ids": []}, "invalid generate request: input_ids cannot be empty"),
            (
                "/generate",
                {"input_ids": [[1]]},
                "invalid generate request: input_ids must be an array of uint32 integers",
            ),
            (
                "/generate",
                {"input_ids": [1], "extra_key": 1},
                "unsupported generate request: extra_key must be a string",
            ),
            ("/v1/generate", {"input_ids": [1]}, "unsupported path: /v1/generate"),
            (f"{SERVICE}/Generate", b"\0\0\0\0\0", "not supported request inputType"),
            (f"{SERVICE}/Embed", b"\0\0\0\0\0", "missing tokenized input in EmbedRequest"),
        ],
    )
    def test_lacks_what_the_api_demands(self, path: str, body: dict[str, Any] | bytes, expected: str) -> None:
        """Each API says what it misses in the reference's words."""
        assert expected == refusal(path, body)

    @pytest.mark.parametrize(("path", "failure"), FAILURES.items())
    def test_no_json_object(self, path: str, failure: str) -> None:
        """What is no JSON, no object or nested too deep is refused with what the reference begins with."""
        assert refusal(path, b"").startswith(f"{failure}: Expecting value")
        assert refusal(path, b"[1]") == f"{failure}: must be an object, not an array"
        assert refusal(path, b'{"a":' * 200_000) == f"{failure}: nested too deep"

    @pytest.mark.parametrize(
        "prompt",
        [
            None,
            "",
            [],
            1,
            [1, "a"],
            ["a", 1],
            [1.0],
            [1, True],
            [False],
            [-1],
            [2**32],
            [None],
            [[]],
            [[1], "a"],
            [[1], [[2]]],
        ],
        ids=repr,
    )
    def test_prompt(self, prompt: Any) -> None:
        """A prompt is a string, strings, token ids or lists of them, and not empty; mixed lists are refused."""
        assert refusal("/v1/completions", {"prompt": prompt}).endswith("must have prompt field")
        assert refusal("/v1/embeddings", {"input": prompt}).endswith("must have input field")

    @pytest.mark.parametrize(
        "messages",
        [
            None,
            [],
            {},
            "a",
            [1],
            [{"role": 1}],
            [{"role": "user", "content": 1}],
            [{"content": [1]}],
            [{"content": {}}],
        ],
        ids=repr,
    )
    def test_messages(self, messages: Any) -> None:
        """Messages are objects with a role and a content of text or of objects."""
        assert refusal("/v1/chat/completions", {"messages": messages}).endswith("must have valid messages field")

    @pytest.mark.parametrize("given", [None, 1, {}, True])
    def test_input_of_responses(self, given: Any) -> None:
        """The input is a string or a list."""
        assert refusal("/v1/responses", {"input": given}) == "invalid responses request: must have input field"

    @pytest.mark.parametrize("extra", [[True], [False], [True] * 100, [1] * 40 + [True], [0] * 20 + [False]])
    def test_booleans_among_many_tokens(self, extra: list[Any]) -> None:
        """A boolean is no token, also where the tokens 0 and 1 are many."""
        assert refusal("/v1/completions", {"prompt": [*range(500), *extra]}).endswith("must have prompt field")


class TestOpenAI:
    def test_chat(self) -> None:
        """A chat tells model, stream, limit and salt; it can be rewritten."""
        parsed = parse(
            "/v1/chat/completions",
            {
                "model": "llama",
                "messages": [{"role": "user", "content": "hi"}],
                "stream": True,
                "max_tokens": 5,
                "max_completion_tokens": 7,
                "cache_salt": "s",
            },
        )

        assert parsed == ParsedBody(
            model="llama",
            prompt=b"\xfeuser\xffhi",
            stream=True,
            max_output_tokens=7,
            cache_salt="s",
            can_rewrite=True,
            needs_model=True,
            usage=UsageKind.OPENAI,
        )

    @pytest.mark.parametrize(
        ("prompt", "expected"),
        [
            ("a\u00e9", [b"a\xc3\xa9"]),
            (["a"], [b"a"]),
            (["a", "b", "c"], [b"a", b"b", b"c"]),
            (["", ""], [b"", b""]),
            ("\ud800", [b"\xed\xa0\x80"]),
        ],
    )
    def test_text(self, prompt: str | list[str], expected: list[bytes]) -> None:
        """Text is taken as it is; several texts are several prompts."""
        for parsed in (parse("/v1/completions", {"prompt": prompt}), parse("/v1/embeddings", {"input": prompt})):
            assert expected == [parsed.prompt, *parsed.more_prompts]

    @pytest.mark.parametrize(
        ("prompt", "expected"),
        [
            ([1, 0, 2**32 - 1], [[1, 0, 2**32 - 1]]),
            ([[1, 2], [3]], [[1, 2], [3]]),
            ([*range(20)] * 40, [[*range(20)] * 40]),
        ],
        ids=["tokens", "lists", "many"],
    )
    def test_tokens(self, prompt: list[Any], expected: list[list[int]]) -> None:
        """Token ids are given as such, lists of them as several prompts; there are no bytes then."""
        parsed = parse("/v1/completions", {"prompt": prompt})

        assert expected == [tokens_of(parsed), *map(list, parsed.more_prompts)]
        assert parsed.prompt == b""

    @pytest.mark.parametrize(
        ("path", "body", "expected"),
        [
            ("/v1/completions", {"prompt": "a", "max_tokens": 0}, 0),
            ("/v1/completions", {"prompt": "a", "max_tokens": -1}, None),
            ("/v1/completions", {"prompt": "a", "max_tokens": 1.5}, None),
            ("/v1/completions", {"prompt": "a", "max_tokens": True}, 1),
            ("/v1/completions", {"prompt": "a", "max_tokens": "1"}, 1),
            ("/v1/completions", {"prompt": "a", "max_tokens": 2**70}, None),
            ("/v1/completions", {"prompt": "a", "max_completion_tokens": 3}, None),
            ("/v1/chat/completions", {"messages": [{}], "max_tokens": 3}, 3),
            ("/v1/chat/completions", {"messages": [{}], "max_tokens": 3, "max_completion_tokens": -1}, 3),
            ("/v1/responses", {"input": "a", "max_output_tokens": 3}, 3),
            ("/v1/messages", {"messages": [{"role": "user"}], "max_tokens": 3}, 3),
            ("/inference/v1/generate", {"token_ids": [1], "sampling_params": {"max_tokens": 3}}, 3),
            ("/inference/v1/generate", {"token_ids": [1], "sampling_params": []}, None),
            ("/generate", {"input_ids": [1], "sampling_params": {"max_new_tokens": 3}}, 3),
            ("/generate", {"input_ids": [1], "max_new_tokens": 3}, None),
        ],
    )
    def test_output_limit(self, path: str, body: dict[str, Any], expected: int | None) -> None:
        """The limit stands where each API has it; what is no number of tokens is no limit."""
        assert expected == parse(path, body).max_output_tokens

    @pytest.mark.parametrize("value", [None, 1, "true", [], {}, False])
    def test_fields_of_another_kind(self, value: Any) -> None:
        """A model or salt counts only if it is a string, and a stream only if the engines take it for true."""
        parsed = parse("/v1/completions", {"prompt": "a", "model": value, "cache_salt": value, "stream": value})
        text = value if isinstance(value, str) else None

        assert (parsed.model, parsed.cache_salt, parsed.stream) == (text, text or "", value in (1, "true"))

    def test_conversations_images_and_rendering(self) -> None:
        """All paths of the API can be rewritten."""
        items = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}]

        assert parse("/v1/conversations", {"items": items}).prompt == b"\xfeuser\xffhi"
        assert parse("/v1/images/generations", {"prompt": "a cat"}).prompt == b"a cat"
        assert parse("/v1/chat/completions/render", {"messages": [{"role": "user"}]}).prompt == b"\xfeuser"
        assert parse("/v1/completions/render", {"prompt": "a"}).can_rewrite


class TestOthers:
    def test_anthropic(self) -> None:
        """Messages tell what a chat tells; the system's instructions come first."""
        body = {"model": "m", "system": "S", "messages": [{"role": "user", "content": "hi"}], "stream": True}

        assert parse("/v1/messages", body) == ParsedBody(
            model="m",
            prompt=b"\xfesystem\xffS\xfeuser\xffhi",
            stream=True,
            can_rewrite=True,
            needs_model=True,
            usage=UsageKind.ANTHROPIC,
        )

    def test_count_tokens_is_passed_on(self) -> None:
        """Of a call that counts tokens the model is read if there is one, and nothing of its response."""
        counted = parse("/v1/messages/count_tokens", {"model": "m", "messages": 1})

        unread = "invalid request: Expecting value: line 1 column 1 (char 0)"
        assert parse("/v1/messages/count_tokens", b"no JSON") == ParsedBody(reads_response=False, unread=unread)
        assert counted == ParsedBody(model="m", can_rewrite=True, reads_response=False)

    def test_vllm_generate(self) -> None:
        """The prompt is given as tokens; the body can be rewritten."""
        parsed = parse("/inference/v1/generate", {"model": "m", "token_ids": [5, 6], "cache_salt": "s", "stream": True})

        assert (parsed.model, tokens_of(parsed), parsed.cache_salt, parsed.stream) == ("m", [5, 6], "s", True)
        assert (parsed.can_rewrite, parsed.usage) == (True, UsageKind.OPENAI)

    @pytest.mark.parametrize("path", ["/generate", "generate", "/generate/?x=1"])
    def test_sglang(self, path: str) -> None:
        """SGLang's bodies name no model and cannot be rewritten; their salt has another name."""
        parsed = parse(path, {"model": "m", "input_ids": [5, 6], "extra_key": "s", "stream": True})

        assert (parsed.model, tokens_of(parsed), parsed.cache_salt, parsed.stream) == (None, [5, 6], "s", True)
        assert (parsed.can_rewrite, parsed.usage) == (False, UsageKind.SGLANG)
        assert parse(path, {"input_ids": [5], "extra_key": None}).cache_salt == ""

    def test_passthrough(self) -> None:
        """The fallback takes any bytes and knows nothing of them."""
        assert BodyParsers().parse({":path": "/v1/audio"}, b"\xff") == ParsedBody()


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=5), st.sampled_from(PATHS))
def test_any_object_is_read_alike_or_refused(body: dict[str, Any], path: str) -> None:
    """Whatever stands in the fields, all decoders lead to the same result or to the same refusal."""
    results = []
    for loads in DECODERS.values():
        try:
            results.append(repr(parse(path, body, loads)))
        except InvalidRequestError as error:
            results.append(str(error))

    assert len(set(results)) == 1


@given(objects() | st.binary(max_size=20), st.sampled_from([*PATHS, f"{SERVICE}/Generate", f"{SERVICE}/Embed"]))
def test_any_bytes_are_read_or_refused(body: bytes, path: str) -> None:
    """Whatever a body consists of, it is read or refused as a bad request."""
    with contextlib.suppress(InvalidRequestError):
        assert isinstance(parse(path, body), ParsedBody)


@pytest.mark.parametrize("loads", DECODERS.values(), ids=DECODERS)
@pytest.mark.parametrize("field", ["tools", "messages", "input", "prompt", "items", "system"])
@pytest.mark.parametrize("depth", [300, 480, 900, 1_000])
def test_deep_nesting(loads: Loads, field: str, depth: int) -> None:
    """Deep values in any field are read or refused as a bad request, never another error."""
    deep = '{"type":"tool_result","content":[' * depth + "]}" * depth
    fields = {"messages": '[{"role":"user","content":"a"}]', "input": '"a"', "items": '["a"]', "prompt": '"a"'}
    fields[field] = f'[{{"role":"user","content":[{deep}]}}]'
    body = "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"
    for path in PATHS:
        with contextlib.suppress(InvalidRequestError):
            assert isinstance(parse(path, body.encode(), loads), ParsedBody)


class TestVllmGrpc:
    """The messages here are written by the rules of protobuf, field by field."""

    @staticmethod
    def field(number: int, value: int | bytes) -> bytes:
        """Write a field."""
        if isinstance(value, int):
            return TestVllmGrpc.varint(number << 3) + TestVllmGrpc.varint(value)
        return TestVllmGrpc.varint(number << 3 | 2) + TestVllmGrpc.varint(len(value)) + value

    @staticmethod
    def varint(value: int) -> bytes:
        """Write a number in groups of 7 bits, the lowest first."""
        groups = [value >> shift & 0x7F for shift in range(0, max(1, value.bit_length()), 7)]
        return bytes([*(group | 0x80 for group in groups[:-1]), groups[-1]])

    @staticmethod
    def frame(*fields: bytes, flag: int = 0) -> bytes:
        """Write a frame."""
        message = b"".join(fields)
        return struct.pack(">BI", flag, len(message)) + message

    def generate(self, *fields: bytes) -> ParsedBody:
        """Read a call of Generate."""
        return parse(f"{SERVICE}/Generate", self.frame(*fields))

    def test_text(self) -> None:
        """A text prompt is given as bytes; the limit stands among the sampling parameters."""
        sampling = self.field(8, 40) + self.varint(1 << 3 | 5) + struct.pack("<f", 0.5)
        parsed = self.generate(self.field(1, b"id"), self.field(3, b"hi"), self.field(4, sampling), self.field(5, 1))

        assert parsed == ParsedBody(prompt=b"hi", stream=True, max_output_tokens=40, usage=UsageKind.VLLM_GRPC)

    @given(st.lists(st.integers(0, 2**32 - 1), max_size=20), st.integers(0, 20))
    def test_tokens(self, ids: list[int], packed: int) -> None:
        """Token ids may be packed or not, and a message may come in two parts."""
        first = self.field(1, b"text") + self.field(2, b"".join(map(self.varint, ids[:packed])))
        second = b"".join(self.field(2, token) for token in ids[packed:])
        fields = (self.field(2, first), self.field(2, second))

        assert ids == tokens_of(self.generate(*fields))
        assert ids == tokens_of(parse(f"{SERVICE}/Embed", self.frame(*fields)))

    def test_the_last_of_two_prompts_counts(self) -> None:
        """Of the two forms of a prompt the one that comes last counts."""
        tokens = self.field(2, self.field(2, 7))

        assert self.generate(tokens, self.field(3, b"a")) == ParsedBody(prompt=b"a", usage=UsageKind.VLLM_GRPC)
        assert tokens_of(self.generate(self.field(3, b"a"), tokens)) == [7]

    def test_unknown_fields_are_passed_over(self) -> None:
        """Fields of other numbers or other wire types say nothing."""
        fixed = self.varint(90 << 3 | 1) + bytes(8) + self.varint(91 << 3 | 5) + bytes(4)
        others = self.field(92, 2**64 - 1) + self.field(2, 1) + self.field(3, 1) + self.field(4, 1) + self.field(5, b"")

        assert self.generate(fixed, others, self.field(3, b"a")) == ParsedBody(prompt=b"a", usage=UsageKind.VLLM_GRPC)

    def test_another_method_is_passed_on(self) -> None:
        """A call that generates nothing is not read, and nor is its response."""
        parsers = BodyParsers([parser_named("vllmgrpc-parser")])
        parser, route = parsers.find(f"{SERVICE}/Generate")
        other = type(route)(f"{SERVICE}/Abort", "vllm.grpc.engine.VllmEngine/Abort")

        assert parser.parse(b"", other) == ParsedBody(reads_response=False)

    @pytest.mark.parametrize("body", [b"", b"\0\0\0\0", b"\0\0\0\0\1", b"\1\0\0\0\0", b"\0\xff\xff\xff\xff" + bytes(9)])
    def test_frames_that_are_cut_or_compressed(self, body: bytes) -> None:
        """A frame must be whole and not compressed."""
        assert refusal(f"{SERVICE}/Generate", body) == "invalid or unsupported gRPC payload"

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (b"\x80", "a number does not end"),
            (b"\x08" + b"\x80" * 11, "a number does not end"),
            (b"\x00\x00", "a field has the number 0"),
            (b"\x0b", "field 1 has the unknown wire type 3"),
            (b"\x0a\x05a", "field 1 is longer than the message"),
            (b"\x09a", "field 1 is longer than the message"),
            (b"\x12\x03\x12\x01\x80", "a number does not end"),
            (b"\x12\x0e\x12\x0c" + b"\x80" * 11 + b"\x01", "a number is longer than 10 bytes"),
        ],
    )
    def test_malformed_messages(self, message: bytes, reason: str) -> None:
        """What breaks the rules of protobuf is refused with the reason."""
        assert f"unmarshaling GenerateRequest: {reason}" == refusal(f"{SERVICE}/Generate", self.frame(message))
        assert f"unmarshaling EmbedRequest: {reason}" == refusal(f"{SERVICE}/Embed", self.frame(message))

    def test_text_that_is_not_utf8(self) -> None:
        """A string of protobuf is UTF-8."""
        text = refusal(f"{SERVICE}/Generate", self.frame(self.field(3, b"\xff")))

        assert text.startswith("unmarshaling GenerateRequest: 'utf-8' codec")
