"""Work that is done in steps, with other work between them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

import attrs

__all__ = ["PROMPT_BYTES", "Budget", "Steps", "finished"]

#: How much of a prompt is read, in bytes, by default: as much as the default prefix index matches.
PROMPT_BYTES: Final = 512 << 10

_Found = TypeVar("_Found")
Steps = Generator[None, None, _Found]
"""Work in steps, each bounded, that gives something in the end."""


@attrs.define
class Budget:
    """
    How much of one body is read for its prompt. Whoever drives the reading may lower it on the way.

    Attributes:
        prompt_bytes: About how many bytes of the prompt are made; token ids count four each. Bodies that are read in
            one go may give more.
        plain_bytes: Most bytes that a compressed body may have once it is unpacked.
        unpacked: How many bytes a compressed body has so far; whoever reads it counts them here.
        values: How many messages, parts and the like are made into objects, where a body is not read in one go.
    """

    prompt_bytes: int = PROMPT_BYTES
    plain_bytes: int = 64 << 20
    unpacked: int = 0
    values: int = 32_768


def finished(steps: Steps[_Found]) -> _Found:
    """Do all *steps* at once; give what they give in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: _Found = end.value
            return found
