"""Noticing that a file changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from math import isfinite
from pathlib import Path
from typing import NoReturn, final

from inferencepool.errors import ConfigurationError, InvalidDocumentError
from inferencepool.runtime.files._reading import read_file

__all__ = ["FileWatcher"]

# Device, inode, size, and the times of the last changes of content and of the inode; None without the file.
_Stamp = tuple[int, int, int, int, int] | None


@final
class FileWatcher:
    """
    Follows the content of a file, by looking at it every interval.

    It sees all ways in which files change: written in place, removed and made again, replaced by a rename, and the
    links of a mounted ConfigMap that turn to another directory. What is handed over is the content of one moment; a
    writer that wants no reader to see half of it renames a finished file into place.

    The file is read when its inode, size or times differ from those of the last look, and once more at the look after
    that: clocks of file systems are coarse, and a second change may leave all of them as they were.

    One task at a time may use it. Looking and reading block the event loop for as long as the file system takes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        limit: int,
        on_change: Callable[[bytes], Awaitable[object]],
        on_problem: Callable[[InvalidDocumentError], object] | None = None,
        on_recovery: Callable[[], object] | None = None,
        interval: float = 1.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """
        Follow *path*; nothing is read yet.

        Args:
            path: The file; it need not exist.
            limit: The most bytes that it may have.
            on_change: Gets the content whenever it is another than the one before. The next look waits for it.
            on_problem: Is told when the file cannot be read: once, until it can or the reason is another.
            on_recovery: Is told when it can be read again, before *on_change* is.
            interval: Seconds between two looks; more than 0.
            sleep: Waits for a number of seconds.

        Raises:
            ConfigurationError: *interval* or *limit* is not allowed.
        """
        if not (isfinite(interval) and interval > 0):
            message = f"file watcher: interval: {interval!r} is not a finite number of seconds above 0"
            raise ConfigurationError(message)
        if limit < 1:
            message = f"file watcher: limit: {limit!r} is not a number of bytes of 1 or more"
            raise ConfigurationError(message)
        self._path = Path(path)
        self._limit = limit
        self._on_change = on_change
        self._on_problem = on_problem or (lambda _problem: None)
        self._on_recovery = on_recovery or (lambda: None)
        self._interval = interval
        self._sleep = sleep
        self._stamp: _Stamp = None
        self._settled = False
        self._content: bytes | None = None
        self._problem: str | None = None

    def read(self) -> bytes:
        """
        Read the file; only what differs from this is handed over as a change.

        Raises:
            InvalidDocumentError: It cannot be read.
        """
        # Taken before the file is read, so that whatever changes meanwhile is seen at the next look.
        self._stamp, self._settled = _stamp_of(self._path), False
        self._content = read_file(self._path, self._limit)
        return self._content

    async def check(self) -> bool:
        """Look at the file and give whether a change was handed over."""
        stamp = _stamp_of(self._path)
        if self._settled and stamp == self._stamp:
            return False
        self._settled, self._stamp = stamp == self._stamp, stamp
        try:
            content = read_file(self._path, self._limit)
        except InvalidDocumentError as error:
            # A failure may pass without a trace in the stamp.
            self._settled = False
            if str(error) != self._problem:
                self._problem = str(error)
                self._on_problem(error)
            return False
        if self._problem is not None:
            self._problem = None
            self._on_recovery()
        if content == self._content:
            return False
        self._content = content
        await self._on_change(content)
        return True

    async def run(self) -> NoReturn:
        """Look at the file every interval until cancelled."""
        while True:
            await self._sleep(self._interval)
            await self.check()

    def __repr__(self) -> str:
        return f"<FileWatcher of {self._path}>"


def _stamp_of(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
