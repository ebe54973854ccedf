"""Another model in a body, and not one other byte changed."""

from __future__ import annotations

import json
import re

from inferencepool.adapters.bodies._decoding import STRING
from inferencepool.adapters.bodies._multipart import FORM_MARK, Fields, insert_field, read_fields
from inferencepool.adapters.bodies._steps import finished
from inferencepool.errors import InvalidRequestError

__all__ = ["rewrite_model", "splice_model"]

# The key `"model"` and its colon, each letter as it is or as an escape. With a backslash in front, the first quote is a
# part of some string; looking back comes second because a search for a fixed first character is 30 times as fast.
_KEY = re.compile(
    rb'"(?<!\\")'
    rb"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"
    rb'"[ \t\r\n]*:[ \t\r\n]*'
)
_PLAIN = re.compile(rb"[^ \t\r\n,}\]]+")
_BRACKET = re.compile(rb'[\[{]|[\]}]|"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_FIELD = frozenset({"model"})
_OPENING = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\{[ \t\r\n]*")


def rewrite_model(body: bytes, model: str, span: tuple[int, int] | None = None) -> bytes:
    """
    Put *model* in the place of the value of the key ``model``; where there is none, at the beginning.

    Only the key of the object itself counts, not those of objects inside; of several the last, as for decoders. All
    other bytes stay as they are: order, space, numbers and escapes. It takes time in proportion to the length.

    In a form (``multipart/form-data``) it is the value of the field ``model``.

    Args:
        body: A JSON object, or a form, which a parser of this package has read.
        model: The model's name.
        span: Where the value begins and ends, as `ParsedBody.model_span` has it: (0, 0) for a body without one, and
            None if it has to be looked for.

    Raises:
        InvalidRequestError: *body* does not begin as an object does, and is no form that *model* can stand in.
    """
    return b"".join(splice_model(body, model, span))


def splice_model(body: bytes, model: str, span: tuple[int, int] | None = None) -> tuple[bytes | memoryview, ...]:
    """Do what `rewrite_model` does, and give the result in pieces, which copies nothing of *body*."""
    if body.startswith(FORM_MARK):
        if span is None:
            fields: Fields | None = finished(read_fields(body, _FIELD))
            _, span = (fields or {}).get("model", ("", (0, 0)))
        return insert_field(body, "model", model.encode("utf-8", "replace"), span)
    opening = _OPENING.match(body)
    if opening is None:
        message = "invalid request: the model can be rewritten only in a JSON object"
        raise InvalidRequestError(message)
    value = json.dumps(model).encode()
    if span is None:
        span = _find_value(body) or (0, 0)
    start, end = span
    text = memoryview(body)
    if not end:
        at = opening.end()
        comma = b"" if body[at : at + 1] == b"}" else b","
        at = body.index(b"{") + 1
        return text[:at], b'"model":', value, comma, text[at:]
    return text[:start], value, text[end:]


def _find_value(body: bytes) -> tuple[int, int] | None:
    """Find where the value begins and ends; None when there is none."""
    start = None
    at = depth = 0
    for key in _KEY.finditer(body):
        depth += _nesting(body[at : key.start()])
        at = key.start()
        if depth == 1:
            start = key.end()
    return None if start is None else (start, _end_of_value(body, start))


def _nesting(text: bytes) -> int:
    """Tell how many more brackets *text* opens than it closes, where it begins and ends outside of strings."""
    # Without escapes a quote is the end of a string or its beginning, so every second piece is outside of strings.
    pieces = text.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
    outside = b"".join(pieces[::2])
    return outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")


def _end_of_value(body: bytes, start: int) -> int:
    if body[start : start + 1] not in {b"{", b"["}:
        found = STRING.match(body, start) or _PLAIN.match(body, start)
        return start if found is None else found.end()
    depth = 0
    for token in _BRACKET.finditer(body, start):
        first = body[token.start()]
        depth += (first in b"[{") - (first in b"]}")
        if not depth:
            return token.end()
    return len(body)
