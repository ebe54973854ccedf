"""What the headers of a request tell of its body."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["asks_upgrade", "content_length", "opens_tunnel"]

# So many digits no body has.
_LENGTH = re.compile("[0-9]{1,18}")


def content_length(headers: Mapping[str, str]) -> int | None:
    """Read how long the body is to be, in bytes; None where it is not told, or cannot be read."""
    text = headers.get("content-length")
    return int(text) if text is not None and _LENGTH.fullmatch(text) else None


def opens_tunnel(headers: Mapping[str, str]) -> bool:
    """
    Tell whether a request asks for another protocol on its connection, so that what follows is no body and has no end.

    Such are extended CONNECT (RFC 8441), and GET with ``upgrade`` (RFC 6455 section 4.1), as for WebSocket. Servers
    read a request of another method, and one that tells its length or is chunked, as one with a body, whatever it asks
    for. Where the proxy tells no method, a body that is not told is taken for none.
    """
    method = headers.get(":method", "GET")
    if method == "CONNECT":
        return ":protocol" in headers
    if method != "GET" or not asks_upgrade(headers):
        return False
    return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers


def asks_upgrade(headers: Mapping[str, str]) -> bool:
    """Tell whether a request has ``upgrade`` (RFC 9110 section 7.8) that is no mere offer, as ``h2c`` is."""
    upgrade = headers.get("upgrade")
    return upgrade is not None and upgrade.strip().lower() not in ("", "h2c")
