"""Which parser reads the body of a request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Final
from urllib.parse import unquote

import attrs

from inferencepool.adapters.bodies._anthropic import AnthropicParser
from inferencepool.adapters.bodies._body import BodyParser, ParsedBody, Route
from inferencepool.adapters.bodies._decoding import Loads, loads_json
from inferencepool.adapters.bodies._encodings import is_encoded, known_encodings, unpack
from inferencepool.adapters.bodies._engines import SglangHttpParser, VllmHttpParser
from inferencepool.adapters.bodies._inferring import infer_path
from inferencepool.adapters.bodies._multipart import is_form
from inferencepool.adapters.bodies._openai import OpenAIParser
from inferencepool.adapters.bodies._steps import Budget, Steps, finished
from inferencepool.adapters.bodies._vllm_grpc import VllmGrpcParser
from inferencepool.errors import ConfigurationError, InvalidRequestError

__all__ = ["PARSERS", "BodyParsers", "PassthroughParser", "default_parsers", "parser_named", "request_path"]

_PATH_HEADERS = (":path", "x-original-path", "x-forwarded-path")
_ENCODING = "content-encoding"
_TYPE = "content-type"
_DEFAULT_PATH = "/v1/completions"

# Paths come from clients: neither many different ones nor long ones may fill the memory.
_REMEMBERED_PATHS = 512
_LONGEST_REMEMBERED = 256
_LONGEST_SHOWN = 256

# What a path holds that somebody on the way may read in another way than it stands there.
_UNPLAIN = re.compile(r"[%;\\#\x00-\x1f\x7f]|//|/\.")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class PassthroughParser:
    """Claims no path, so it is the fallback, and reads nothing."""

    name = "passthrough-parser"
    claims = ()

    def parse(self, body: bytes, route: Route) -> ParsedBody:  # noqa: ARG002 - nothing is read
        """Give a body of which nothing is known."""
        return _UNKNOWN


_UNKNOWN = ParsedBody()

#: The parsers of this package by name, as functions of what reads JSON text.
PARSERS: Final[Mapping[str, Callable[[Loads], BodyParser]]] = MappingProxyType(
    {
        OpenAIParser.name: OpenAIParser,
        AnthropicParser.name: AnthropicParser,
        VllmHttpParser.name: VllmHttpParser,
        SglangHttpParser.name: SglangHttpParser,
        VllmGrpcParser.name: lambda _: VllmGrpcParser(),
        PassthroughParser.name: lambda _: PassthroughParser(),
    }
)


def parser_named(name: str, loads: Loads = loads_json) -> BodyParser:
    """
    Make the parser of `PARSERS` that is called *name*.

    Raises:
        ConfigurationError: There is none; the message lists those that exist.
    """
    if name not in PARSERS:
        message = f"unknown parser {name!r}; allowed: {', '.join(PARSERS)}"
        raise ConfigurationError(message)
    return PARSERS[name](loads)


def default_parsers(loads: Loads = loads_json) -> tuple[BodyParser, ...]:
    """Make the parsers that the reference uses where none are configured: OpenAI, Anthropic, vLLM, and the fallback."""
    return OpenAIParser(loads), AnthropicParser(loads), VllmHttpParser(loads), PassthroughParser()


def request_path(headers: Mapping[str, str]) -> str:
    """
    Find the path that decides who reads the body: without the query, as servers read it, no slash at the end.

    It is ``:path``, or ``x-original-path``, or ``x-forwarded-path``, the first that is not empty; where there is none
    it is ``/v1/completions``, unless the body tells more (see `BodyParsers.parse`).

    Escapes are decoded once, backslashes are slashes, and empty segments, segments ``.`` and what follows a ``;`` in a
    segment are left out. No server does all of that; but whatever some server takes for a claim of a parser ends with
    that claim here too. Case counts, as it does for the engines.

    Args:
        headers: Headers, names in lower case.

    Raises:
        InvalidRequestError: The path has a segment ``..``, a ``#`` or a control character, escaped or not in the first
            and the last case: servers differ in what they make of it, so no reading is safe.
    """
    for name in _PATH_HEADERS:
        path = headers.get(name)
        if path:
            path = path.partition("?")[0]
            return _normalise(path) if len(path) > _LONGEST_REMEMBERED else _remember_normalised(path)
    return _DEFAULT_PATH


def _normalise(path: str) -> str:
    if not _UNPLAIN.search(path):
        return path.removesuffix("/")
    if "#" in path:
        raise _unreadable(path, "'#'")
    decoded = unquote(path).replace("\\", "/")
    if _CONTROL.search(decoded):
        raise _unreadable(path, "control character")
    segments = [segment.partition(";")[0] for segment in decoded.split("/")]
    if ".." in segments:
        # What it takes away depends on whether escapes, empty segments and parameters are seen to before or after.
        raise _unreadable(path, "segment '..'")
    return "/".join(["", *[segment for segment in segments if segment not in {"", "."}]])


_remember_normalised = lru_cache(_REMEMBERED_PATHS)(_normalise)


def _unreadable(path: str, found: str) -> InvalidRequestError:
    return InvalidRequestError(f"request: path: {_shown(ascii(path)[1:-1])} has a {found}, allowed is none")


def _shown(path: str) -> str:
    return path if len(path) <= _LONGEST_SHOWN else f"{path[:_LONGEST_SHOWN]}..."


def _is_plain(headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether a body is as its client made it and no form, and its path is told."""
    if _ENCODING in headers or not any(map(headers.get, _PATH_HEADERS)):
        return False
    # Nothing that begins so is taken for a form.
    return body[:1] == b"{" or not is_form(headers.get(_TYPE, ""))


