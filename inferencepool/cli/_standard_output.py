"""Standard output that was closed before the command started."""

from __future__ import annotations

import errno
import os

__all__ = ["MissingOutput"]


class MissingOutput:
    """
    Stands for standard output where there is none: what is written is an error, told by the write.

    Python itself would pass over it in silence. No file is opened in its place: its number may belong to something else
    by then.
    """

    encoding = "utf-8"

    def write(self, text: str) -> int:
        """
        Refuse *text*, if there is any.

        Raises:
            OSError: There is.
        """
        return self.fileno() if text else 0

    def flush(self) -> None:
        """Do nothing: nothing was kept."""

    @staticmethod
    def fileno() -> int:
        """
        Refuse: there is none.

        Raises:
            OSError: Always.
        """
        raise OSError(errno.EBADF, os.strerror(errno.EBADF), "standard output")

    @staticmethod
    def isatty() -> bool:
        """Tell that nobody sees it."""
        return False
