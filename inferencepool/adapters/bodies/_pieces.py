"""
What is too dear to be made whole: read piece by piece, as far as prefixes are matched.

A body with few values is read as a whole, and what it means is said in terms of the object that comes of it. Of a body
with many, `read_object` makes the same object, in which a `Piece` stands for each value that takes long: what it adds
to the prompt, and how much it would have added beyond what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from inferencepool.adapters.bodies._decoding import BYTE_ORDER_MARK, Loads, decode_object
from inferencepool.adapters.bodies._prompts import (
    Piece,
    PromptParts,
    append_content,
    append_result_content,
    encode_text,
)
from inferencepool.adapters.bodies._scanning import CHUNK, MISSING, WINDOW, Scanner
from inferencepool.adapters.bodies._steps import Budget, Steps

__all__ = [
    "Document",
    "Reader",
    "is_cheap",
    "member_kinds",
    "read_content",
    "read_list",
    "read_messages",
    "read_object",
    "read_text",
    "read_whole",
    "whole_object",
]

_TINY = 2 << 10
_SMALL = 16 << 10
_MEDIUM = 1 << 17
_LARGE = 1 << 20
# Objects take longest to be made into what is compared, and the shortest bodies have most of them.
_MOST_OBJECTS = 1_000
# Brackets that open something: up to `_FEW` leave room for any text about them, more than `_MOST` are never cheap.
_FEW = 1_024
_MOST = 8_192
_MOST_COMMAS = 16_384


Reader = Callable[[Scanner, Budget], Steps[Any]]
"""Reads a value that does not end within the window."""


Document = tuple[dict[str, Any], tuple[int, int] | None]
"""
The members of a JSON object that are of interest, and where the value of ``model`` begins and ends; (0, 0) where there
is none, and None where nobody looked.
"""


def is_cheap(body: bytes, start: int = 0, end: int | None = None) -> bool:
    """Tell whether the JSON text from *start* to *end* has so few values that it may be read in one go."""
    size = (len(body) if end is None else end) - start
    if size <= _TINY:
        return True
    if size > _LARGE:
        return False
    text = body if size == len(body) else body[start:end]
    objects = _count(text, b"{", _MOST_OBJECTS)
    if objects > _MOST_OBJECTS or size <= _SMALL:
        return objects <= _MOST_OBJECTS
    opened = objects + _count(text, b"[", _MOST)
    if opened > _FEW:
        return opened <= _MOST and _count(text, b",", _MOST - opened) <= _MOST - opened
    # Texts of people are full of commas, so these are counted only where what is counted may be much.
    return size <= _MEDIUM or _count(text, b",", _MOST_COMMAS) <= _MOST_COMMAS


def _count(text: bytes, mark: bytes, most: int) -> int:
    """Count the bytes *mark*, up to one more than *most*."""
    # To leave them out is several times as fast as `bytes.count`, which looks at each byte and does not stop.
    return len(text) - len(text.replace(mark, b"", most + 1))


def whole_object(loads: Loads, body: bytes, failure: str) -> Document | None:
    """
    Read a JSON object in one go, if it is cheap.

    Raises:
        InvalidRequestError: It is no object, or cannot be read.
    """
    return (decode_object(loads, body, failure), None) if is_cheap(body) else None


def read_object(
    body: bytes, wanted: frozenset[str], readers: Mapping[str, Reader], budget: Budget, failure: str
) -> Steps[Document]:
    """
    Read a JSON object in steps.

    Args:
        body: The object.
        wanted: Names of the members that are of interest.
        readers: Who reads those of them that may be dear.
        budget: How much to read.
        failure: What a message begins with.

    Raises:
        InvalidRequestError: It is no object, or cannot be read.
    """
    scanner = Scanner(body, failure)
    scanner.at = len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0
    if (yield from scanner.spaces()) != b"{":
        scanner.refuse("must be an object: expected {")
    spans: dict[str, tuple[int, int]] = {}
    members = yield from _read_members(scanner, budget, readers, wanted, spans)
    if (yield from scanner.spaces()) or scanner.at < len(body):
        scanner.refuse("something follows the object")
    return members, spans.get("model", (0, 0))


def member_kinds(body: bytes, names: frozenset[str]) -> Steps[dict[str, bytes]]:
    """
    Tell which members of *names* a JSON object has, and the first byte of the value of each.

    Raises:
        InvalidRequestError: It is no object, or cannot be read.
    """
    scanner = Scanner(body, "")
    scanner.at = len(BYTE_ORDER_MARK) if body.startswith(BYTE_ORDER_MARK) else 0
    if (yield from scanner.spaces()) != b"{":
        scanner.refuse("must be an object")
    spans: dict[str, tuple[int, int]] = {}
    yield from _read_members(scanner, Budget(), dict.fromkeys(names, _skip), names, spans)
    return {name: body[start : start + 1] for name, (start, _) in spans.items()}


def _read_members(
    scanner: Scanner,
    budget: Budget,
    readers: Mapping[str, Reader],
    wanted: frozenset[str] | None = None,
    spans: dict[str, tuple[int, int]] | None = None,
) -> Steps[dict[str, Any]]:
    """Read the object that begins here. All of its members are of interest where *wanted* is None."""
    members: dict[str, Any] = {}
    spans = {} if spans is None else spans
    scanner.at += 1
    if (yield from scanner.spaces()) == b"}":
        scanner.at += 1
        return members
    paused = scanner.at
    while True:
        if wanted is not None:
            yield from _take_simple(scanner, budget, readers, wanted, members, spans)
        name = scanner.key()
        if name is MISSING:
            name = yield from scanner.long_key()
        start = scanner.at
        value = scanner.value()
        is_wanted = wanted is None or name in wanted
        if value is MISSING:
            read = readers.get(name, read_whole) if is_wanted else _skip
            value = yield from read(scanner, budget)
        if is_wanted:
            members[name] = value
            spans[name] = start, scanner.at
        if not scanner.goes_on(scanner.mark() or (yield from scanner.long_mark()), "}"):
            return members
        if scanner.at - paused >= WINDOW:
            paused = scanner.at
            yield


def _take_simple(
    scanner: Scanner,
    budget: Budget,
    readers: Mapping[str, Reader],
    wanted: frozenset[str],
    members: dict[str, Any],
    spans: dict[str, tuple[int, int]],
) -> Steps[None]:
    """Read members as long as they are simple, of which there may be any number."""
    while found := scanner.members():
        after = scanner.at
        for name, scanner.at in found:
            if name in wanted:
                start = scanner.at
                value = scanner.value()
                members[name] = (
                    (yield from readers.get(name, read_whole)(scanner, budget)) if value is MISSING else value
                )
                spans[name] = start, scanner.at
        scanner.at = after
        yield


def read_list(
    scanner: Scanner,
    budget: Budget,
    parts: PromptParts,
    append: Callable[[PromptParts, Any], bool],
    read: Reader,
) -> Steps[Piece]:
    """
    Read the list that begins here, as far as the budget goes.

    Args:
        scanner: Where it is.
        budget: How far to read.
        parts: What comes of it.
        append: Appends an item to *parts*; tells whether it is allowed.
        read: Reads items that do not end within the window.
    """
    scanner.at += 1
    if (yield from scanner.spaces()) == b"]":
        scanner.at += 1
        return parts.piece(is_valid=True, count=0)
    good, size, count = True, 0, 0
    while True:
        paused, seen = scanner.at, len(parts)
        # Mostly all are small and can be made together, but for the last.
        for value in scanner.objects():
            count += 1
            if not (good := append(parts, value)):
                break
        while good and (scanner.at == paused or scanner.at - paused < WINDOW // 2):
            value = scanner.value()
            if value is MISSING:
                value = yield from read(scanner, budget)
            count += 1
            good = append(parts, value)
            if not scanner.goes_on(scanner.mark() or (yield from scanner.long_mark()), "]"):
                budget.values -= count
                return parts.piece(is_valid=good, count=count)
        size += parts.fold(seen)
        if not good or parts.unread or size >= budget.prompt_bytes or count >= budget.values:
            start = scanner.at
            yield from scanner.rest(1)
            parts.cut(scanner.at - start)
            budget.values -= count
            return parts.piece(is_valid=good, count=count)
        yield


def _skip(scanner: Scanner, budget: Budget) -> Steps[Any]:  # noqa: ARG001 - a reader
    """Read nothing of a value."""
    yield from scanner.skip()


def read_whole(scanner: Scanner, budget: Budget) -> Steps[Any]:  # noqa: ARG001 - a reader
    """Read any value: as it is if it is cheap, else as a digest of its text."""
    start, end = yield from scanner.skip()
    if is_cheap(scanner.body, start, end):
        return scanner.decode(start, end)
    digest = blake2b(digest_size=16)
    view = memoryview(scanner.body)
    for at in range(start, end, CHUNK):
        digest.update(view[at : min(at + CHUNK, end)])
        yield
    return Piece(digest.hexdigest().encode(), is_valid=False)


def read_text(scanner: Scanner, budget: Budget) -> Steps[Any]:
    """Read a string as far as the budget goes; any other value as a whole."""
    body = scanner.body
    if body[scanner.at : scanner.at + 1] != b'"':
        return (yield from read_whole(scanner, budget))
    scanner.at += 1
    texts: list[bytes] = []
    size = 0
    while size < budget.prompt_bytes:
        text = scanner.letters()
        if not text:
            return Piece(b"".join(texts), is_text=True)
        texts.append(encode_text(text))
        size += len(texts[-1])
        yield
    start = scanner.at
    yield from scanner.string()
    return Piece(b"".join(texts), scanner.at - 1 - start, is_text=True)


def _read_part(scanner: Scanner, budget: Budget) -> Steps[Any]:
    if scanner.body[scanner.at : scanner.at + 1] != b"{":
        return (yield from read_text(scanner, budget))
    return (yield from _read_members(scanner, budget, _PART_READERS))


def _read_message(scanner: Scanner, budget: Budget) -> Steps[Any]:
    if scanner.body[scanner.at : scanner.at + 1] != b"{":
        return (yield from read_whole(scanner, budget))
    return (yield from _read_members(scanner, budget, _MESSAGE_READERS))


def read_content(scanner: Scanner, budget: Budget) -> Steps[Any]:
    """Read the content of a message: a string or parts."""
    return (yield from _read_parts(scanner, budget, append_content))


def _read_result(scanner: Scanner, budget: Budget) -> Steps[Any]:
    return (yield from _read_parts(scanner, budget, append_result_content))


def _read_parts(scanner: Scanner, budget: Budget, append: Callable[[PromptParts, Any], bool]) -> Steps[Any]:
    if scanner.body[scanner.at : scanner.at + 1] != b"[":
        return (yield from read_text(scanner, budget))
    return (yield from read_list(scanner, budget, PromptParts(), append, _read_part))


def read_messages(append: Callable[[PromptParts, Any], bool]) -> Reader:
    """Make a reader of a list of messages, or of a text, where *append* takes a message."""

    def read(scanner: Scanner, budget: Budget) -> Steps[Any]:
        if scanner.body[scanner.at : scanner.at + 1] != b"[":
            return (yield from read_text(scanner, budget))
        return (yield from read_list(scanner, budget, PromptParts(), append, _read_message))

    return read


_PART_READERS: Mapping[str, Reader] = {"text": read_text, "content": _read_result}
_MESSAGE_READERS: Mapping[str, Reader] = {"text": read_text, "content": read_content}
