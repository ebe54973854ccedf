"""
Traces in the format that the Mooncake project published some of its traffic in.

Each line has ``timestamp`` in milliseconds, ``input_length`` and ``output_length`` in tokens, and ``hash_ids``: an id
for each 512 tokens of the prompt, which stands for these and all tokens before them. ``session_id`` and ``model`` may
stand beside them.
"""

from __future__ import annotations

from itertools import count
from typing import final

import attrs

from inferencepool.lab.simulation._arrival import DEFAULT_MODEL, Arrival
from inferencepool.lab.simulation._lines import Fields
from inferencepool.lab.simulation._prompt import Prompt
from inferencepool.lab.simulation._rows import NAMELESS, check_length
from inferencepool.lab.simulation._texts import prompts_of_keys

__all__ = ["MooncakeRows"]

_TOKENS = 512
_BYTES = 8
_MOST_ID = 2 ** (8 * _BYTES) - 1


@attrs.frozen
class _Row:
    """A line. The key of a prompt is made of the ids of its full blocks."""

    at: float
    key: bytes
    rest_tokens: int
    output_tokens: int
    model: str
    session: str


@final
class MooncakeRows:
    """
    Takes the lines of a trace one by one.

    Prompts share full blocks only: what is left after the last full one is taken to be shared by nobody.
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._rows: list[_Row] = []

    def add(self, _number: int, fields: Fields) -> None:
        """
        Take a line.

        Raises:
            WrongLineError: Something in it is not as it should be.
        """
        fields.only("timestamp", "input_length", "output_length", "hash_ids", "session_id", "model")
        at = fields.number("timestamp", "milliseconds") / 1000
        if self._rows and at < self._rows[-1].at:
            fields.refuse("timestamp", f"{self._rows[-1].at * 1000:g} or later, the time of the request before")
        tokens = fields.count("input_length")
        check_length(fields, "input_length", tokens)
        key = self._key(fields, tokens)
        rest = tokens - len(key) // _BYTES * _TOKENS
        model = fields.text("model") or DEFAULT_MODEL
        self._rows.append(_Row(at, key, rest, fields.count("output_length"), model, fields.text("session_id")))

    def arrivals(self) -> tuple[Arrival, ...]:
        """Give the requests of all lines."""
        keys: dict[str, set[bytes]] = {}
        for row in self._rows:
            keys.setdefault(row.model, set()).add(row.key)
        prompts = {model: _prompts(found - {b""}) for model, found in keys.items()}
        return tuple(
            Arrival(
                row.at,
                self._prompt(number, row, prompts[row.model].get(row.key)),
                row.output_tokens,
                model=row.model,
                session=row.session,
            )
            for number, row in enumerate(self._rows)
        )

    @staticmethod
    def _prompt(number: int, row: _Row, blocks: Prompt | None) -> Prompt:
        if blocks is not None and not row.rest_tokens:
            return blocks
        return Prompt(f"{NAMELESS}{number}", row.rest_tokens, blocks)

    @staticmethod
    def _key(fields: Fields, tokens: int) -> bytes:
        ids = fields.get("hash_ids")
        if not isinstance(ids, list):
            fields.refuse("hash_ids", "a list of whole numbers")
        least = tokens // _TOKENS
        if not least <= len(ids) <= least + 1:
            fields.fail("hash_ids", f"has {len(ids)} ids, allowed is one for each {_TOKENS} tokens, {least}", ids)
        for index, each in enumerate(ids):
            if type(each) is not int or not 0 <= each <= _MOST_ID:
                fields.fail(f"hash_ids[{index}]", f"{each!r} is not a whole number from 0 to {_MOST_ID}", each)
        return b"".join(each.to_bytes(_BYTES) for each in ids[:least])


def _prompts(keys: set[bytes]) -> dict[bytes, Prompt]:
    numbers = count()

    def make(added: bytes, parent: Prompt | None) -> Prompt:
        return Prompt(f"blocks-{next(numbers)}", len(added) // _BYTES * _TOKENS, parent)

    return prompts_of_keys(keys, _BYTES, make)
