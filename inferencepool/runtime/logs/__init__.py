"""Log lines that machines can read: one line for each event, with fields, as JSON or as ``key=value``."""

from inferencepool.runtime.logs._formats import JsonLineFormatter, LogFormat, TextLineFormatter
from inferencepool.runtime.logs._limit import LineLimit
from inferencepool.runtime.logs._logging import log_event, start_logging

__all__ = ["JsonLineFormatter", "LineLimit", "LogFormat", "TextLineFormatter", "log_event", "start_logging"]
