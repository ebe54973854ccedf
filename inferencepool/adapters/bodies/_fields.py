"""Fields that several kinds of body share."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from inferencepool.adapters.bodies._prompts import Piece, PromptParts, encode_text

__all__ = [
    "GREATEST_COUNT",
    "OBJECTS",
    "TEXTS",
    "Prompt",
    "append_all",
    "holds_objects",
    "holds_texts",
    "is_list",
    "is_text",
    "read_count",
    "read_flag",
    "read_model",
    "read_prompt",
    "read_salt",
    "read_tokens",
]

#: Greatest number of tokens.
GREATEST_COUNT = 2**63 - 1
# As pydantic 2 reads them in its lax mode.
_YES = frozenset({"1", "on", "t", "true", "y", "yes"})
_WHOLE = re.compile(r"[^\S\x1c-\x1f]*+[+-]?(?:0[0_]*(?=[0-9]))?[0-9]++(?:_[0-9]++)*+(?:\.0++)?[^\S\x1c-\x1f]*+")
_LONGEST_NUMBER = 4_300
_ONE, _ZERO = array("I", [1]).tobytes(), array("I", [0]).tobytes()
# How many ones and zeros are looked at one by one before all types are compared instead.
_LOOKS = 16


#: Stand for values of which only the kind was read: objects or lists of such, and texts or lists of such.
OBJECTS, TEXTS = Piece(b"", is_valid=False), Piece(b"", is_valid=False)


class Prompt(NamedTuple):
    """
    A prompt, as text or as tokens.

    Attributes:
        text: The prompt as bytes.
        tokens: The prompt as token ids; None where it is text.
        unread: About how many bytes more it has that were not read.
        more: The prompts behind the first, as text or as tokens as that.
    """

    text: bytes = b""
    tokens: Sequence[int] | None = None
    unread: int = 0
    more: Sequence[Any] = ()

    @classmethod
    def of(cls, parts: PromptParts) -> Prompt:
        """Put *parts* together."""
        text, unread = parts.joined()
        return cls(text, None, unread)


def read_model(document: dict[str, Any]) -> str | None:
    """Read the model; one that is no string is none."""
    model = document.get("model")
    return model if isinstance(model, str) else None


def read_salt(document: dict[str, Any]) -> str:
    """Read the cache salt; one that is no string is none."""
    salt = document.get("cache_salt")
    return salt if isinstance(salt, str) else ""


def read_flag(value: Any) -> bool:
    """Read a flag as the engines do: pydantic takes 1 and words such as ``yes`` and ``on`` in any case for true."""
    if isinstance(value, str):
        return value.lower() in _YES
    return isinstance(value, int | float) and value == 1


def read_count(value: Any) -> int | None:
    """
    Read a number of tokens as the engines do: pydantic takes ``5.0`` and ``"5"`` for 5, and true for 1.

    What is negative, no whole number or no number says nothing.
    """
    if isinstance(value, str):
        if len(value) > _LONGEST_NUMBER or not _WHOLE.fullmatch(value):
            return None
        value = int(value.partition(".")[0].replace("_", ""))
    elif isinstance(value, float):
        value = int(value) if value.is_integer() else None
    return int(value) if isinstance(value, int) and 0 <= value <= GREATEST_COUNT else None


def read_tokens(value: Any) -> Sequence[int] | None:
    """Read a list of token ids, whole numbers from 0 to 2^32 - 1; None when it is none or empty."""
    if isinstance(value, Piece):
        return value.tokens if value.is_valid else None
    if not isinstance(value, list) or not value:
        return None
    try:
        tokens = array("I", value)
    except (TypeError, OverflowError):
        return None
    return None if _holds_boolean(value, tokens.tobytes()) else tokens


def _holds_boolean(values: list[Any], packed: bytes) -> bool:
    """Tell whether one of *values*, which are numbers or booleans, is a boolean. *packed* holds 4 bytes for each."""
    for pattern in (_ONE, _ZERO):
        at = packed.find(pattern)
        for _ in range(_LOOKS):
            if at < 0:
                break
            if at % 4 == 0 and isinstance(values[at // 4], bool):
                return True
            at = packed.find(pattern, at + 1)
        else:
            return bool in set(map(type, values))
    return False


def read_prompt(value: Any) -> Prompt | None:
    """
    Read a prompt: a string, a list of strings, a list of token ids, or a list of such lists.

    Returns:
        Text or tokens; None when it is empty or nothing of these.
    """
    if isinstance(value, str):
        return Prompt(encode_text(value)) if value else None
    if isinstance(value, Piece):
        given = value.is_valid and (value.count or value.unread or value.tokens or value.prompt)
        return Prompt(value.prompt, value.tokens, value.unread, value.more) if given else None
    return _read_prompts(value) if isinstance(value, list) and value else None


def _read_prompts(values: list[Any]) -> Prompt | None:
    first = values[0]
    if isinstance(first, str):
        if not all(isinstance(text, str) for text in values):
            return None
        return Prompt(encode_text(first), more=tuple(map(encode_text, values[1:])))
    if not isinstance(first, list):
        tokens = read_tokens(values)
        return None if tokens is None else Prompt(tokens=tokens)
    lists = [read_tokens(ids) for ids in values]
    return None if None in lists else Prompt(tokens=lists[0], more=lists[1:])


def holds_objects(value: Any) -> bool:
    """Tell whether *value* is an object, a list of objects, or a list of lists of such, going by the first."""
    for _ in range(2):
        if isinstance(value, list) and value:
            value = value[0]
    return isinstance(value, dict) or value is OBJECTS


def holds_texts(value: Any) -> bool:
    """Tell whether *value* is a string that is not empty, or a list of strings, going by the first."""
    if isinstance(value, list):
        return bool(value) and isinstance(value[0], str)
    return value is TEXTS or (isinstance(value, str) and bool(value))


def is_text(value: Any) -> bool:
    """Tell whether *value* is a string, or was one."""
    return isinstance(value, str) or (isinstance(value, Piece) and value.is_text)


def is_list(value: Any) -> bool:
    """Tell whether *value* is a list, or was one."""
    return isinstance(value, list) or (isinstance(value, Piece) and value.is_list)


def append_all(parts: PromptParts, values: Any, append: Callable[[PromptParts, Any], bool]) -> bool:
    """Append all of *values*; tell whether they are a list, not empty, and *append* took each."""
    if isinstance(values, Piece):
        parts.add(values)
        return values.is_list and values.is_valid and values.count > 0
    return isinstance(values, list) and bool(values) and all(map(append, repeat(parts), values))
