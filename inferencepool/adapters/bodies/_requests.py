"""From what a gateway has in its hands to what a picker is asked: `InferenceRequest.from_http`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TypeAlias

from inferencepool.adapters.bodies._body import ParsedBody
from inferencepool.adapters.bodies._registry import BodyParsers
from inferencepool.errors import InvalidRequestError
from inferencepool.model import InferenceRequest
from inferencepool.model import _protocol as names

__all__ = ["HttpHeaders", "check_model", "read_request", "request_of"]

HttpHeaders: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]] | Iterable[tuple[bytes, bytes]]
"""Headers by name, or as pairs, such as ASGI has them."""

_IF_AVAILABLE = "if-available"
_DEFAULT_FLOW = "default-flow"


def read_request(
    path: str, headers: HttpHeaders, body: bytes, *, parsers: BodyParsers | None = None, priority: int = 0
) -> InferenceRequest:
    """
    Read a request of HTTP.

    Raises:
        InvalidRequestError: The path or the body cannot be used, or the body names no model.
    """
    known = _by_name(headers)
    if path:
        known[":path"] = path
    parsed = (parsers if parsers is not None else _default_parsers()).parse(known, body) if body else None
    check_model(parsed, None)
    model = parsed.model if parsed is not None else None
    return request_of(parsed, known, model or "", known.get(names.REQUEST_ID, ""), priority)


def check_model(parsed: ParsedBody | None, target: str | None) -> None:
    """
    See to it that a request that needs a model has one, its own or the *target* that it is rewritten to.

    Raises:
        InvalidRequestError: It has none.
    """
    if target is None and parsed is not None and parsed.needs_model and not parsed.model:
        # The reference's text.
        text = "model not found in request body"
        raise InvalidRequestError(text)


def request_of(
    parsed: ParsedBody | None, headers: Mapping[str, str], model: str, request_id: str, priority: int
) -> InferenceRequest:
    """Join what headers, names in lower case, and body tell; without a body the headers alone."""
    fairness_id = names.value_of(names.FAIRNESS_ID, headers) or _DEFAULT_FLOW
    if_available = "prefer" in headers and _prefers_available(headers["prefer"])
    if parsed is None:
        return InferenceRequest(
            model=model,
            headers=headers,
            id=request_id,
            if_available=if_available,
            priority=priority,
            fairness_id=fairness_id,
        )
    return InferenceRequest(
        model=model,
        prompt=parsed.prompt,
        headers=headers,
        id=request_id,
        prompt_tokens=parsed.prompt_tokens,
        more_prompts=parsed.more_prompts,
        prompt_unread=parsed.prompt_unread,
        stream=parsed.stream,
        max_output_tokens=parsed.max_output_tokens,
        cache_salt=parsed.cache_salt,
        if_available=if_available,
        priority=priority,
        fairness_id=fairness_id,
    )


def _prefers_available(prefer: str) -> bool:
    """Tell whether the header ``prefer`` (RFC 7240) has the preference ``if-available``, whatever its parameters."""
    return any(item.partition(";")[0].strip().lower() == _IF_AVAILABLE for item in prefer.split(","))


def _by_name(headers: HttpHeaders) -> dict[str, str]:
    """Give headers by their names in lower case; values of one name are joined (RFC 9110 section 5.3)."""
    known: dict[str, str] = {}
    for name, value in headers.items() if isinstance(headers, Mapping) else headers:
        key, text = _text(name).lower(), _text(value)
        known[key] = f"{known[key]}, {text}" if key in known else text
    return known


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


@cache
def _default_parsers() -> BodyParsers:
    return BodyParsers()
