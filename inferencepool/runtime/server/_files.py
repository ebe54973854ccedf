"""A file that says which endpoints there are, read at the start and whenever it changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import NoReturn, final

import attrs

from inferencepool.errors import InferencePoolError, InvalidDocumentError, Issue
from inferencepool.runtime.files import FileWatcher
from inferencepool.runtime.logs import log_event

__all__ = ["FileReport", "FollowedFile", "WatchedFile"]

_LOG = logging.getLogger(__name__)
_SHOWN = 50

FileReport = Sequence[Issue]
"""What is wrong in a file of which the rest was taken over."""


@attrs.frozen(kw_only=True)
class WatchedFile:
    """
    A file, and what takes it over.

    Attributes:
        path: Its name.
        limit: The most bytes that it may have.
        load: Takes its content over, as a whole or not at all, and reports what it left out. Called in any thread, one
            call at a time. Raises `InferencePoolError` where nothing can be taken over.
    """

    path: str
    limit: int
    load: Callable[[bytes], FileReport]


@final
class FollowedFile:
    """A `WatchedFile` that is taken over again whenever it changes; one task at a time may use it."""

    def __init__(self, file: WatchedFile, interval: float, on_load: Callable[[], object]) -> None:
        """Follow *file*, and call *on_load* in the event loop after it was taken over again."""
        self._file = file
        self._on_load = on_load
        self._watcher = FileWatcher(
            file.path,
            limit=file.limit,
            interval=interval,
            on_change=self._reload,
            on_problem=self._tell_problem,
            on_recovery=partial(log_event, _LOG, logging.INFO, "file readable again", file=file.path),
        )
        self._report: FileReport = ()

    def load(self) -> None:
        """
        Take the file over for the first time; what it reports is told by `tell`.

        Raises:
            InferencePoolError: It cannot be read, or nothing in it can be taken over.
        """
        self._report = self._file.load(self._watcher.read())

    def tell(self) -> None:
        """Log what was left out."""
        for issue in islice(self._report, _SHOWN):
            log_event(
                _LOG, logging.WARNING, "wrong in file", file=self._file.path, field=issue.field, reason=issue.reason
            )
        if len(self._report) > _SHOWN:
            more = len(self._report) - _SHOWN
            log_event(_LOG, logging.WARNING, "more is wrong in file", file=self._file.path, more=more)

    async def follow(self) -> NoReturn:
        """Take the file over whenever it changes, until cancelled."""
        await self._watcher.run()

    async def _reload(self, content: bytes) -> None:
        try:
            # Reading a large file takes seconds; requests are served meanwhile.
            self._report = await asyncio.to_thread(self._file.load, content)
        except InvalidDocumentError as error:
            self._tell_problem(error)
        except InferencePoolError as error:
            log_event(_LOG, logging.ERROR, "file not used", file=self._file.path, reason=str(error))
        except Exception:  # noqa: BLE001 - as below
            # A mistake in here is no reason to end a server that has endpoints.
            _LOG.exception("file not used", extra={"fields": {"file": self._file.path}})
        else:
            self.tell()
            self._on_load()

    def _tell_problem(self, error: InvalidDocumentError) -> None:
        for issue in islice(error.issues, _SHOWN):
            log_event(
                _LOG,
                logging.ERROR,
                "file not used",
                file=self._file.path,
                field=issue.field,
                reason=issue.reason,
                kept="what was read before",
            )
