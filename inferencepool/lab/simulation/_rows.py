"""The lines of a trace, as far as they were read."""

from __future__ import annotations

import re
from typing import Any, TypeAlias, final

import attrs

from inferencepool.lab.simulation._arrival import DEFAULT_MODEL, Arrival
from inferencepool.lab.simulation._lines import Fields
from inferencepool.lab.simulation._prompt import BYTES_PER_TOKEN, MOST_TOKENS, Prompt
from inferencepool.lab.simulation._texts import prompts_of_texts

__all__ = ["NAMELESS", "TraceRows", "check_length"]

NAMELESS = "#"
"""Begins the ids of parts that have none, and cannot stand in one that is given."""

_ID = re.compile(r"[A-Za-z0-9._:/-]{1,64}")
_ID_RULE = "1 to 64 letters, digits and . _ : / -"

# The model and the adapter: only prompts that agree in both share anything.
_Family: TypeAlias = tuple[str, str]


def check_length(fields: Fields, name: str, tokens: int) -> None:
    """Refuse the field *name* of a prompt that has no tokens, or too many."""
    if not 1 <= tokens <= MOST_TOKENS:
        fields.fail(name, f"has {tokens} tokens, allowed are 1 to {MOST_TOKENS}", tokens)


@attrs.frozen
class _Row:
    """A line whose prompt, if it is a text, was not yet compared with those of other lines."""

    at: float
    family: _Family
    prompt: Prompt | bytes
    output_tokens: int
    session: str
    answer: Prompt | None


@final
class TraceRows:
    """Takes the lines of a trace one by one, and remembers what prompts have in common."""

    def __init__(self) -> None:
        """Begin without any."""
        self._rows: list[_Row] = []
        # By what a part follows, and its id: the prompt that ends with it, and the line that it was first in.
        self._parts: dict[tuple[Prompt | _Family, str], tuple[Prompt, int]] = {}
        self._line = 0

    def add(self, number: int, fields: Fields) -> None:
        """
        Take line *number*.

        Raises:
            WrongLineError: Something in it is not as it should be.
        """
        self._line = number
        fields.only("at", "prompt", "output_tokens", "model", "adapter", "session", "answer")
        at = fields.number("at", "seconds")
        if self._rows and at < self._rows[-1].at:
            fields.refuse("at", f"{self._rows[-1].at:g} or later, the time of the request before")
        family = (fields.text("model") or DEFAULT_MODEL, fields.text("adapter"))
        output_tokens = fields.count("output_tokens")
        prompt = self._prompt(fields, family)
        answer = self._answer(fields, prompt)
        self._rows.append(_Row(at, family, prompt, output_tokens, fields.text("session"), answer))

    def arrivals(self) -> tuple[Arrival, ...]:
        """Give the requests of all lines."""
        texts: dict[_Family, set[bytes]] = {}
        for row in self._rows:
            if isinstance(row.prompt, bytes):
                texts.setdefault(row.family, set()).add(row.prompt)
        prompts = {family: prompts_of_texts(found) for family, found in texts.items()}
        return tuple(
            Arrival(
                row.at,
                prompts[row.family][row.prompt] if isinstance(row.prompt, bytes) else row.prompt,
                row.output_tokens,
                model=row.family[0],
                adapter=row.family[1],
                session=row.session,
                answer=row.answer,
            )
            for row in self._rows
        )

    def _prompt(self, fields: Fields, family: _Family) -> Prompt | bytes:
        value = fields.get("prompt")
        if isinstance(value, str):
            text = fields.text("prompt").encode()
            check_length(fields, "prompt", -(-len(text) // BYTES_PER_TOKEN))
            return text
        if type(value) is int:
            check_length(fields, "prompt", value)
            return Prompt(self._nameless(0), value)
        if not (isinstance(value, list) and value):
            fields.refuse("prompt", "a text, a number of tokens, or a list of one or more parts")
        prompt = self._part(fields, value[0], 0, None, family)
        for index, part in enumerate(value[1:], 1):
            prompt = self._part(fields, part, index, prompt, family)
        check_length(fields, "prompt", prompt.tokens)
        return prompt

    def _part(self, fields: Fields, value: Any, index: int, parent: Prompt | None, family: _Family) -> Prompt:
        path = f"prompt[{index}]"
        if not isinstance(value, dict):
            fields.fail(path, f"{value!r} is not an object with id and tokens", value)
        part = Fields(value, path)
        part.only("id", "tokens")
        if "id" not in part:
            return Prompt(self._nameless(index), part.count("tokens"), parent)
        return self._known(part, "id", "tokens", parent if parent is not None else family)

    def _answer(self, fields: Fields, prompt: Prompt | bytes) -> Prompt | None:
        if "answer" not in fields:
            return None
        if isinstance(prompt, bytes):
            fields.refuse("answer", "given beside a prompt that is a text")
        return self._known(fields, "answer", "output_tokens", prompt)

    def _known(self, fields: Fields, id_field: str, tokens_field: str, after: Prompt | _Family) -> Prompt:
        """Give the part that two fields tell the id and the length of."""
        name, tokens = fields.get(id_field), fields.count(tokens_field)
        if not (isinstance(name, str) and _ID.fullmatch(name)):
            fields.refuse(id_field, _ID_RULE)
        if (after, name) not in self._parts:
            parent = after if isinstance(after, Prompt) else None
            self._parts[after, name] = Prompt(name, tokens, parent), self._line
        prompt, line = self._parts[after, name]
        if prompt.added_tokens != tokens:
            fields.refuse(tokens_field, f"the length of part {name!r} in line {line}, {prompt.added_tokens}")
        return prompt

    def _nameless(self, index: int) -> str:
        return f"{NAMELESS}{self._line}.{index}"
