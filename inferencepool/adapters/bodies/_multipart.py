"""
Fields of ``multipart/form-data``, as audio is sent for transcription.

Read as Starlette and python-multipart read them, with which the engines are built: the body begins with its boundary,
and the last field of a name counts. Versions differ in what they make of odd heads, such as names in the extended form
that RFC 7578, section 4.2, forbids; a form is read only where all of them find the same fields, or refuse it.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from inferencepool.adapters.bodies._steps import Steps
from inferencepool.errors import InvalidRequestError

__all__ = ["FORM_MARK", "Fields", "insert_field", "is_form", "read_fields", "usual_charset"]

#: What the body of a form begins with, and no JSON does.
FORM_MARK: Final = b"--"

Fields = dict[str, tuple[str, tuple[int, int]]]
"""By name: the value of a field, and where it begins and ends."""

_LINE = b"\r\n"
_LONGEST_BOUNDARY = 200
_LONGEST_HEAD = 1 << 13
_LONGEST_VALUE = 1 << 12
# Starlette takes no more fields and files than this of each.
_MOST_PARTS = 2_000
_STRIDE = 1 << 20

_DISPOSITION = re.compile(rb"(?:\A|\r\n)content-disposition:((?:[^\r]++|\r(?!\n))*+)", re.IGNORECASE)
_TOKEN = rb"[!#-'*+\-.0-9A-Z^-z|~]++"
# Some readers take a backslash in front of the last quote for an escape, whatever is in front of it.
_QUOTED = rb'"(?:[^"\\]++|\\.)*+(?<!\\)"'
# Whatever no reader takes for something else than a text, such as quotes, escapes and angle brackets.
_UNQUOTED = rb"[ \t!#-:=-\[\]-~]*+"
_PARAMETER = re.compile(rb";[ \t]*+(%b)[ \t]*+=[ \t]*+(%b[ \t]*+|%b)" % (_TOKEN, _QUOTED, _UNQUOTED), re.DOTALL)
# Clients write two or three parameters.
_USUAL = re.compile(rb"[ \t]*+%b[ \t]*+(?:%b){0,64}+(?:;[ \t]*+)?+" % (_TOKEN, _PARAMETER.pattern), re.DOTALL)
# Charset, language, and what may be escaped by percent signs: RFC 2231, section 4.
_EXTENDED = re.compile(rb"[0-9A-Za-z_-]*+'[0-9A-Za-z-]*+'([0-9A-Za-z_.%\[\]-]*+)")
_UTF8 = re.compile(r""".*;[ \t]*charset[ \t]*=[ \t]*("?)utf-?8\1[ \t]*(?:;.*)?""")


def is_form(content_type: str) -> bool:
    """Tell whether servers take a body with the header ``content-type`` for a form."""
    return "multipart/" in content_type.lower()


def usual_charset(content_type: str) -> bool:
    """Tell whether *content_type*, that of a form, leaves names and values in UTF-8."""
    text = content_type.lower()
    return "charset" not in text or (text.count("charset") == 1 and _UTF8.fullmatch(text) is not None)


def read_fields(body: bytes, names: frozenset[str]) -> Steps[Fields | None]:
    """
    Find the fields of *names*, in steps of a MiB or some parts; files are none.

    Returns:
        The value of each, and where it begins and ends; None where *body* is no form, or too odd a one: readers differ
        about its heads, one is longer than 8 KiB or a value than 4 KiB, or there are more than 2,000 parts.
    """
    boundary = _boundary(body)
    if boundary is None:
        return None
    delimiter = _LINE + boundary
    found: Fields = {}
    at = len(boundary)
    for _ in range(_MOST_PARTS):
        if body[at : at + 2] == b"--":
            return found
        start = body.find(_LINE * 2, at, at + _LONGEST_HEAD)
        if body[at : at + 2] != _LINE or start < 0:
            return None
        name = _name_of(body[at + 2 : start])
        start += 4
        end = yield from _find(body, delimiter, start)
        if name is None or end < 0 or (name in names and end - start > _LONGEST_VALUE):
            return None
        if name in names:
            found[name] = _decode(body[start:end]), (start, end)
        at = end + len(delimiter)
        yield
    return None


def insert_field(body: bytes, name: str, value: bytes, span: tuple[int, int]) -> tuple[bytes | memoryview, ...]:
    """
    Put *value* where *span* is, or in a field *name* in front of all others if that is empty; in pieces.

    Raises:
        InvalidRequestError: *body* is no form, or *value* cannot stand in one.
    """
    boundary = _boundary(body)
    if boundary is None or b"\r" in value or b"\n" in value:
        message = f"invalid request: the {name} cannot be written in this form"
        raise InvalidRequestError(message)
    text = memoryview(body)
    start, end = span
    if end:
        return text[:start], value, text[end:]
    head = b'\r\nContent-Disposition: form-data; name="%b"\r\n\r\n' % name.encode()
    return boundary, head, value, _LINE, text


def _boundary(body: bytes) -> bytes | None:
    """Give the boundary with its two dashes: the first line."""
    end = body.find(_LINE, 0, _LONGEST_BOUNDARY)
    return body[:end] if end > len(FORM_MARK) and body.startswith(FORM_MARK) else None


def _find(body: bytes, delimiter: bytes, at: int) -> Steps[int]:
    """Find *delimiter*; -1 where there is none."""
    while at < len(body):
        found = body.find(delimiter, at, at + _STRIDE + len(delimiter))
        if found >= 0:
            return found
        at += _STRIDE
        yield
    return -1


def _name_of(head: bytes) -> str | None:
    """Give the name of a field by the header lines of its part; empty for a file, None where readers differ."""
    values = _DISPOSITION.findall(head)
    if not values:
        return ""
    if len(values) > 1 or not _USUAL.fullmatch(values[0]):
        return None
    parameters = [(key.lower(), text.strip(b" \t")) for key, text in _PARAMETER.findall(values[0])]
    named = [_unpack(key, text) for key, text in parameters if key == b"name" or key.startswith(b"name*")]
    if len(named) > 1 or None in named:
        return None
    is_file = any(key == b"filename" for key, _ in parameters)
    return _decode(named[0]) if named and named[0] is not None and not is_file else ""


def _unpack(key: bytes, text: bytes) -> bytes | None:
    """Take a name out of its quotes or of its extended form; None where readers differ in what they find there."""
    if key == b"name":
        return None if b"\\" in text else text.strip(b'"')
    found = _EXTENDED.fullmatch(text) if key == b"name*" else None
    return None if found is None else unquote_to_bytes(found[1])


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
