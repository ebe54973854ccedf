"""Prompts of texts: what texts have in common becomes a prompt that they begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count, groupby

from inferencepool.lab.simulation._prompt import BYTES_PER_TOKEN, Prompt

__all__ = ["prompts_of_keys", "prompts_of_texts"]


def prompts_of_texts(texts: Iterable[bytes]) -> dict[bytes, Prompt]:
    """
    Make the prompts of *texts*, none of them empty.

    Two of them share what they have in common, in whole tokens of `BYTES_PER_TOKEN` bytes. Takes O(bytes log texts).
    """
    numbers = count()

    def make(added: bytes, parent: Prompt | None) -> Prompt:
        return Prompt(str(next(numbers)), -(-len(added) // BYTES_PER_TOKEN), parent, added)

    return prompts_of_keys(texts, BYTES_PER_TOKEN, make)


def prompts_of_keys(
    keys: Iterable[bytes], unit: int, make: Callable[[bytes, Prompt | None], Prompt]
) -> dict[bytes, Prompt]:
    """
    Make the prompts that *keys* stand for, none of them empty.

    Args:
        keys: What tells prompts apart.
        unit: Bytes of a key that belong together: keys have in common what they have so many times.
        make: Makes the prompt of what is added to another one.
    """
    prompts: dict[bytes, Prompt] = {}
    # Keys that agree from a depth on by a unit or more, in order, with the prompt for what they have before it.
    pending: list[tuple[Sequence[bytes], int, Prompt | None]] = [
        (list(group), 0, None) for group in _split(sorted(set(keys)), 0, unit)
    ]
    while pending:
        group, depth, parent = pending.pop()
        first = group[0]
        end = len(first) if len(group) == 1 else _common(first, group[-1], unit)
        prompt = make(first[depth:end], parent)
        if len(first) == end:
            prompts[first] = prompt
            group = group[1:]
        pending += [(list(part), end, prompt) for part in _split(group, end, unit)]
    return prompts


def _split(keys: Sequence[bytes], depth: int, unit: int) -> Iterator[Iterator[bytes]]:
    """Split *keys*, in order, by their unit at *depth*."""
    return (part for _, part in groupby(keys, lambda key: key[depth : depth + unit]))


def _common(first: bytes, second: bytes, unit: int) -> int:
    """Count the bytes that two keys have in common at their beginning, in whole units."""
    known, most = 0, min(len(first), len(second)) // unit
    while known < most:
        middle = (known + most + 1) // 2
        if second.startswith(first[known * unit : middle * unit], known * unit):
            known = middle
        else:
            most = middle - 1
    return known * unit
