"""From a record of the standard library's ``logging`` to one line."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeAlias

__all__ = ["FIELDS", "JsonLineFormatter", "LogFormat", "TextLineFormatter", "values_of"]

#: The attribute of a record that holds its fields.
FIELDS = "fields"

_MAX_TEXT = 2_000
_MAX_ITEMS = 50
_MAX_TRACEBACK = 20_000
_RESERVED = ("time", "level", "event")
# What needs no quotes in a text line.
_BARE = re.compile(r"[^\s\"=\\]+")

Plain: TypeAlias = str | int | float | bool | None


class LogFormat(StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


class JsonLineFormatter(logging.Formatter):
    """
    Makes each record one JSON object in one line, in ASCII.

    It has ``time`` (UTC, RFC 3339, in milliseconds), ``level`` (``info``, ``warning``, ``error``, ...), ``event``, and
    the record's fields. Long texts are cut, with their length told; so a line stays short whatever a client sends.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Make the line, without a line break."""
        return json.dumps(values_of(record), separators=(",", ":"), allow_nan=False)


class TextLineFormatter(logging.Formatter):
    """
    Makes each record one line of ``key=value`` pairs, with the same content as `JsonLineFormatter`.

    Values with spaces, quotes or unprintable characters stand in double quotes, escaped as in Python.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Make the line, without a line break."""
        return " ".join(f"{name}={_to_text(value)}" for name, value in values_of(record).items())


def values_of(record: logging.LogRecord) -> dict[str, Plain | list[Plain]]:
    """Give what a line tells of *record*, in order and ready for JSON. Never raises."""
    try:
        event = record.getMessage()
    except Exception:  # noqa: BLE001 - what a caller formats wrongly must not stop the caller
        event = str(record.msg)
    moment = datetime.fromtimestamp(record.created, UTC)
    values: dict[str, Plain | list[Plain]] = {
        "time": f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z",
        "level": record.levelname.lower(),
        "event": _plain_text(event, _MAX_TEXT),
    }
    fields = getattr(record, FIELDS, None)
    if isinstance(fields, Mapping):
        for name, value in fields.items():
            values[f"{name}_" if name in _RESERVED else str(name)] = _plain(value)
    else:
        values["logger"] = record.name
    if record.exc_info:
        values["exception"] = _plain_text(logging.Formatter().formatException(record.exc_info), _MAX_TRACEBACK)
    return values


def _plain(value: Any) -> Plain | list[Plain]:
    if isinstance(value, list | tuple):
        items: list[Plain] = [_plain_one(item) for item in value[:_MAX_ITEMS]]
        return [*items, f"... ({len(value)} items)"] if len(value) > _MAX_ITEMS else items
    return _plain_one(value)


def _plain_one(value: Any) -> Plain:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, bytes):
        # Decoding megabytes to show the first few would be waste.
        return _plain_text(value[: _MAX_TEXT + 1].decode(errors="backslashreplace"), _MAX_TEXT, len(value))
    if type(value) is int and value.bit_length() <= 64:  # noqa: PLR2004 - more than most readers of JSON take
        return value
    if type(value) is float and math.isfinite(value):
        return value
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 - whatever a value is, the line is written
        text = f"<{type(value).__name__}>"
    return _plain_text(text, _MAX_TEXT)


def _plain_text(text: str, most: int, length: int | None = None) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({length or len(text)} characters)"


def _to_text(value: Plain | list[Plain]) -> str:
    if isinstance(value, list):
        value = ",".join(item if isinstance(item, str) else json.dumps(item) for item in value)
    if not isinstance(value, str):
        return json.dumps(value)
    if _BARE.fullmatch(value) and value.isprintable():
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        escaped = "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in escaped
        )
    return f'"{escaped}"'
