"""Fields that several kinds of body share."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any

from inferencepool.adapters.bodies._prompts import encode_text, to_prompt

__all__ = ["read_count", "read_model", "read_prompt", "read_salt", "read_tokens"]

_GREATEST_COUNT = 2**63 - 1
_ONE, _ZERO = array("I", [1]).tobytes(), array("I", [0]).tobytes()
# How many ones and zeros are looked at one by one before all types are compared instead.
_LOOKS = 16


def read_model(document: dict[str, Any]) -> str | None:
    """Read the model; one that is no string is none."""
    model = document.get("model")
    return model if isinstance(model, str) else None


def read_salt(document: dict[str, Any]) -> str:
    """Read the cache salt; one that is no string is none."""
    salt = document.get("cache_salt")
    return salt if isinstance(salt, str) else ""


def read_count(value: Any) -> int | None:
    """Read a number of tokens; what is negative, no whole number or no number says nothing."""
    return value if type(value) is int and 0 <= value <= _GREATEST_COUNT else None


def read_tokens(value: Any) -> Sequence[int] | None:
    """Read a list of token ids, whole numbers from 0 to 2^32 - 1; None when it is none or empty."""
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


def read_prompt(value: Any) -> tuple[bytes, Sequence[int] | None] | None:
    """
    Read a prompt: a string, a list of strings, a list of token ids, or a list of such lists.

    Returns:
        Bytes and tokens, of which one is given; None when it is empty or nothing of these.
    """
    if isinstance(value, str):
        return (encode_text(value), None) if value else None
    if not isinstance(value, list) or not value:
        return None
    first = value[0]
    if isinstance(first, str):
        return (to_prompt(value), None) if all(isinstance(text, str) for text in value) else None
    if isinstance(first, list):
        if not all(isinstance(tokens, list) and tokens for tokens in value):
            return None
        value = list(chain.from_iterable(value))
    tokens = read_tokens(value)
    return None if tokens is None else (b"", tokens)
