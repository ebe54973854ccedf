"""What a request's body tells the picker, and who reads it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import attrs

from inferencepool._showing import show_length
from inferencepool.adapters.bodies._steps import Budget, Steps

__all__ = ["BodyParser", "ParsedBody", "Route", "SteppedParser", "UsageKind"]


class UsageKind(enum.Enum):
    """Where a response tells how many tokens it took."""

    NONE = "none"
    """Nowhere that can be read."""
    OPENAI = "openai"
    """The object ``usage``; in the Responses API's events ``response.usage``."""
    ANTHROPIC = "anthropic"
    """The object ``usage``; in events that of ``message_start`` and those of ``message_delta``."""
    SGLANG = "sglang"
    """The object ``meta_info``; in events that with a ``finish_reason``."""
    VLLM_GRPC = "vllm-grpc"
    """Fields of vLLM's ``GenerateResponse``, in frames of gRPC."""
    VLLM_GRPC_EMBED = "vllm-grpc-embed"
    """Fields of vLLM's ``EmbedResponse``, in frames of gRPC."""


@attrs.frozen(kw_only=True)
class ParsedBody:
    """
    What a request's body tells the picker.

    Attributes:
        model: The model asked for; None where the body names none.
        prompt: The prompt as bytes, for comparing prefixes; empty when unknown or given as tokens. The module
            `inferencepool.adapters.bodies` says how it is made.
        prompt_tokens: The prompt as token ids, where the client sent it so; None otherwise.
        more_prompts: The prompts behind the first, where the body has several: bytes or token ids as the first.
        prompt_unread: About how many bytes of the prompt follow *prompt* that were not read, because no prefix is
            matched so far; for token ids four for each.
        stream: Whether the client wants the response as a stream of events.
        max_output_tokens: Most tokens that the response may have; None when the client set no limit.
        cache_salt: Requests share cached prefixes only with those of the same salt.
        can_rewrite: Whether `rewrite_model` can change the model in this body.
        needs_model: Whether the body must name a model, unless a rewrite gives it one.
        model_span: Where the value of the body's ``model`` begins and ends, in bytes; (0, 0) where the body has none,
            and None where that was not looked for.
        plain: The body as it was before it was compressed, of which *model_span* tells; None where it was not.
        unread_encoding: The ``content-encoding`` that hides the body, because it is none of those that are known;
            empty where it was read.
        unread: Why the body could not be read, though its path says that it should; empty where it was. Servers may
            read it all the same, so that where the model matters such a request is refused.
        is_cut: Whether it is unread because its rest never comes, or comes too late.
        reads_response: Whether the response is of interest; False for calls that generate nothing.
        usage: Where the response tells its usage.
    """

    model: str | None = None
    prompt: bytes = attrs.field(default=b"", repr=show_length)
    prompt_tokens: Sequence[int] | None = attrs.field(default=None, repr=show_length)
    more_prompts: Sequence[bytes] | Sequence[Sequence[int]] = attrs.field(default=(), repr=show_length)
    prompt_unread: int = 0
    stream: bool = False
    max_output_tokens: int | None = None
    cache_salt: str = attrs.field(default="", repr=show_length)
    can_rewrite: bool = False
    needs_model: bool = False
    model_span: tuple[int, int] | None = None
    plain: bytes | None = attrs.field(default=None, repr=show_length)
    unread_encoding: str = ""
    unread: str = ""
    is_cut: bool = False
    reads_response: bool = True
    usage: UsageKind = UsageKind.NONE


@attrs.frozen
class Route:
    """
    Why a parser was chosen.

    Attributes:
        path: The request's path as `request_path` gives it.
        claim: The claim of the parser that fits it; empty for a fallback, which claims nothing.
        content_type: The header ``content-type`` of a form (``multipart/form-data``); empty for all other bodies.
    """

    path: str
    claim: str = ""
    content_type: str = ""


class BodyParser(Protocol):
    """
    Reads the bodies of some paths.

    Attributes:
        name: Its type, such as ``openai-parser``.
        claims: Ends of the paths that it reads, whole segments without a slash at either end, such as
            ``chat/completions``. One without claims is the fallback for all paths that nobody claims.

    One whose bodies name no model, so that none is missed where they stay unread, may say so by an attribute
    ``names_model`` that is False.
    """

    @property
    def name(self) -> str: ...

    @property
    def claims(self) -> Sequence[str]: ...

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*.

        Raises:
            InvalidRequestError: It cannot be used.
        """
        ...


class SteppedParser(BodyParser, Protocol):
    """A `BodyParser` that can read in steps. One whose bodies may be dear to read should be one."""

    def read(self, body: bytes, route: Route, budget: Budget) -> Steps[ParsedBody]:
        """
        Read *body* in steps of a few milliseconds at most, between which other work may be done.

        Of the prompt it reads as much as *budget* allows, which may change between steps.

        Raises:
            InvalidRequestError: It cannot be used.
        """
        ...
