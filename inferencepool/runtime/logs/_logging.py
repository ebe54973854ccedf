"""Writing events, and where they go."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO

from inferencepool.runtime.logs._formats import FIELDS, JsonLineFormatter, LogFormat, TextLineFormatter
from inferencepool.runtime.logs._limit import LineLimit

__all__ = ["log_event", "start_logging"]


def log_event(logger: logging.Logger, level: int, event: str, /, **fields: Any) -> None:
    """
    Log an event with its fields.

    Args:
        logger: Where to.
        level: A level of ``logging``.
        event: What happened, in the same few words each time; what differs belongs into the fields.
        fields: Any values; texts, numbers, booleans, None, and lists of them keep their kind in JSON.
    """
    logger.log(level, event, extra={FIELDS: fields})


def start_logging(
    form: LogFormat = LogFormat.TEXT, *, stream: TextIO | None = None, limit: LineLimit | None = None
) -> Callable[[], None]:
    """
    Have all records of this process from level ``info`` up written as lines, those of other libraries included.

    A line is written at once, by whoever logs: where nobody reads the other end of a pipe, writing waits.

    Args:
        form: How lines look.
        stream: Where they go; standard error by default.
        limit: Leaves out lines of events that there may be many of.

    Returns:
        Ends it: tells what *limit* left out, and takes everything back as it was.
    """
    root = logging.getLogger()
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonLineFormatter() if form is LogFormat.JSON else TextLineFormatter())
    handler.setLevel(logging.INFO)
    if limit is not None:
        handler.addFilter(limit)
    level = root.level
    root.addHandler(handler)
    root.setLevel(min(level, logging.INFO) if level else logging.INFO)

    def stop() -> None:
        if limit is not None:
            for event, count in limit.take_left_out().items():
                log_event(logging.getLogger(__name__), logging.WARNING, "lines left out", of=event, left_out=count)
        root.removeHandler(handler)
        root.setLevel(level)

    return stop
