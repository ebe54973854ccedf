"""Which parser reads the body of a request."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import pytest

from inferencepool.adapters.bodies import (
    PARSERS,
    BodyParser,
    BodyParsers,
    OpenAIParser,
    ParsedBody,
    PassthroughParser,
    Route,
    default_parsers,
    parser_named,
    request_path,
)
from inferencepool.errors import ConfigurationError, InvalidRequestError


@attrs.frozen
class Echo:
    """A parser of a user's own, which gives the claim as the model."""

    name: str = "echo"
    claims: Sequence[str] = ("echo",)

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """Read *body*."""
        return ParsedBody(model=route.claim, prompt=body)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({":path": "/v1/responses"}, "/v1/responses"),
        ({":path": "/v1/responses/?a=/b/"}, "/v1/responses"),
        ({":path": "/v1/responses//"}, "/v1/responses"),
        ({":path": "/"}, ""),
        ({":path": "", "x-original-path": "/a", "x-forwarded-path": "/b"}, "/a"),
        ({"x-original-path": "", "x-forwarded-path": "/b?c"}, "/b"),
        ({}, "/v1/completions"),
        ({":path": "?"}, ""),
    ],
)
def test_path(headers: dict[str, str], expected: str) -> None:
    """The first header that is not empty counts, without the query and slashes at the end."""
    assert expected == request_path(headers)


@pytest.mark.parametrize(
    ("path", "name", "claim"),
    [
        ("/v1/completions", "openai-parser", "completions"),
        ("/v1/chat/completions", "openai-parser", "chat/completions"),
        ("/v1/chat/completions/render", "openai-parser", "chat/completions/render"),
        ("/any/prefix/v1/chat/completions", "openai-parser", "chat/completions"),
        ("completions", "openai-parser", "completions"),
        ("/completions", "openai-parser", "completions"),
        ("/v1/messages", "anthropic-parser", "messages"),
        ("/v1/messages/count_tokens", "anthropic-parser", "messages/count_tokens"),
        ("/inference/v1/generate", "vllmhttp-parser", "inference/v1/generate"),
        ("/generate", "passthrough-parser", ""),
        ("/v1/foocompletions", "passthrough-parser", ""),
        ("/v1/completions/x", "passthrough-parser", ""),
        ("/v1/Completions", "passthrough-parser", ""),
        ("", "passthrough-parser", ""),
        ("/" + "x" * 300 + "/completions", "openai-parser", "completions"),
    ],
)
def test_longest_claim_of_whole_segments(path: str, name: str, claim: str) -> None:
    """The longest claim that the path ends with wins, and begins where a segment begins."""
    parsers = BodyParsers()
    for _ in range(2):
        parser, route = parsers.find(path)
        assert (parser.name, route) == (name, Route(path, claim))


@pytest.mark.parametrize(
    ("path", "claim"),
    [("/v1/foocompletions", "completions"), ("/v1/xchat/completions", "chat/completions"), ("/a", ""), ("", "")],
)
def test_claims_within_segments(path: str, claim: str) -> None:
    """As an option a claim is any end of the path, as with the reference."""
    assert BodyParsers(within_segments=True).find(path)[1] == Route(path, claim)


def test_no_parser() -> None:
    """A path that nobody claims is refused with the reference's text where there is no fallback."""
    parsers = BodyParsers([OpenAIParser()])
    for _ in range(2):
        with pytest.raises(InvalidRequestError) as caught:
            parsers.parse({":path": "/v1/audio?key=secret"}, b"{}")
        assert str(caught.value) == "no parser registered matching path suffix for: /v1/audio"
    with pytest.raises(InvalidRequestError, match=r"for: /x{255}\.\.\.$"):
        parsers.find("/" + "x" * 10_000)


def test_paths_are_remembered_up_to_a_number() -> None:
    """Clients that send ever new paths, or long ones, fill no memory."""
    parsers = BodyParsers()
    for index in range(2_000):
        parsers.find(f"/{index}/completions")
    parsers.find("/" + "x" * 10_000)

    assert parsers._remember.cache_info().currsize == 512


def test_own_parser() -> None:
    """A user's parser is found like those of this package, and may take a longer claim than theirs."""
    parser: BodyParser = Echo(claims=("v2/completions", "echo"))
    parsers = BodyParsers([parser, *default_parsers()])

    assert parsers.parse({":path": "/v2/completions"}, b"x") == ParsedBody(model="v2/completions", prompt=b"x")
    assert parsers.parse({":path": "/a/echo/"}, b"x").model == "echo"
    assert parsers.find("/v1/completions")[0].name == "openai-parser"
    assert parsers.parsers[0] is parser


@pytest.mark.parametrize(
    ("parsers", "message"),
    [
        (
            [PassthroughParser(), Echo()],
            "parser 'echo' follows the fallback 'passthrough-parser', which must be the last",
        ),
        ([Echo(), Echo(claims=("b",))], "parser 'echo' is given twice"),
        ([Echo(), Echo(name="other")], "parsers 'echo' and 'other' both claim 'echo'"),
        ([Echo(claims=("/a",))], "parser 'echo': claim '/a' must be a path without a slash at either end"),
        ([Echo(claims=("a", ""))], "parser 'echo': claim '' must be a path without a slash at either end"),
    ],
)
def test_parsers_that_do_not_fit_together(parsers: list[BodyParser], message: str) -> None:
    """A parser that would never be used, or not as meant, is refused."""
    with pytest.raises(ConfigurationError) as caught:
        BodyParsers(parsers)

    assert message == str(caught.value)


def test_catalog() -> None:
    """Each parser is made by its name; another name is refused."""
    assert list(PARSERS) == [parser_named(name).name for name in PARSERS]
    assert [parser.name for parser in default_parsers()] == [
        "openai-parser",
        "anthropic-parser",
        "vllmhttp-parser",
        "passthrough-parser",
    ]
    with pytest.raises(ConfigurationError, match="unknown parser 'x'; allowed: openai-parser, "):
        parser_named("x")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/rerank", "too long"),
        ("", "too long"),
        ("/v1/a/../rerank", "too long"),
        ("/v1/files", ""),
        ("/generate", ""),
        ("/vllm.grpc.engine.VllmEngine/Generate", ""),
    ],
)
def test_unread_bodies(path: str, expected: str) -> None:
    """Why a body is unread matters where it may name a model: not to calls without one, nor where nobody reads."""
    parsed = BodyParsers([parser_named(name) for name in PARSERS]).unread({":path": path}, "too long", is_cut=True)

    assert (expected, bool(expected)) == (parsed.unread, parsed.is_cut)
