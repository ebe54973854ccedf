"""How far a watch has come, and whether the server that is to go on from there still is the one that said so."""

from __future__ import annotations

from typing import Final, final

import attrs

__all__ = ["Position"]

# Answers to a watch that say nothing against the resource version it began with.
_VERSION_STANDS: Final = (None, 401, 403, 429, 500, 502, 503)
# After so many failures in a row the server is no longer taken for the one that gave the resource version.
_FAILURES_TO_LIST: Final = 3


@final
@attrs.define
class Position:
    """
    Where a watch goes on. Not thread-safe.

    A server takes a resource version that it has not come to yet for one of the future, and waits in silence until it
    has. So a server that was restored from a backup looks like one where nothing happens, until it has come as far
    again: then it goes on, and what was deleted in between is never told. After a watch that broke the server is
    therefore asked how far it is before it is watched from here again.

    Attributes:
        version: The resource version; None where a list must say it.
        doubtful: Whether the server must be asked first.
    """

    version: str | None = None
    doubtful: bool = False

    def begin(self, version: str) -> None:
        """Begin at what a list said."""
        self.version, self.doubtful = version, False

    def doubt(self, status: int | None, failures: int) -> None:
        """
        Hear that a watch, or the question how far the server is, failed with *status*.

        Args:
            status: HTTP status; None where there was no answer.
            failures: How many failures there are in a row with this one.
        """
        self.doubtful = True
        if status not in _VERSION_STANDS or is_another_server(failures):
            self.version = None

    def confirm(self, version: str) -> None:
        """
        Hear that the server is at *version*; one that is behind, or cannot be compared, has another past.

        Versions of the API's own kinds are whole numbers that grow, as Kubernetes 1.35 warrants.
        """
        self.doubtful = False
        known, told = (_number(text) for text in (self.version or "", version))
        if known is None or told is None or told < known:
            self.version = None


def is_another_server(failures: int) -> bool:
    """Tell whether after *failures* in a row the server may well be another one."""
    return failures >= _FAILURES_TO_LIST


def _number(version: str) -> int | None:
    return int(version) if version.isascii() and version.isdigit() else None
