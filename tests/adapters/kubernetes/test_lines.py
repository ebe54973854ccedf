"""Lines out of pieces."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.kubernetes._lines import LineSplitter

LINES = st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b"x")), max_size=8)


@given(lines=LINES, rest=st.binary(max_size=4).map(lambda line: line.replace(b"\n", b"x")), data=st.data())
def test_the_cut_makes_no_difference(lines: list[bytes], rest: bytes, data: st.DataObject) -> None:
    """However the bytes are cut into pieces, the lines that are not blank come out, and an unfinished one does not."""
    whole = b"".join(line + b"\n" for line in lines) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    splitter = LineSplitter(100)
    found = [
        line
        for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)
        for line in splitter.feed(whole[start:end])
    ]

    assert [line for line in lines if line.strip()] == found


def test_too_long() -> None:
    """A line that does not end is given up, in whatever pieces it comes."""
    splitter = LineSplitter(10)
    assert [b"a" * 12] == splitter.feed(b"a" * 12 + b"\n")
    splitter.feed(b"b" * 10)
    with pytest.raises(ValueError, match="a line has more than 10 bytes"):
        splitter.feed(b"b")
