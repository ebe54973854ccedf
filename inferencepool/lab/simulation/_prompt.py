"""Prompts that share beginnings, told by what they share and how long they are."""

from __future__ import annotations

from typing import final

from inferencepool._checks import refusal

__all__ = ["BYTES_PER_TOKEN", "MOST_TOKENS", "Prompt"]

BYTES_PER_TOKEN = 4
"""Bytes of text that a token stands for, as the reference's picker estimates it."""

MOST_TOKENS = 10_000_000
"""The longest prompt that traces and workloads may have."""


@final
class Prompt:
    """
    A prompt, as what it adds to another prompt that it begins with.

    Two prompts begin alike exactly as far as they have ancestors in common, so what they share is known without
    comparing texts. The text is made when it is asked for; what is added by different ids differs within the first few
    tokens. Requests of different models or adapters must not share prompts, since engines do not let them, either.

    Compared by identity. Never changes; a prompt without a parent keeps its text once it was made.

    Attributes:
        parent: The prompt that it begins with; None when it begins with nothing.
        id: Names what it adds, among all prompts with the same parent.
        tokens: Tokens in all, those of the parent included.
        text: What it adds, where that was given as text; None where it is made from the id.
    """

    __slots__ = ("_kept", "id", "parent", "text", "tokens")

    def __init__(self, id: str, tokens: int, parent: Prompt | None = None, text: bytes | None = None) -> None:
        """
        Add to *parent*.

        Args:
            id: Names what is added.
            tokens: How many tokens are added, 1 or more.
            parent: What it begins with.
            text: What is added; None to make `BYTES_PER_TOKEN` bytes for each token.

        Raises:
            ConfigurationError: *tokens* is no whole number of 1 or more.
        """
        if type(tokens) is not int or tokens < 1:
            owner, field = f"prompt {id}", "tokens"
            raise refusal(owner, field, tokens, "is not a whole number of 1 or more")
        self.id = id
        self.parent = parent
        self.tokens: int = tokens if parent is None else parent.tokens + tokens
        self.text = text
        self._kept: bytes | None = None

    @property
    def added_tokens(self) -> int:
        """Tokens that it adds to its parent."""
        return self.tokens if self.parent is None else self.tokens - self.parent.tokens

    def added_text(self) -> bytes:
        """Give the text that it adds to its parent."""
        if self.text is not None:
            return self.text
        if self._kept is not None:
            return self._kept
        length = BYTES_PER_TOKEN * self.added_tokens
        tag = f"{self.id}|".encode()
        made = (tag * (length // len(tag) + 1))[:length]
        if self.parent is None:
            # Many prompts begin with it.
            self._kept = made
        return made

    def to_bytes(self) -> bytes:
        """Give the whole text, in O(length)."""
        parent = self.parent
        if parent is None or parent.parent is None:
            # What most prompts are: a common beginning and something of their own.
            return self.added_text() if parent is None else parent.added_text() + self.added_text()
        parts: list[bytes] = []
        prompt: Prompt | None = self
        while prompt is not None:
            parts.append(prompt.added_text())
            prompt = prompt.parent
        parts.reverse()
        return b"".join(parts)

    def lineage(self) -> list[Prompt]:
        """List it after all that it begins with, the first of them first."""
        found: list[Prompt] = []
        prompt: Prompt | None = self
        while prompt is not None:
            found.append(prompt)
            prompt = prompt.parent
        found.reverse()
        return found

    def __repr__(self) -> str:
        return f"<Prompt {'/'.join(prompt.id for prompt in self.lineage())} of {self.tokens} tokens>"
