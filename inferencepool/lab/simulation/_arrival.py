"""A request that comes at some time: what workloads and traces are made of."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import attrs

from inferencepool._checks import refusal
from inferencepool.lab.simulation._prompt import Prompt

__all__ = ["DEFAULT_MODEL", "Arrival"]

DEFAULT_MODEL = "base"
"""The model of requests that name none."""


_OWNER = "arrival"


@attrs.frozen
class Arrival:
    """
    A request that comes at some time.

    Attributes:
        at: When it comes, in seconds from the beginning.
        prompt: Its prompt.
        output_tokens: Tokens of its answer, 1 or more.
        model: The model that it asks for, if no adapter.
        adapter: The LoRA adapter that it asks for; empty for none.
        session: Sent as header ``x-session-id``; empty for none.
        answer: Its prompt with its answer, if prompts to come begin with it.
        then: Is given the time when its answer is complete, and gives what its client sends next, at that time or
            later; None where nothing follows. A trace does not keep it.

    Raises:
        ConfigurationError: A field holds a value that cannot be; the message names it.
    """

    at: float
    prompt: Prompt
    output_tokens: int
    model: str = DEFAULT_MODEL
    adapter: str = ""
    session: str = ""
    answer: Prompt | None = None
    then: Callable[[float], Arrival | None] | None = attrs.field(default=None, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.at < inf:
            raise refusal(_OWNER, "at", self.at, "is not a finite number of 0 or more")
        if type(self.output_tokens) is not int or self.output_tokens < 1:
            raise refusal(_OWNER, "output_tokens", self.output_tokens, "is not a whole number of 1 or more")
        answer = self.answer
        if answer is not None and (answer.parent is not self.prompt or answer.added_tokens != self.output_tokens):
            raise refusal(_OWNER, "answer", answer, f"is not the prompt with {self.output_tokens} tokens added to it")
