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
    if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_usually() -> None:
    """Let SIGINT raise `KeyboardInterrupt` again, where `interrupt_quietly` changed that."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _is_command() -> bool:
    """Tell whether this process was started as ``inferencepool`` or ``python -m inferencepool``."""
    if not sys.argv:
        return False
    if sys.argv[0] == "-m":
        # Python still looks for the module to run, whose name stands before the arguments, maybe behind other flags.
        module = sys.orig_argv[-len(sys.argv)]
        return module == "inferencepool" or (module.startswith("-") and module.endswith("minferencepool"))
    return os.path.basename(sys.argv[0]) in _NAMES  # noqa: PTH119 - pathlib takes time to import


def _end(_number: int, _frame: FrameType | None) -> None:
    os._exit(INTERRUPTED)


# Found out at once: as soon as the module is found, its path takes the place of ``-m``.
_IS_COMMAND = _is_command()
# Before anything else is imported, which is most of what a command does until it begins.
interrupt_quietly()
