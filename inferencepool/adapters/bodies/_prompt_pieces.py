"""Prompts of completions and token ids, where they are too dear to be read whole: piece by piece, as `_pieces` says."""

from __future__ import annotations

from array import array
from typing import Any

import attrs

from inferencepool.adapters.bodies._fields import OBJECTS, TEXTS, read_tokens
from inferencepool.adapters.bodies._pieces import read_list, read_text, read_whole
from inferencepool.adapters.bodies._prompts import Piece, PromptParts, encode_text
from inferencepool.adapters.bodies._scanning import CHUNK, WINDOW, Scanner
from inferencepool.adapters.bodies._steps import Budget, Steps

__all__ = ["read_input", "read_kind", "read_prompt_value", "read_token_ids"]

_BYTES_PER_TOKEN = 4


def read_token_ids(scanner: Scanner, budget: Budget) -> Steps[Any]:
    """Read a list of token ids; any other value as a whole."""
    if scanner.body[scanner.at : scanner.at + 1] != b"[":
        return (yield from read_whole(scanner, budget))
    tokens, unread = yield from _read_tokens(scanner, budget)
    return Piece(b"", max(unread, 0), tokens=tokens, is_valid=unread >= 0)


def read_prompt_value(scanner: Scanner, budget: Budget) -> Steps[Any]:
    """Read a prompt of completions: a string, token ids, or a list of strings or of lists of token ids."""
    opening = yield from _opening(scanner)
    if opening[:1] != b"[":
        return (yield from read_text(scanner, budget))
    if opening == b"[]":
        yield from scanner.skip()
        return []
    is_text = opening[1:2] == b'"'
    if not is_text and opening[1:2] != b"[":
        return (yield from read_token_ids(scanner, budget))
    prompts: list[Any] = []
    cuts = PromptParts()
    size = 0

    def append(_: PromptParts, value: Any) -> bool:
        nonlocal size
        found = _text_of(value) if is_text else read_tokens(value)
        if found is None:
            return False
        prompts.append(found)
        size += len(found) * (1 if is_text else _BYTES_PER_TOKEN)
        cuts.cut((value.unread if isinstance(value, Piece) else 0) + (size >= budget.prompt_bytes))
        return True

    piece = yield from read_list(scanner, budget, cuts, append, read_text if is_text else read_token_ids)
    if not prompts:
        return piece
    given = {"prompt": prompts[0]} if is_text else {"tokens": prompts[0]}
    return attrs.evolve(piece, **given, more=tuple(prompts[1:]))


def _text_of(value: Any) -> bytes | None:
    if isinstance(value, Piece):
        return value.prompt if value.is_text else None
    return encode_text(value) if isinstance(value, str) else None


def read_input(scanner: Scanner, budget: Budget) -> Steps[Any]:
    """Read what is to be embedded: a prompt, or objects, of which nothing more is read."""
    if not (yield from _opening(scanner)).endswith(b"{"):
        return (yield from read_prompt_value(scanner, budget))
    yield from scanner.skip()
    return OBJECTS


def read_kind(scanner: Scanner, budget: Budget) -> Steps[Any]:
    """Read only whether the value is a text or a list of texts."""
    opening, start = (yield from _opening(scanner)), scanner.at
    if opening not in {b'"', b'["'}:
        return (yield from read_whole(scanner, budget))
    yield from scanner.skip()
    return TEXTS if scanner.at - start > len('""') else ""


def _opening(scanner: Scanner) -> Steps[bytes]:
    """Give what the value at this place begins with: up to two brackets of lists and the byte that follows."""
    start, found = scanner.at, b""
    while not found or (found[-1:] == b"[" and len(found) <= 2):  # noqa: PLR2004 - as said
        scanner.at += bool(found)
        following = yield from scanner.spaces()
        if not following:
            break
        found += following
    scanner.at = start
    return found


def _read_tokens(scanner: Scanner, budget: Budget) -> Steps[tuple[array[int], int]]:
    """Read the token ids of the list that begins here; give the bytes of those beyond too, -1 if it holds others."""
    tokens = array("I")
    scanner.at += 1
    unread = 0
    while True:
        start = scanner.at
        counted = len(tokens) * _BYTES_PER_TOKEN >= budget.prompt_bytes
        text, closed = scanner.digits(CHUNK if counted else WINDOW)
        if text is None:
            scanner.at = start
            yield from scanner.rest(1)
            return tokens, -1
        if counted:
            unread += text.count(b",") + 1
        else:
            ids = scanner.decode_text(b"[" + text + b"]", start)
            if not ids and (tokens or not closed):
                scanner.refuse("not JSON", start)
            found = read_tokens(ids)
            if found is None:
                scanner.at = start
                yield from scanner.rest(1)
                return tokens, -1
            tokens.extend(found)
        if closed:
            return tokens, unread * _BYTES_PER_TOKEN
        yield
