from __future__ import annotations

from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidRequestError
from inferencepool.model import InferenceRequest
from inferencepool.prefix import PrefixTree, token_bytes

IDS = st.lists(st.integers(0, 2**32 - 1))


@given(ids=IDS, form=st.sampled_from([list, tuple, lambda ids: array("I", ids), lambda ids: array("Q", ids)]))
def test_every_form_gives_the_same_bytes(ids: list[int], form: Any) -> None:
    """Four bytes for each id, in the order of this machine, whatever sequence the ids come in."""
    packed = token_bytes(form(ids))

    assert 4 * len(ids) == len(packed)
    assert ids == list(memoryview(packed).cast("I")) if ids else packed == b""


@given(ids=IDS, others=IDS)
def test_bytes_begin_alike_as_ids_do(ids: list[int], others: list[int]) -> None:
    """In blocks of four bytes a tree matches as many blocks as the ids have in common at their beginning."""
    tree = PrefixTree(block_size=4)
    tree.insert(tree.match(token_bytes(ids)), 0)
    common = next((n for n, pair in enumerate(zip(ids, others, strict=False)) if pair[0] != pair[1]), None)

    assert (min(len(ids), len(others)) if common is None else common) == tree.match(token_bytes(others)).blocks(0)


def test_packed_ids_are_passed_on() -> None:
    """Bytes are the caller's own packing; only their length can be checked."""
    packed = array("I", [7, 8]).tobytes()

    assert token_bytes(packed) is packed
    assert packed == token_bytes(bytearray(packed))
    with pytest.raises(InvalidRequestError, match="prompt_tokens: 7 bytes are not four for each token id"):
        token_bytes(packed[:7])


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, -1], r"prompt_tokens\[1\]: -1 is not a token id, a whole number from 0 to 4294967295"),
        ([2**32], r"prompt_tokens\[0\]: 4294967296 is not a token id"),
        ([1, 2, "3"], r"prompt_tokens\[2\]: '3' is not a token id"),
        ([1.0], r"prompt_tokens\[0\]: 1.0 is not a token id"),
        ("12", r"prompt_tokens\[0\]: '1' is not a token id"),
        (array("d", [1.0]), r"prompt_tokens\[0\]: 1.0 is not a token id"),
        (None, "prompt_tokens: NoneType is not a sequence of token ids"),
        (12, "prompt_tokens: int is not a sequence of token ids"),
        ("", "prompt_tokens: str is not a sequence of token ids"),
    ],
)
def test_refuses_what_is_no_token_id(ids: Any, message: str) -> None:
    """The error names the first id that is wrong, its value and what is allowed."""
    with pytest.raises(InvalidRequestError, match=message):
        token_bytes(ids)


def test_what_is_packed_once_makes_nothing_else_dearer() -> None:
    """Setting what strategies produced, as every pick does, is an assignment and no call."""
    assert object.__setattr__ is InferenceRequest.__setattr__
