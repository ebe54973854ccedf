"""Prompts that share prefixes, and the spaces they belong to."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import strategies as st

__all__ = ["blocks_of", "outlines", "prompts", "spaces"]


def outlines(most: int = 10) -> st.SearchStrategy[str]:
    """Draw a prompt of up to *most* blocks, a letter for each; there are few, so that many prompts begin alike."""
    return st.text("aaab", max_size=most)


def blocks_of(outline: str, block_size: int) -> bytes:
    """Write a prompt out."""
    return b"".join(letter.encode() * block_size for letter in outline)


@st.composite
def prompts(draw: st.DrawFn, block_size: int) -> bytes:
    """Draw a prompt that may end within a block."""
    return blocks_of(draw(outlines()), block_size) + b"a" * draw(st.integers(0, block_size - 1))


def spaces() -> st.SearchStrategy[Hashable]:
    """Draw one of few spaces."""
    return st.sampled_from([(), ("llama", ""), ("llama", "salt")])
