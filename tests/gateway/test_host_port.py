"""Addresses with a port, as text."""

from __future__ import annotations

from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.gateway import HostPort


@pytest.mark.parametrize(
    ("text", "host", "port", "is_ip"),
    [
        ("10.0.0.1:80", "10.0.0.1", 80, True),
        ("[fd00::1]:0", "fd00::1", 0, True),
        ("[FD00:0::1]:65535", "fd00::1", 65535, True),
        ("epp.default.svc:9002", "epp.default.svc", 9002, False),
        ("under_score.:1", "under_score.", 1, False),
        ("1password:1", "1password", 1, False),
    ],
)
def test_text_is_read(text: str, host: str, port: int, *, is_ip: bool) -> None:
    """IPv4, IPv6 in brackets and names are read, addresses in their usual spelling, and written the same way."""
    read = HostPort.parse(text)

    assert (host, port, is_ip) == (read.host, read.port, read.is_ip)
    assert read == HostPort.parse(str(read))


@pytest.mark.parametrize(
    "text",
    ["", ":", ":80", "a", "a:", "a:b", "a:-1", "a:65536", "a:\u0661", "fd00::1:80", "[fd00::1]", "[10.0.0.1]:80",
     "[x]:80", "10.0.0.300:80", "10.0.0:80", "a b:80", "-a:80", f"{'a' * 64}:80", f"{'a.' * 127}a:80", "a..b:80", "http://a:80"],
)  # fmt: skip
def test_other_text_is_refused(text: str) -> None:
    """The error shows the text."""
    with pytest.raises(ConfigurationError) as raised:
        HostPort.parse(text)

    assert str(raised.value).startswith(repr(text))


@pytest.mark.parametrize(("host", "port", "field"), [(7, 80, "host"), ("a", "80", "port"), ("a", True, "port")])
def test_wrong_types_are_refused(host: Any, port: Any, field: str) -> None:
    """The error names the part."""
    with pytest.raises(ConfigurationError, match=f"^{field}: "):
        HostPort(host, port)
