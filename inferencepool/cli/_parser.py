"""How arguments are parsed: as `argparse` does, with shorter errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["Parser"]


class Parser(argparse.ArgumentParser):
    """Tells what is wrong in two lines: the error, with the nearest flag, and where to read more."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]  # argparse says it in overloads
        """
        Parse, and refuse what is left here, where the flags are known that may have been meant.

        Raises:
            SystemExit: An argument is not known (status 2).
        """
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._nearest(unknown)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """
        Print two lines to standard error.

        Raises:
            SystemExit: Always (status 2).
        """
        text = " ".join(message.split("\n"))
        self.exit(2, f"{self.prog}: error: {text}\n{self.prog} --help tells what there is\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print a help text; where it cannot be written, that is an error, which `argparse` passes over."""
        print(message, end="", file=file or sys.stderr, flush=True)

    def _nearest(self, unknown: Sequence[str]) -> str:
        """Name the flags nearest to those that are *unknown*."""
        # Most commands are right.
        from difflib import get_close_matches  # noqa: PLC0415 - as above

        flags = [flag for action in self._actions for flag in action.option_strings]
        wrong = (text.partition("=")[0] for text in unknown if text.startswith("-"))
        near = [match for text in wrong for match in get_close_matches(text, flags, 1)]
        return f"; is {', '.join(dict.fromkeys(near))} meant?" if near else ""
