"""JSON documents, one after the other in a text, read as strictly as an API server reads them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from math import isinf
from typing import Any, NoReturn

from inferencepool.cli._input_file import refuse

__all__ = ["MAX_DEPTH", "has_lone_surrogate", "parse_json"]

#: How deep values may be nested.
MAX_DEPTH = 200

_SURROGATE = re.compile("[\ud800-\udfff]")

# Far more than any whole number of an API has.
_MAX_DIGITS = 400


class _DuplicateKeys(dict[str, Any]):
    """An object with a key that is given twice; never leaves this module."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)


def parse_json(text: str, file: str) -> Iterator[Any]:
    """
    Give the JSON documents of *text*.

    Args:
        text: Documents with nothing but white space between them.
        file: Where it comes from, for messages.

    Raises:
        json.JSONDecodeError: The text is not JSON.
        InvalidDocumentError: It is JSON that an API server refuses: a key given twice, NaN or Infinity, a number that
            is too great, half of a surrogate pair, or more depth than `MAX_DEPTH`.
    """
    at, index = _skip_space(text, 0), 1
    while at < len(text):
        source = f"{file}: document {index}"
        value, at = _decode_one(text, at, source)
        yield value
        at, index = _skip_space(text, at), index + 1


def _decode_one(text: str, at: int, source: str) -> tuple[Any, int]:
    def refuse_constant(name: str) -> NoReturn:
        raise refuse(source, f"{name} is not a JSON number")

    def read_float(literal: str) -> float:
        number = float(literal)
        if isinf(number):
            raise refuse(source, f"number {literal[:40]} is too great")
        return number

    def read_integer(literal: str) -> int:
        # Python does not read whole numbers of thousands of digits.
        if len(literal) > _MAX_DIGITS:
            raise refuse(source, f"number {literal[:40]}... is too great")
        return int(literal)

    decoder = json.JSONDecoder(
        object_pairs_hook=_build, parse_constant=refuse_constant, parse_float=read_float, parse_int=read_integer
    )
    try:
        value, end = decoder.raw_decode(text, at)
    except RecursionError:
        raise refuse(source, f"nested deeper than {MAX_DEPTH}") from None
    _inspect(value, source)
    return value, end


def _build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else _DuplicateKeys(pairs)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


# A way from the root: the way to the parent, and the last step.
_Way = tuple[Any, str] | None


def _inspect(value: Any, source: str) -> None:
    """Refuse what the decoder lets pass, in the whole of *value*."""
    level: list[tuple[Any, _Way]] = [(value, None)]
    depth = 0
    while level:
        if depth > MAX_DEPTH:
            raise refuse(source, f"nested deeper than {MAX_DEPTH}")
        below: list[tuple[Any, _Way]] = []
        for each, way in level:
            if isinstance(each, dict):
                if isinstance(each, _DuplicateKeys):
                    raise refuse(source, "key is given twice", _path((way, f".{each.key}")))
                for key, child in each.items():
                    _refuse_surrogates(key, source, way)
                    below.append((child, (way, f".{key}")))
            elif isinstance(each, list):
                below.extend((child, (way, f"[{at}]")) for at, child in enumerate(each))
            else:
                _refuse_surrogates(each, source, way)
        level, depth = below, depth + 1


def _refuse_surrogates(value: Any, source: str, way: _Way) -> None:
    if isinstance(value, str) and has_lone_surrogate(value):
        raise refuse(source, f"half of a surrogate pair in {value!a}", _path(way))


def _path(way: _Way) -> str:
    steps = []
    while way is not None:
        way, step = way
        steps.append(step)
    return "".join(reversed(steps)).removeprefix(".")


def has_lone_surrogate(text: str) -> bool:
    """Tell whether *text* holds half of a surrogate pair, which UTF-8 cannot say."""
    return _SURROGATE.search(text) is not None
