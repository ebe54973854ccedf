"""What a simulated model server remembers of a request, for tests."""

from __future__ import annotations

from typing import Any

import attrs

__all__ = ["ReceivedRequest"]


@attrs.frozen(kw_only=True)
class ReceivedRequest:
    """
    A request as it arrived.

    Attributes:
        method: Such as ``POST``.
        path: With the query.
        headers: Names, in lower case, and values, in order; repeated ones are repeated.
        length: Bytes of the body.
        sha256: Hash of the body, in hexadecimal.
    """

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    length: int
    sha256: str

    def header(self, name: str) -> str | None:
        """Give the first value of a header, or None if it is absent; case does not matter."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def to_dict(self) -> dict[str, Any]:
        """Give it as plain dicts and lists, ready for JSON."""
        headers = [list(pair) for pair in self.headers]
        return {
            "method": self.method,
            "path": self.path,
            "headers": headers,
            "length": self.length,
            "sha256": self.sha256,
        }
