"""Prompts that share prefixes, and the spaces they belong to."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import strategies as st

__all__ = ["prompts", "spaces"]


@st.composite
def prompts(draw: st.DrawFn, block_size: int, most: int = 10) -> bytes:
    """Draw a prompt of up to *most* blocks; there are few different blocks, so that many prompts begin alike."""
    letters = draw(st.text("aaab", max_size=most))
    rest = draw(st.integers(0, block_size - 1))
    return b"".join(letter.encode() * block_size for letter in letters) + b"a" * rest


def spaces() -> st.SearchStrategy[Hashable]:
    """Draw one of few spaces."""
    return st.sampled_from([(), ("llama", ""), ("llama", "salt")])
