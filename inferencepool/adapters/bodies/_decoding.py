"""From bytes to JSON, with one verdict whichever decoder is installed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

from inferencepool.errors import InvalidRequestError

__all__ = ["BYTE_ORDER_MARK", "LETTERS", "SCAN", "STRING", "Loads", "decode_object", "loads_json"]

Loads = Callable[[bytes], Any]
"""Reads JSON text as ``json.loads`` does. It may refuse more than `loads_json`, which then has the last word."""

#: May stand in front of a body: Python's ``json.loads``, which the engines use, passes over it.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

#: A string in text that need not be checked, and what stands between its quotes.
STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
LETTERS = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)

_KINDS = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number", type(None): "null"}


def _refuse_constant(text: str) -> NoReturn:
    message = f"{text} is not JSON"
    raise ValueError(message)


# What is made of an integer takes time by the square of its digits, and with a limit on them Python refuses it. As a
# number of JSON it is fine, and nobody here reads it.
_LONGEST_INTEGER = 40
_SMALL = 16 << 10
_STRIDE = 64
_DIGITS = bytes.maketrans(b"123456789", b"000000000")


def _make_integer(text: str) -> int | float:
    return int(text) if len(text) <= _LONGEST_INTEGER else float(text)


def _has_long_integers(data: bytes) -> bool:
    """Tell whether *data* is large, and has more than some hundred digits in a row, at the speed of a search."""
    if len(data) <= _SMALL or b"000" not in data[::_STRIDE].translate(_DIGITS):
        return False
    return b"0" * 2 * _STRIDE in data.translate(_DIGITS)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
_PATIENT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_make_integer)

#: Reads the value at an index of a text; gives it and where it ends. Raises StopIteration, ValueError, RecursionError.
SCAN: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]  # not in typeshed


def loads_json(data: bytes) -> Any:
    r"""
    Read JSON text strictly, with the standard library.

    Unlike ``json.loads`` it takes UTF-8 alone and no ``NaN`` or ``Infinity``. Of a key given twice the last value
    counts. Half of a surrogate pair, as the escape ``\ud800``, is allowed, as JSON's grammar allows it. Integers of
    more than 40 digits may be given as floats, infinite ones too.

    Raises:
        ValueError: *data* is not JSON.
        RecursionError: It is nested too deep.
    """
    text = data.decode("utf-8")
    if text.startswith("\ufeff"):
        message = "begins with a byte order mark"
        raise ValueError(message)
    if _has_long_integers(data):
        return _PATIENT_DECODER.decode(text)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return _PATIENT_DECODER.decode(text)


def decode_object(loads: Loads, body: bytes, failure: str) -> dict[str, Any]:
    """
    Read *body* as a JSON object.

    Decoders differ in what they refuse (half of a surrogate pair, numbers out of range) and in what they say. What
    *loads* refuses is therefore read again with `loads_json`, so that nobody can tell which one is installed. A byte
    order mark in front is passed over.

    Args:
        loads: Reads it.
        body: JSON text.
        failure: What a message begins with.

    Raises:
        InvalidRequestError: It is not JSON, no object, or nested too deep.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    try:
        try:
            value = loads(body)
        except (ValueError, RecursionError):
            value = loads_json(body)
    except RecursionError:
        message = f"{failure}: nested too deep"
        raise InvalidRequestError(message) from None
    except UnicodeDecodeError as error:
        message = f"{failure}: not UTF-8 at byte {error.start}"
        raise InvalidRequestError(message) from None
    except ValueError as error:
        message = f"{failure}: {error}"
        raise InvalidRequestError(message) from None
    if not isinstance(value, dict):
        message = f"{failure}: must be an object, not {_KINDS.get(type(value), 'something else')}"
        raise InvalidRequestError(message)
    return value
