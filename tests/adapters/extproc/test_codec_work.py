"""What few bytes of a request may cost."""

from __future__ import annotations

import pytest

from inferencepool.adapters.extproc import decode
from inferencepool.adapters.extproc._messages import RequestHeaders
from inferencepool.adapters.extproc._wire import delimited
from inferencepool.errors import InvalidMessageError
from tests.adapters.extproc.sessions import ask, head, make_bench, routing_of, subset


class TestWork:
    """Few bytes cannot take long, whatever they are."""

    @pytest.mark.parametrize(
        "data",
        [
            b"\x78\x00" * 60_000,
            b"\x22\x02\x10\x01" * 60_000,
            b"\x5a\x02\x08\x01" * 60_000,
            delimited(0x12, b"\x78\x00" * 60_000),
            delimited(0x12, delimited(0x0A, b"\x0a\x00" * 60_000)),
            delimited(0x12, delimited(0x0A, b"\x0a\x05\x0a\x00\x1a\x01a" * 60_000)),
            delimited(0x12, delimited(0x0A, delimited(0x0A, b"\x0a\x00" * 60_000))),
            delimited(0x12, delimited(0x0A, b"\x0a\x00" * 20_000) * 9),
            delimited(0x32, b"\x78\x00" * 60_000),
            delimited(0x42, b"\x78\x00" * 60_000),
            b"\x42\x02\x78\x00" * 60_000,
        ],
    )
    def test_fields_are_counted(self, data: bytes) -> None:
        """A request with more than 25,000 fields is refused, wherever they are and whether they mean anything."""
        with pytest.raises(InvalidMessageError, match="more than 25000 fields"):
            decode(data)

    def test_metadata_in_many_parts(self) -> None:
        """Metadata that comes in many parts is put together without copying it for each."""
        parts = [delimited(0x42, delimited(0x0A, delimited(0x0A, b"n%d" % number))) for number in range(5_000)]
        request = decode(delimited(0x12) + b"".join(parts))

        assert isinstance(request, RequestHeaders)
        assert {f"n{number}": {} for number in range(5_000)} == request.metadata
        again = decode(delimited(0x12) + parts[0])
        assert isinstance(again, RequestHeaders)
        assert {"n0": {}} == again.metadata


@pytest.mark.parametrize("is_text", [True, False])
def test_subset_hints_are_bounded(is_text: bool) -> None:
    """Ten thousand endpoints may be named, in a text or in a list; more is refused, and never left aside."""
    names = ["10.0.0.1:8000", *(f"192.0.2.{number % 250}:{number}" for number in range(9_999))]
    allowed, more = (",".join(names), ",".join([*names, "x"])) if is_text else (names, [*names, "x"])
    bench = make_bench()

    assert "10.0.0.1:8000" == routing_of(ask(bench, head(end=True, metadata=subset(allowed)))[1]).destination
    with pytest.raises(InvalidMessageError, match="names more than 10000 endpoints"):
        ask(bench, head(end=True, metadata=subset(more)))


def test_the_longest_list_is_decoded() -> None:
    """Of a subset hint, beside the headers of a request."""
    value = delimited(0x32, delimited(0x0A, delimited(0x1A, b"10.0.0.1:8000")) * 9_990)
    hint = delimited(0x0A, delimited(0x0A, b"endpoints"), delimited(0x12, value))
    metadata = delimited(0x42, delimited(0x0A, delimited(0x0A, b"envoy.lb.subset_hint"), delimited(0x12, hint)))
    request = decode(delimited(0x12, delimited(0x0A, delimited(0x0A, b"\x0a\x01a\x1a\x01b") * 100)) + metadata)

    assert isinstance(request, RequestHeaders)
    assert 9_990 == len(request.metadata["envoy.lb.subset_hint"]["endpoints"])