def _read(parser: BodyParser, route: Route, body: bytes, budget: Budget) -> Steps[ParsedBody]:
    read: Callable[[bytes, Route, Budget], Steps[ParsedBody]] | None = getattr(parser, "read", None)
    return _in_one_step(parser, body, route) if read is None else read(body, route, budget)


def _in_one_step(parser: BodyParser, body: bytes, route: Route) -> Steps[ParsedBody]:
    yield from ()
    return parser.parse(body, route)


class BodyParsers:
    """
    Finds the parser for a path. Of the claims that the path ends with, the longest wins.

    A claim fits whole segments: ``completions`` fits ``/v1/completions`` and not ``/v1/foocompletions``.

    Safe for threads if the parsers are.

    Args:
        parsers: The parsers. One without claims is the fallback and must be the last.
        within_segments: Let a claim begin inside a segment, as it may with the reference.

    Raises:
        ConfigurationError: Two parsers have the same name or the same claim, a claim is empty or has a slash at an
            end, or a parser follows the fallback.
    """

    def __init__(self, parsers: Iterable[BodyParser] | None = None, *, within_segments: bool = False) -> None:
        self._parsers = default_parsers() if parsers is None else tuple(parsers)
        self._within_segments = within_segments
        self._fallback: BodyParser | None = None
        claims: dict[str, BodyParser] = {}
        for parser in self._parsers:
            self._add(parser, claims)
        self._claims = sorted(claims.items(), key=lambda claimed: -len(claimed[0]))
        self._remember = lru_cache(_REMEMBERED_PATHS)(self._find)

    def _add(self, parser: BodyParser, claims: dict[str, BodyParser]) -> None:
        if self._fallback is not None:
            message = f"parser {parser.name!r} follows the fallback {self._fallback.name!r}, which must be the last"
            raise ConfigurationError(message)
        if sum(other.name == parser.name for other in self._parsers) > 1:
            message = f"parser {parser.name!r} is given twice"
            raise ConfigurationError(message)
        for claim in parser.claims:
            if not claim or claim != claim.strip("/"):
                message = f"parser {parser.name!r}: claim {claim!r} must be a path without a slash at either end"
                raise ConfigurationError(message)
            other = claims.setdefault(claim, parser)
            if other is not parser:
                message = f"parsers {other.name!r} and {parser.name!r} both claim {claim!r}"
                raise ConfigurationError(message)
        if not parser.claims:
            self._fallback = parser

    @property
    def parsers(self) -> tuple[BodyParser, ...]:
        """The parsers, in the order given."""
        return self._parsers

    def find(self, path: str) -> tuple[BodyParser, Route]:
        """
        Find who reads bodies of *path*, a result of `request_path`.

        Raises:
            InvalidRequestError: Nobody does.
        """
        return self._find(path) if len(path) > _LONGEST_REMEMBERED else self._remember(path)

    def parse(self, headers: Mapping[str, str], body: bytes) -> ParsedBody:
        """
        Read *body* with the parser that fits the path in *headers*.

        Where there is no path, the members of the body tell its API. A body that is compressed by gzip or deflate is
        unpacked first; one of another ``content-encoding`` stays unread.

        Raises:
            InvalidRequestError: No parser fits, or the one that does refuses *body*, or that is not compressed as told.
            RequestTooLargeError: It is too long once it is unpacked.
        """
        if _is_plain(headers, body):
            parser, route = self.find(request_path(headers))
            return parser.parse(body, route)
        return finished(self.read(headers, body))

    def read(self, headers: Mapping[str, str], body: bytes, budget: Budget | None = None) -> Steps[ParsedBody]:
        """
        Do what `parse` does in steps of a few milliseconds, so that other work may be done between them.

        A parser that is no `SteppedParser` does all in one step.

        Args:
            headers: Headers, names in lower case.
            body: The body.
            budget: How much of the prompt to read; the default budget where there is none.

        Raises:
            InvalidRequestError: As `parse` does, at once or in any step.
        """
        budget = Budget() if budget is None else budget
        if not _is_plain(headers, body):
            return self._read_veiled(headers, body, budget)
        return _read(*self.find(request_path(headers)), body, budget)

    def unread(self, headers: Mapping[str, str], reason: str, *, is_cut: bool = False) -> ParsedBody:
        """
        Give what is known of a body that cannot be read for a *reason*: whether a model may be missed by that.

        Args:
            headers: Headers, names in lower case.
            reason: Why it cannot be read.
            is_cut: Whether that is because its rest is not there.
        """
        try:
            parser, _ = self.find(request_path(headers))
        except InvalidRequestError:
            return ParsedBody(unread=reason, is_cut=is_cut)
        if not parser.claims or not getattr(parser, "names_model", True):
            return _UNKNOWN
        return ParsedBody(unread=reason, is_cut=is_cut)

    def _read_veiled(self, headers: Mapping[str, str], body: bytes, budget: Budget) -> Steps[ParsedBody]:
        """Read a body that is compressed or a form, or whose path is not told."""
        encoding = headers.get(_ENCODING, "")
        has_path = any(map(headers.get, _PATH_HEADERS))
        parser, route = self.find(request_path(headers))
        if not is_encoded(encoding) or (has_path and not parser.claims):
            plain = None
        elif known_encodings(encoding):
            plain = body = yield from unpack(body, encoding, budget)
        else:
            return ParsedBody(unread_encoding=encoding[:_LONGEST_SHOWN])
        if not has_path:
            parser, route = self.find((yield from infer_path(headers, body)))
        if is_form(kind := headers.get(_TYPE, "")):
            route = attrs.evolve(route, content_type=kind)
        parsed = yield from _read(parser, route, body, budget)
        return parsed if plain is None else attrs.evolve(parsed, plain=plain)

    def _find(self, path: str) -> tuple[BodyParser, Route]:
        text = path.removeprefix("/") if self._within_segments else f"/{path.removeprefix('/')}"
        for claim, parser in self._claims:
            if text.endswith(claim if self._within_segments else f"/{claim}"):
                return parser, Route(path, claim)
        if self._fallback is None:
            message = f"no parser registered matching path suffix for: {_shown(path)}"
            raise InvalidRequestError(message)
        return self._fallback, Route(path)
