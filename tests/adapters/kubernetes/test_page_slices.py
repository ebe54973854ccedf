"""Pages that are decoded a piece at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import loads_json
from inferencepool.adapters.kubernetes._page_slices import PageSlices
from tests.adapters.kubernetes.talking import item, page, reflector_of, told

_MIB = 1024 * 1024


class Counting:
    """Decodes JSON, and notes how many bytes it was given each time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, data: bytes) -> Any:
        """Decode *data*."""
        self.sizes.append(len(data))
        return loads_json(data)


def read_all(body: bytes, max_item: int = 4 * _MIB) -> tuple[list[Any], Any, Counting]:
    """The items, the last document, and what was decoded for them."""
    loads = Counting()
    slices = PageSlices(body, loads, max_item)
    items: list[Any] = []
    document: Any = None
    while not slices.ended:
        document = slices.read()
        items += document["items"] if document is not None else ()
    return items, document, loads


_TEXTS = st.sampled_from(["", '"},{"metadata":', "\\", "]}", '\\"},{', "é"])
_ITEMS = st.builds(
    lambda text, pad, nested: {
        "metadata": {"name": text},
        "pad": text + "x" * pad,
        "nested": [{"metadata": {"a": text}}] * nested,
    },
    _TEXTS,
    st.sampled_from([0, 10_000, 100_000, 300_000]),
    st.integers(0, 3),
)


@given(
    st.lists(_ITEMS, min_size=1, max_size=20),
    st.sampled_from([None, 1]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
    st.booleans(),
)
def test_same_as_at_once(items: list[Any], indent: int | None, separators: tuple[str, str], ends: bool) -> None:
    """However a page is written and whatever is in its items, they are those of the page decoded at once."""
    metadata = {"metadata": {"resourceVersion": "1"}}
    document = {"kind": "List", "items": items, **metadata} if ends else {**metadata, "items": items}
    found, last, _ = read_all(json.dumps(document, indent=indent, separators=separators).encode())

    assert items == found
    assert metadata["metadata"] == last["metadata"]


def test_bytes_at_a_time() -> None:
    """Of a page of any length a bounded number of bytes is decoded in one step, and each about once."""
    body = page(*(item(f"a{number}", "x" * 3000) for number in range(5000)))
    items, _, loads = read_all(body)

    assert 5000 == len(items)
    assert len(body) > 15_000_000
    assert max(loads.sizes) < 270_000
    assert sum(loads.sizes) < 1.01 * len(body)


def test_ends_of_items_within_items() -> None:
    """An item with many parts that look like items costs a bounded number of tries."""
    huge = {"metadata": {}, "parts": [{"metadata": {"x": "y" * 1000}}] * 3000}
    loads = Counting()
    slices = PageSlices(page(*[huge] * 3), loads, 4 * _MIB)
    with pytest.raises(ValueError):  # noqa: PT011, PT012 - whatever the decoder says
        while not slices.ended:
            slices.read()

    assert 16 == len(loads.sizes)
    assert max(loads.sizes) < 300_000


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (page(item("a", "x" * (5 * _MIB)), item("b")), "one of its items has more than 4194304 bytes"),
        (b'{"metadata":{"x":"' + b"x" * 300_000 + b'"},"items":[{"a":1}]}', "no items that begin in the first 65536"),
        (page(*[None] * 100_000), "no items that begin in the first 65536"),
    ],
    ids=["item", "head", "items that are none"],
)
def test_pages_that_cannot_be_cut(body: bytes, expected: str) -> None:
    """They are refused, undecoded, and told."""
    loads = Counting()
    with pytest.raises(ValueError, match=expected):
        PageSlices(body, loads, 4 * _MIB).read()

    assert [] == loads.sizes


def test_page_of_a_reflector() -> None:
    """A reflector reads a long page in many steps, and tells all objects once."""
    reflector = reflector_of(page_size=1000)
    reflector.next_step()
    deltas = reflector.receive_page(page(*(item(f"a{number}", "x" * 3000) for number in range(1000))))
    steps = 1
    while reflector.unread:
        assert [] == deltas
        deltas = reflector.read()
        steps += 1

    assert steps > 10
    assert [{f"a{number}" for number in range(1000)}] == told(deltas)
