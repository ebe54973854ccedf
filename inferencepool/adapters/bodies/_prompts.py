"""
Prompts as bytes: what is the same for the model server's prefix cache is the same here.

The bytes F8 to FF occur in no UTF-8 text, so they mark structure and text stands between them as it is:

====================  ================================================================================================
``FF``                begins a part of a message's content
``FE`` role           begins a message, or, without a role, another item of a conversation
``FC`` kind ``FB``    begins a part that is no text: its kind, then JSON with sorted keys, or ``FA`` and a digest of it
``FD``                begins and ends the content of a tool's result
====================  ================================================================================================

A message's bytes do not depend on those behind it, so conversations that begin alike have a common prefix, and that
prefix ends where their texts begin to differ. A string and a list with that one text are the same content.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import repeat
from typing import Any, final

import attrs

from inferencepool.errors import InvalidRequestError

__all__ = [
    "Piece",
    "PromptParts",
    "append_content",
    "append_item",
    "append_message",
    "append_message_object",
    "append_result_content",
    "append_tools",
    "encode_text",
]

_PART = b"\xff"
_MESSAGE = b"\xfe"
_RESULT = b"\xfd"
_KIND = b"\xfc"
_JSON = b"\xfb"
_DIGEST = b"\xfa"

# A part that holds nothing, of which few bytes make many.
_EMPTY = _PART + _KIND + _JSON + b"{}"

# Fields of a message that are told apart; where it has more, they are one piece, as each by itself takes long.
_MOST_FIELDS = 64
_ROLES = {role: _MESSAGE + role.encode() for role in ("system", "developer", "user", "assistant", "tool")}
_TEXTS = frozenset({"text", "input_text", "output_text"})
# Parts that are long because they hold text that the model reads: their length must count.
_VERBATIM = frozenset({"tool_use", "function_call", "function_call_output", "thinking", "reasoning", "refusal"})
# Media are known by their digest: an image has some hundred tokens, not as many as its bytes would make.
_LONGEST_MEDIA = 256
# Marks of Anthropic's clients for what to cache. They move from one turn to the next and the model never sees them.
_UNSEEN = "cache_control"


@final
@attrs.frozen(eq=False)
class Piece:
    """
    Stands in an object for a value that was not made, because it was read piece by piece.

    Attributes:
        prompt: What it adds to the prompt.
        unread: About how many bytes more it would add that were not read.
        tokens: The token ids, where it is a list of such.
        more: The prompts behind the first, where it is a list of several.
        is_text: Whether it is a string.
        is_list: Whether it is a list of messages, parts or texts.
        is_valid: Whether all of it that was read is what is allowed there; False for a digest, which is of anything.
        count: How many items of the list were read.
    """

    prompt: bytes
    unread: int = 0
    tokens: array[int] | None = None
    more: Sequence[Any] = ()
    is_text: bool = False
    is_list: bool = False
    is_valid: bool = True
    count: int = 0


@final
class PromptParts(list[bytes]):
    """
    What a prompt is put together from.

    What follows a piece that was not read to its end would stand in the wrong place, so it only counts.

    Attributes:
        unread: About how many bytes were not read; more may be appended behind them.
    """

    __slots__ = ("_end", "unread")

    def __init__(self) -> None:
        self.unread = 0
        self._end: int | None = None

    def cut(self, unread: int) -> None:
        """Take note that *unread* bytes were not read here."""
        if unread and self._end is None:
            self._end = len(self)
        self.unread += unread

    def add(self, piece: Piece) -> None:
        """Append *piece*."""
        self.append(piece.prompt)
        self.cut(piece.unread)

    def fold(self, start: int) -> int:
        """Put what was appended from the index *start* on together, if all counts; give how many bytes it has."""
        folded = b"".join(self[start:])
        if self._end is None:
            self[start:] = [folded]
        return len(folded)

    def piece(self, *, is_valid: bool, count: int) -> Piece:
        """Make a piece of all, which are the items of a list."""
        return Piece(*self.joined(), is_list=True, is_valid=is_valid, count=count)

    def joined(self) -> tuple[bytes, int]:
        """Give the prompt as far as it was read, and about how many bytes of it were not."""
        if self._end is None:
            return b"".join(self), self.unread
        return b"".join(self[: self._end]), self.unread + sum(map(len, self[self._end :]))


def _tell_apart(piece: Piece) -> str:
    """Give what stands in JSON for what was not made."""
    return f"{blake2b(piece.prompt, digest_size=16).hexdigest()} {piece.unread}"


# Numbers aside, one value has one text.
_encode_json = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_tell_apart).encode


def encode_text(text: str) -> bytes:
    """Encode *text* as UTF-8; half of a surrogate pair as UTF-8 would encode it if it could."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def append_tools(parts: PromptParts, tools: Any) -> None:
    """Append what the model may call, if anything; chat templates put it in front of all messages."""
    if tools:
        parts.extend((_KIND, b"tools", _JSON, _to_json(tools)))


