"""How many tokens a response took, by its JSON."""

from __future__ import annotations

import re
from typing import Any

import attrs

from inferencepool.adapters.bodies._body import UsageKind
from inferencepool.adapters.bodies._decoding import Loads, decode_object, loads_json
from inferencepool.adapters.bodies._fields import GREATEST_COUNT
from inferencepool.adapters.bodies._pieces import is_cheap
from inferencepool.errors import InvalidRequestError

__all__ = ["LONGEST_TAIL", "NEEDLES", "UNKNOWN", "Usage", "merge_event", "read_tail", "read_usage"]

_KEYS = (b'"usage"', b'"meta_info"')
#: Bytes at the end of a response that is dear to read, in which its usage is looked for.
LONGEST_TAIL = 1 << 14

#: What text tells usage at all, by kind, and what an event has that tells it. Inside strings quotes are escaped, so
#: that nothing a model says looks like a key.
NEEDLES: dict[UsageKind, tuple[bytes, re.Pattern[bytes]]] = {
    UsageKind.OPENAI: (b'"usage"', re.compile(rb'"usage"\s*:\s*\{')),
    UsageKind.ANTHROPIC: (b'"usage"', re.compile(rb'"usage"\s*:\s*\{')),
    UsageKind.SGLANG: (b'"finish_reason"', re.compile(rb'"finish_reason"\s*:\s*(?!\s|null)')),
}


@attrs.frozen
class Usage:
    """
    How many tokens a response took; None where it does not tell.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        output_tokens: Tokens of the output.
        cached_tokens: Tokens of the prompt that came from a cache.
        total_tokens: Both together, as the server counts them.
    """

    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    total_tokens: int | None = None


UNKNOWN = Usage()
"""Nothing is told."""


def read_usage(body: bytes, kind: UsageKind, loads: Loads = loads_json) -> Usage:
    """
    Read the usage from *body*, a response in JSON; one that cannot be read tells nothing.

    Of one with so many values that it is dear to read, only what stands behind the last ``usage`` or ``meta_info`` is
    read, if that is near its end.

    Args:
        body: The whole response.
        kind: Where the usage stands.
        loads: Reads JSON text.
    """
    return _usage_of(_decode(body, loads), kind) if kind in NEEDLES else UNKNOWN


def read_tail(body: bytes, kind: UsageKind, loads: Loads) -> Usage:
    """Do what `read_usage` does for a response that is dear to read, of which *body* is the end."""
    return _usage_of(_decode_tail(body, loads), kind)


def _usage_of(document: dict[str, Any], kind: UsageKind) -> Usage:
    if kind is UsageKind.SGLANG:
        return _from_sglang(document.get("meta_info"))
    if kind is UsageKind.ANTHROPIC:
        return _from_anthropic(document.get("usage"), UNKNOWN)
    return _from_openai(document.get("usage"))


def merge_event(former: Usage, data: bytes, kind: UsageKind, loads: Loads) -> Usage:
    """Give what is known after an event with *data*, where *former* was known before it."""
    document = _decode(data, loads)
    if kind is UsageKind.SGLANG:
        found = _from_sglang(document.get("meta_info"))
    elif kind is UsageKind.ANTHROPIC:
        holder = document.get("message") if document.get("type") == "message_start" else document
        found = _from_anthropic(holder.get("usage") if isinstance(holder, dict) else None, former)
    else:
        found = _from_openai(document.get("usage"))
        response = document.get("response")
        if found == UNKNOWN and isinstance(response, dict):
            found = _from_openai(response.get("usage"))
    return former if found == UNKNOWN else found


def _decode(data: bytes, loads: Loads) -> dict[str, Any]:
    """Read *data* as far as that is cheap."""
    return _decode_whole(data, loads) if is_cheap(data) else _decode_tail(data, loads)


def _decode_tail(data: bytes, loads: Loads) -> dict[str, Any]:
    """
    Read the last members of *data*, from the last ``usage`` or ``meta_info`` on.

    If these are the end of an object, they are members of the outermost one, because all brackets behind those of a
    member would be one too many.
    """
    at = max(data.rfind(key, -LONGEST_TAIL) for key in _KEYS)
    return {} if at < 0 else _decode_whole(b"{" + data[at:], loads)


def _decode_whole(data: bytes, loads: Loads) -> dict[str, Any]:
    try:
        return decode_object(loads, data, "response")
    except InvalidRequestError:
        return {}


def _from_openai(usage: Any) -> Usage:
    if not isinstance(usage, dict):
        return UNKNOWN
    details = usage.get("prompt_tokens_details")
    if not isinstance(details, dict):
        details = usage.get("input_tokens_details")
    return Usage(
        _first_count(usage, "prompt_tokens", "input_tokens"),
        _first_count(usage, "completion_tokens", "output_tokens"),
        _to_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
        _to_count(usage.get("total_tokens")),
    )


def _from_anthropic(usage: Any, former: Usage) -> Usage:
    """Read field by field, because each event tells a part; the total is the sum of input and output."""
    if not isinstance(usage, dict):
        return former
    prompt = _first_count(usage, "input_tokens", former=former.prompt_tokens)
    output = _first_count(usage, "output_tokens", former=former.output_tokens)
    cached = _first_count(usage, "cache_read_input_tokens", former=former.cached_tokens)
    return Usage(prompt, output, cached, _sum(prompt, output))


def _from_sglang(info: Any) -> Usage:
    if not isinstance(info, dict):
        return UNKNOWN
    prompt, output = _to_count(info.get("prompt_tokens")), _to_count(info.get("completion_tokens"))
    return Usage(prompt, output, _to_count(info.get("cached_tokens")), _sum(prompt, output))


def _sum(prompt: int | None, output: int | None) -> int | None:
    return None if prompt is None or output is None else prompt + output


def _first_count(usage: dict[str, Any], *names: str, former: int | None = None) -> int | None:
    """Read the first of the fields that is there and not null."""
    return next((_to_count(usage[name]) for name in names if usage.get(name) is not None), former)


def _to_count(value: Any) -> int | None:
    """Read a number, or a string of one, which some servers write, as the reference does; None for all else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= GREATEST_COUNT:
        return None
    return int(value)
