"""
Prompts as bytes: what is the same for the model server's prefix cache is the same here.

The bytes F8 to FF occur in no UTF-8 text, so they mark structure and text stands between them as it is:

====================  ================================================================================================
``FF``                begins a part of a message's content; between two prompts of one request it separates them
``FE`` role           begins a message, or, without a role, another item of a conversation
``FC`` kind ``FB``    begins a part that is no text: its kind, then JSON with sorted keys, or ``FA`` and a digest of it
``FD``                begins and ends the content of a tool's result
====================  ================================================================================================

A message's bytes do not depend on those behind it, so conversations that begin alike have a common prefix, and that
prefix ends where their texts begin to differ. A string and a list with that one text are the same content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from inferencepool.errors import InvalidRequestError

__all__ = ["append_item", "append_message", "append_tools", "encode_text", "to_prompt"]

_PART = b"\xff"
_MESSAGE = b"\xfe"
_RESULT = b"\xfd"
_KIND = b"\xfc"
_JSON = b"\xfb"
_DIGEST = b"\xfa"

_ROLES = {role: _MESSAGE + role.encode() for role in ("system", "developer", "user", "assistant", "tool")}
_TEXTS = frozenset({"text", "input_text", "output_text"})
# Parts that are long because they hold text that the model reads: their length must count.
_VERBATIM = frozenset({"tool_use", "function_call", "function_call_output", "thinking", "reasoning", "refusal"})
# Media are known by their digest: an image has some hundred tokens, not as many as its bytes would make.
_LONGEST_MEDIA = 256
# Marks of Anthropic's clients for what to cache. They move from one turn to the next and the model never sees them.
_UNSEEN = "cache_control"

# Numbers aside, one value has one text.
_encode_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def encode_text(text: str) -> bytes:
    """Encode *text* as UTF-8; half of a surrogate pair as UTF-8 would encode it if it could."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def to_prompt(texts: Iterable[str]) -> bytes:
    """Put several prompts of one request together."""
    return _PART.join(map(encode_text, texts))


def append_tools(parts: list[bytes], tools: Any) -> None:
    """Append what the model may call, if anything; chat templates put it in front of all messages."""
    if tools:
        parts.extend((_KIND, b"tools", _JSON, _to_json(tools)))


def append_message(parts: list[bytes], role: str, content: Any, others: Mapping[str, Any] | None = None) -> bool:
    """
    Append a message.

    Args:
        parts: Where to append it.
        role: Who says it.
        content: A string, a list of parts, or None.
        others: Its other fields, such as ``tool_calls``; ``role`` and ``content`` among them are passed over.

    Returns:
        Whether *content* is of a kind that is allowed; nothing sensible was appended otherwise.
    """
    parts.append(_ROLES.get(role) or _MESSAGE + encode_text(role))
    if isinstance(content, str):
        parts.append(_PART)
        parts.append(encode_text(content))
    elif isinstance(content, list):
        for item in content:
            if not isinstance(item, dict):
                return False
            _append_part(parts, item)
    elif content is not None:
        return False
    if others is not None and len(others) > 2:  # noqa: PLR2004 - more than the role and the content
        for name in sorted(others):
            value = others[name]
            if value is not None and name not in {"role", "content", _UNSEEN}:
                parts.extend((_KIND, encode_text(name), _JSON, _to_json(value)))
    return True


def append_item(parts: list[bytes], item: Any) -> None:
    """Append an item of a conversation that is no message, such as a call of a function."""
    parts.append(_MESSAGE)
    _append_part(parts, item)


def _append_part(parts: list[bytes], part: Any) -> None:
    if not isinstance(part, dict):
        parts.extend((_PART, _KIND, _JSON, _to_json(part)))
        return
    kind = part.get("type")
    kind = kind if isinstance(kind, str) else ""
    text = part.get("text")
    if kind in _TEXTS and isinstance(text, str):
        parts.append(_PART)
        parts.append(encode_text(text))
    elif kind == "tool_result":
        _append_result(parts, part)
    else:
        _append_object(parts, kind, part)


def _append_result(parts: list[bytes], part: dict[str, Any]) -> None:
    """Append what a tool gave: most of an agent's conversation, so its text stands as it is."""
    content = part.get("content")
    head = {name: value for name, value in part.items() if name not in {"content", _UNSEEN}}
    parts.extend((_PART, _KIND, b"tool_result", _JSON, _to_json(head), _RESULT))
    for item in content if isinstance(content, list) else [content]:
        # A result inside a result would be no request that any server takes, so it is not unfolded further.
        if isinstance(item, dict) and item.get("type") != "tool_result":
            _append_part(parts, item)
        elif isinstance(item, str):
            parts.extend((_PART, encode_text(item)))
        elif item is not None:
            parts.extend((_PART, _KIND, _JSON, _to_json(item)))
    # Without an end, what follows the result could be a part of it.
    parts.append(_RESULT)


def _append_object(parts: list[bytes], kind: str, part: dict[str, Any]) -> None:
    if _UNSEEN in part:
        part = {name: value for name, value in part.items() if name != _UNSEEN}
    data = _to_json(part)
    if len(data) > _LONGEST_MEDIA and kind not in _VERBATIM:
        data = _DIGEST + blake2b(data, digest_size=16).hexdigest().encode()
    parts.extend((_PART, _KIND, encode_text(kind), _JSON, data))


def _to_json(value: Any) -> bytes:
    try:
        return encode_text(_encode_json(value))
    except RecursionError:
        message = "invalid request: nested too deep"
        raise InvalidRequestError(message) from None
