"""Remembered header blocks say what hpack's own decoder says, whatever happens to the table between them."""

from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.runtime.grpc._http2 import Http2

NAMES = st.sampled_from([b":path", b"te", b"x-a", b"x-b", b"content-type"])
VALUES = st.sampled_from([b"", b"/service/Method", b"trailers", b"1", b"v" * 70, b"w" * 5000])
KINDS = st.sampled_from([hpack.HeaderTuple, hpack.NeverIndexedHeaderTuple])
HEADERS = st.builds(lambda kind, name, value: kind(name, value), KINDS, NAMES, VALUES)
LISTS = st.lists(HEADERS, max_size=4)
TABLE_SIZES = st.sampled_from([0, 64, 200, 4096])


def make_decoder() -> hpack.Decoder:
    """Make the decoder of a connection."""
    return Http2(streams=1, header_bytes=1 << 20, stream_window=1 << 16, connection_window=1 << 16).decoder


@given(kinds=st.lists(LISTS, min_size=1, max_size=4), order=st.lists(st.integers(0, 3) | TABLE_SIZES, max_size=40))
def test_same_as_the_library(kinds: list[list[hpack.HeaderTuple]], order: list[int]) -> None:
    """Few different lists, sent again and again, with changes of the table's size between them."""
    encoder, plain, ours = hpack.Encoder(), hpack.Decoder(), make_decoder()
    plain.max_header_list_size = 1 << 20
    for step in order:
        if step > len(kinds):
            # To be told of its present size makes the library's encoder forget that a change was not announced yet.
            if step != encoder.header_table_size:
                encoder.header_table_size = step
            continue
        block = encoder.encode(kinds[step % len(kinds)])
        assert list(ours.decode(block, raw=True)) == list(plain.decode(block, raw=True))


def test_what_is_given_may_be_changed() -> None:
    """A caller that changes its list changes no later one."""
    block, decoder = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(b"x-a", b"1")]), make_decoder()
    first = decoder.decode(block, raw=True)
    assert isinstance(first, list)
    first.clear()
    for _ in range(2):
        assert [tuple(header) for header in decoder.decode(block, raw=True)] == [(b"x-a", b"1")]


def test_text_is_not_taken_for_bytes() -> None:
    """What was remembered as bytes is not given to one who asks for text."""
    block, decoder = hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(b"x-a", b"1")]), make_decoder()
    decoder.decode(block, raw=True)
    assert [str(name) for name, _ in decoder.decode(block)] == ["x-a"]
