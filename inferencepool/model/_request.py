"""What a pick is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from inferencepool._showing import show_length, show_names

if TYPE_CHECKING:
    from inferencepool.adapters.bodies import BodyParsers
    from inferencepool.adapters.bodies._requests import HttpHeaders

__all__ = ["InferenceRequest"]


_FOUR_BYTES = next(code for code in "IL" if array(code).itemsize == 4)  # noqa: PLR2004 - bytes of 32 bits


def _packed(ids: Sequence[int] | None) -> Sequence[int] | None:
    """Pack a list of token ids; what cannot be packed stays as it is, and is refused by whoever compares prefixes."""
    if type(ids) is not list:
        return ids
    packed = array(_FOUR_BYTES)
    try:
        packed.fromlist(ids)  # a third faster than the constructor
    except (TypeError, OverflowError):
        return ids
    return packed


@attrs.define(kw_only=True, eq=False, on_setattr=attrs.setters.NO_OP)
class InferenceRequest:
    """
    One inference request, as far as routing needs to know it.

    Not frozen, because a request is built once per pick and frozen values are three times as slow to build; nothing in
    this library changes one, but for *produced*.

    Its text shows neither prompt nor values of headers, so that it may get into logs.

    Attributes:
        model: Name of the model or LoRA adapter that serves the request (after any rewrite).
        prompt: The prompt as bytes; empty when unknown.
        headers: Request headers, names in lower case.
        id: The request's id, such as the value of ``x-request-id``; for logs and explanations.
        prompt_tokens: The prompt as token ids, where the client sent it so; None otherwise. A list is packed into an
            ``array``, once and at some 6 ns for each id, so that every pick costs what one with text costs.
        more_prompts: The prompts behind the first, where one request has several: each as *prompt* or *prompt_tokens*
            has the first.
        prompt_unread: About how many bytes of the prompt follow *prompt* or *prompt_tokens* that are not there, because
            no prefix is matched so far; four for each token. Of several prompts those that are not there count too.
        stream: Whether the client wants the response as a stream of events.
        max_output_tokens: Most tokens that the response may have; None when the client set no limit.
        cache_salt: Requests share cached prefixes only with those of the same salt.
        if_available: Whether it is to be refused where the endpoint that is picked has nothing of its prompt cached.
        priority: Of the objective that the request names; higher is more important, below 0 may be shed.
        fairness_id: Whose request it is, where requests of several take turns.
        produced: What strategies found out about this request, by who found it, so that several share it and an
            explanation can tell it later. A scheduler starts it anew for every pick, so one object is for one pick at a
            time; None outside of one.
    """

    model: str = ""
    prompt: bytes = attrs.field(default=b"", repr=show_length)
    headers: Mapping[str, str] = attrs.field(factory=dict, repr=show_names)
    id: str = ""
    prompt_tokens: Sequence[int] | None = attrs.field(default=None, repr=show_length, converter=_packed)
    more_prompts: Sequence[bytes] | Sequence[Sequence[int]] = attrs.field(default=(), repr=show_length)
    prompt_unread: int = 0
    stream: bool = False
    max_output_tokens: int | None = None
    cache_salt: str = attrs.field(default="", repr=show_length)
    if_available: bool = False
    priority: int = 0
    fairness_id: str = ""
    produced: dict[object, Any] | None = attrs.field(default=None, init=False, repr=False)

    @classmethod
    def from_http(
        cls,
        path: str,
        headers: HttpHeaders,
        body: bytes = b"",
        *,
        parsers: BodyParsers | None = None,
        priority: int = 0,
    ) -> InferenceRequest:
        """
        Read a request as a gateway has it in its hands; what ext_proc does with what a proxy sends.

        Args:
            path: Its path, with or without a query; it says which API the body is of. Empty for none: then the body's
                members say it.
            headers: Its headers, by name or as pairs of texts or bytes, such as ASGI's ``scope["headers"]``.
            body: Its body, whole; unpacked if it is compressed.
            parsers: Who reads the body; those that the reference uses by default.
            priority: Of the request's objective, where the gateway knows it.

        Returns:
            The request; without a body what its headers tell.

        Raises:
            InvalidRequestError: The path, or a member that the API requires, cannot be used (400); a body is too long
                once it is unpacked (413).
        """
        # The readers stand above the values; who builds requests by hand need not have them.
        from inferencepool.adapters.bodies._requests import read_request  # noqa: PLC0415 - as above

        return read_request(path, headers, body, parsers=parsers, priority=priority)
