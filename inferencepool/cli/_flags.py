"""What the flags of several commands have in common: how values are read, and how they are refused."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NoReturn, TypeAlias

__all__ = ["UsageError", "add_boolean", "add_strict", "boolean", "flag_of", "port", "usage_error_of", "whole"]

UsageError: TypeAlias = Callable[[str], NoReturn]
"""Ends the command with a message about its usage."""

_MAX_PORT = 65535
# Of what is counted, unless a flag has a reason for another.
_MOST = 10**6 - 1
# As Go programs read a boolean.
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def flag_of(name: str) -> str:
    """Give the flag whose value `argparse` keeps as *name*."""
    return f"--{name.replace('_', '-')}"


def usage_error_of(arguments: argparse.Namespace) -> UsageError:
    """Give what refuses *arguments*: their parser's `error`."""
    usage_error: UsageError = arguments.usage_error
    return usage_error


def add_strict(group: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add the flag that refuses documents and fields which are otherwise passed over."""
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse files with documents of kinds that are not used, or unknown fields",
    )


def add_boolean(group: argparse._ArgumentGroup, flag: str, text: str, *, default: bool = False) -> None:
    """Add a flag that is true when it is given alone."""
    shown = f"{text} ({str(default).lower()})"
    group.add_argument(flag, metavar="true|false", nargs="?", type=boolean, const=True, default=default, help=shown)


def boolean(text: str) -> bool:
    """
    Read a truth value as Go programs do.

    Raises:
        argparse.ArgumentTypeError: *text* is none.
    """
    if text not in _BOOLEANS:
        message = f"{text!r} is neither true nor false"
        raise argparse.ArgumentTypeError(message)
    return _BOOLEANS[text]


def whole(least: int = 0, most: int = _MOST, noun: str = "whole number") -> Callable[[str], int]:
    """Give what reads a whole number, and what is not one from *least* to *most* refuses as no such *noun*."""

    def read(text: str) -> int:
        # No number of more digits is allowed, and Python would take long to read some.
        number = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(most)) else -1
        if not least <= number <= most:
            message = f"{text!r} is not a {noun} from {least} to {most}"
            raise argparse.ArgumentTypeError(message)
        return number

    return read


def port(least: int = 1) -> Callable[[str], int]:
    """Give what reads a port; with *least* 0, which stands for any, that as well."""
    return whole(least, _MAX_PORT, "port")
