"""What few bytes of a request may cost."""

from __future__ import annotations

import pytest

from inferencepool.adapters.extproc import decode
from inferencepool.adapters.extproc._messages import RequestHeaders
from inferencepool.adapters.extproc._wire import delimited
from inferencepool.errors import InvalidMessageError


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
        """A request with more than 50,000 fields is refused, wherever they are and whether they mean anything."""
        with pytest.raises(InvalidMessageError, match="more than 50000 fields"):
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
