"""Ctrl-C while the command starts or ends: it stops without a traceback."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

__all__ = ["INTERRUPTED", "interrupt_quietly", "interrupt_usually"]

INTERRUPTED = 130
"""What shells report for a program that SIGINT ended: 128 and the signal's number."""

_NAMES = ("inferencepool", "inferencepool.exe", "inferencepool-script.py")


def interrupt_quietly() -> None:
    """Let SIGINT end the process at once, if it runs the command: there is nothing to clean up yet, or any more."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_usually() -> None:
    """Let SIGINT raise `KeyboardInterrupt` again, where `interrupt_quietly` changed that."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    """Tell whether this process was started as ``inferencepool`` or ``python -m inferencepool``."""
    started = sys.orig_argv
    if "-m" in started and started[started.index("-m") + 1 :][:1] == ["inferencepool"]:
        return True
    return bool(sys.argv) and os.path.basename(sys.argv[0]) in _NAMES  # noqa: PTH119 - pathlib takes time to import


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


# Before anything else is imported, which is most of what a command does until it begins.
interrupt_quietly()
