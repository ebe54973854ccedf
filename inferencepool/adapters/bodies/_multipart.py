"""
Fields of ``multipart/form-data``, as audio is sent for transcription.

Read as Starlette reads them, with which the engines are built: the body begins with its boundary, the last field of a
name counts, and names may be written in every way that the headers of mails allow.
"""

from __future__ import annotations

from email.message import Message
from typing import Final

from inferencepool.adapters.bodies._steps import Steps
from inferencepool.errors import InvalidRequestError

__all__ = ["FORM_MARK", "Fields", "insert_field", "read_fields"]

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


def read_fields(body: bytes, names: frozenset[str]) -> Steps[Fields | None]:
    """
    Find the fields of *names*, in steps of a MiB or some parts; files and values above 4 KiB are none.

    Returns:
        The value of each, and where it begins and ends; None where *body* is no form, or too odd a one.
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
        if end < 0:
            return None
        if name in names and end - start <= _LONGEST_VALUE:
            found[name] = body[start:end].decode("utf-8", "replace"), (start, end)
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


def _name_of(head: bytes) -> str:
    """Give the name of a field by the header lines of its part; empty for a file."""
    for line in head.split(_LINE):
        key, _, value = line.partition(b":")
        if key.strip().lower() == b"content-disposition":
            parsed = Message()
            parsed["content-disposition"] = value.decode("latin-1").strip()
            if parsed.get_param("filename", header="content-disposition") is not None:
                return ""
            name = parsed.get_param("name", "", header="content-disposition")
            return name if isinstance(name, str) else name[2]
    return ""