def append_message(parts: PromptParts, role: str, content: Any, others: Mapping[str, Any] | None = None) -> bool:
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
    head = _ROLES.get(role) or _MESSAGE + encode_text(role)
    if isinstance(content, str):
        parts.extend((head, _PART, encode_text(content)))
    else:
        parts.append(head)
        if not _append_contents(parts, content):
            return False
    if others is not None and len(others) > _MOST_FIELDS:
        named = {name: value for name, value in others.items() if name not in {"role", "content", _UNSEEN}}
        parts.extend((_KIND, _JSON, _to_json(named)))
    elif others is not None and len(others) > 2:  # noqa: PLR2004 - more than the role and the content
        for name in sorted(others):
            value = others[name]
            if value is not None and name not in {"role", "content", _UNSEEN}:
                parts.extend((_KIND, encode_text(name), _JSON, _to_json(value)))
    return True


def append_message_object(parts: PromptParts, message: Any) -> bool:
    """Append what may be an object that is a message, as `append_message` does; tell whether it is one."""
    if not isinstance(message, dict):
        return False
    role = message.get("role", "")
    return isinstance(role, str) and append_message(parts, role, message.get("content"), message)


def _append_contents(parts: PromptParts, content: Any) -> bool:
    """Append the content of a message that is no string; tell whether it is of a kind that is allowed."""
    if isinstance(content, list):
        return all(map(append_content, repeat(parts), content))
    if isinstance(content, Piece):
        if not content.is_valid:
            return False
        if content.is_text:
            parts.append(_PART)
        parts.add(content)
        return True
    return content is None


def append_content(parts: PromptParts, item: Any) -> bool:
    """Append an item of a message's content, an object or a text; tell whether it is one."""
    if not isinstance(item, dict):
        return _append_text(parts, item)
    _append_part(parts, item)
    return True


def _append_text(parts: PromptParts, item: Any) -> bool:
    """Append what may be a text, as a part; tell whether it is one."""
    if isinstance(item, str):
        parts.append(_PART)
        parts.append(encode_text(item))
    elif isinstance(item, Piece) and item.is_text:
        parts.append(_PART)
        parts.add(item)
    else:
        return False
    return True


def append_result_content(parts: PromptParts, item: Any) -> bool:
    """Append an item of what a tool gave, which may be anything; always True."""
    # A result inside a result would be no request that any server takes, so it is not unfolded further.
    if isinstance(item, dict) and item.get("type") != "tool_result":
        _append_part(parts, item)
    elif isinstance(item, Piece) and item.is_list and item.is_valid:
        parts.add(item)
    elif item is not None and not _append_text(parts, item):
        parts.extend((_PART, _KIND, _JSON, _to_json(item)))
    return True


def append_item(parts: PromptParts, item: Any) -> None:
    """Append an item of a conversation that is no message, such as a call of a function."""
    parts.append(_MESSAGE)
    _append_part(parts, item)


def _append_part(parts: PromptParts, part: Any) -> None:
    if not isinstance(part, dict):
        parts.extend((_PART, _KIND, _JSON, _to_json(part)))
        return
    kind = part.get("type")
    kind = kind if isinstance(kind, str) else ""
    if kind in _TEXTS and _append_text(parts, part.get("text")):
        return
    if kind == "tool_result":
        _append_result(parts, part)
    else:
        _append_object(parts, kind, part)


def _append_result(parts: PromptParts, part: dict[str, Any]) -> None:
    """Append what a tool gave: most of an agent's conversation, so its text stands as it is."""
    content = part.get("content")
    head = {name: value for name, value in part.items() if name not in {"content", _UNSEEN}}
    parts.extend((_PART, _KIND, b"tool_result", _JSON, _to_json(head), _RESULT))
    for item in content if isinstance(content, list) else [content]:
        append_result_content(parts, item)
    # Without an end, what follows the result could be a part of it.
    parts.append(_RESULT)


def _append_object(parts: PromptParts, kind: str, part: dict[str, Any]) -> None:
    if not part:
        parts.append(_EMPTY)
        return
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
