"""What every prefix index offers, and what it answers with."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

import attrs

from inferencepool.errors import ConfigurationError, InvalidRequestError, StrategyError
from inferencepool.model import EndpointSet

__all__ = [
    "PrefixIndex",
    "PrefixMatch",
    "PrefixStatistics",
    "checked_count",
    "checked_slot",
    "foreign_match",
    "not_bytes",
]


@attrs.define(eq=False)
class PrefixMatch:
    """
    How much of one prompt is believed to be cached, and where.

    Made once per request, so it is not frozen; nothing changes it. It is meant to live as long as the request: it keeps
    what the index needs to insert the prompt later, the prompt itself included.

    Attributes:
        total: Blocks in the prompt, those beyond the index's `max_match` left out; 0 where it is shorter than a block.
        levels: Pairs of a number of blocks, 1 to *total*, and the set of all slots that hold at least so many of the
            prompt's leading blocks. Deepest first; every set has all members of the one before it and more. Empty where
            nobody holds anything.
    """

    total: int
    levels: Sequence[tuple[int, EndpointSet]]

    def blocks(self, slot: int) -> int:
        """Tell how many leading blocks *slot* holds, 0 to *total*; O(levels)."""
        return next((blocks for blocks, holders in self.levels if holders >> slot & 1), 0)


@attrs.frozen(kw_only=True)
class PrefixStatistics:
    """
    How much a prefix index holds, and how often it knew something.

    Attributes:
        spaces: Separate prefix spaces, such as models, adapters and cache salts, that hold anything.
        nodes: Pieces that the blocks are kept in.
        blocks: Different blocks that are kept, however many endpoints hold them.
        prompts: Prompt ends that are remembered, summed over endpoints.
        endpoints: Endpoints that hold anything.
        held: Blocks held, summed over endpoints.
        bytes: Memory that this takes, estimated.
        hits: Lookups in which some endpoint held at least one block.
        misses: Lookups of at least one block in which no endpoint held any.
        evicted: Blocks forgotten for want of room, summed over endpoints; endpoints that left do not count.
    """

    spaces: int
    nodes: int
    blocks: int
    prompts: int
    endpoints: int
    held: int
    bytes: int
    hits: int
    misses: int
    evicted: int


class PrefixIndex(Protocol):
    """
    **Protocol:** remembers which prompts were sent where, and tells for a new prompt who holds how much of it.

    Prompts are compared in whole blocks of bytes. Prompts of different *spaces* never match: a space is what engines
    keep apart, such as the tuple of model, adapter and cache salt, and whether the prompt is text or token ids.

    Thread-safe: every call does its work at once and as a whole.
    """

    @property
    def block_size(self) -> int:
        """Bytes in a block."""
        ...

    def match(self, prompt: bytes, space: Hashable = ()) -> PrefixMatch:
        """
        Tell who holds how many leading blocks of *prompt*.

        Raises:
            InvalidRequestError: *prompt* is no bytes object.
        """
        ...

    def insert(self, match: PrefixMatch, slot: int) -> None:
        """
        Remember that the prompt of *match* went to *slot*.

        Does nothing where *slot* was removed after *match* was made: then the prompt went to an endpoint that is gone.

        Raises:
            StrategyError: *match* was made by another index, or *slot* is no slot.
        """
        ...

    def remove(self, slot: int) -> None:
        """
        Forget everything about *slot*, its capacity included, because its endpoint is gone.

        Call it again when the slot is given to another endpoint: a pick that began before the endpoint went, and that
        looked its prompt up afterwards, may have inserted since.
        """
        ...

    def set_capacity(self, slot: int, blocks: int | None) -> None:
        """
        Say how many blocks *slot* has room for, such as what its engine reports; None for the default.

        Raises:
            ConfigurationError: *blocks* is negative or no whole number.
            StrategyError: *slot* is no slot.
        """
        ...

    def statistics(self) -> PrefixStatistics:
        """Count what is held; O(endpoints)."""
        ...


def checked_count(index: str, parameter: str, value: int, least: int) -> int:
    """Pass on a whole number of *least* or more."""
    if type(value) is not int or value < least:
        message = f"{index}: {parameter}: {value!r} is not a whole number of {least} or more"
        raise ConfigurationError(message)
    return value


def checked_slot(index: str, slot: int) -> int:
    """Pass on a number that can be a slot."""
    if type(slot) is not int or slot < 0:
        message = f"{index}: slot: {slot!r} is not a whole number of 0 or more"
        raise StrategyError(message)
    return slot


def not_bytes(prompt: object) -> InvalidRequestError:
    """Word the error for a prompt that is not bytes: anything else compares by other rules, or may change later."""
    return InvalidRequestError(f"prompt: {type(prompt).__name__} is not bytes")


def foreign_match(index: str, match: object) -> StrategyError:
    """Word the error for a match that another index made, or that is none."""
    return StrategyError(f"{index}: match: {match!r} was made by another index")
