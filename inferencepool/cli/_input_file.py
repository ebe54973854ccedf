"""Reading a file that a command was given, as text."""

from __future__ import annotations

import os
import select
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from inferencepool.errors import InvalidDocumentError, Issue

__all__ = ["MAX_FILE_SIZE", "STANDARD_INPUT", "decode_text", "display_name", "read_lines", "read_text", "refuse"]

#: The longest file that is read, in bytes.
MAX_FILE_SIZE = 64 * 1024 * 1024
#: Seconds that a pipe may take until its end; standard input may take any time.
PIPE_TIMEOUT = 30.0
#: The name that stands for standard input.
STANDARD_INPUT = "-"

_CONTROLS = tuple(chr(code) for code in range(32) if chr(code) not in "\t\n\f\r")


def display_name(file: str) -> str:
    """Give the name of *file* for messages."""
    return "standard input" if file == STANDARD_INPUT else file if file.strip() else repr(file)


def refuse(source: str, reason: str, field: str = "", value: object = None) -> InvalidDocumentError:
    """Make the error for one thing that is wrong in *source*."""
    return InvalidDocumentError([Issue(field, reason, value)], source=source)


def read_text(file: str) -> str:
    """
    Read a file, or standard input for ``-``, as UTF-8 text; a byte order mark is left out.

    Raises:
        InvalidDocumentError: The file cannot be opened, is longer than `MAX_FILE_SIZE`, is a pipe whose end does not
            come within `PIPE_TIMEOUT`, or is no text.
    """
    source = display_name(file)
    content = _read_bytes(file, source)
    if len(content) > MAX_FILE_SIZE:
        raise refuse(source, f"longer than {MAX_FILE_SIZE // (1024 * 1024)} MiB")
    return decode_text(content, source)


def decode_text(content: bytes, source: str) -> str:
    """
    Read the *content* of a file as UTF-8 text; a byte order mark is left out.

    Raises:
        InvalidDocumentError: It is no text; the message names *source*.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        hint = ", it looks like UTF-16" if content[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
        reason = f"not UTF-8 text{hint}: byte 0x{content[error.start]:02x} at offset {error.start}"
        raise refuse(source, reason) from None
    control = next((character for character in _CONTROLS if character in text), None)
    if control is not None:
        line = text.count("\n", 0, text.index(control)) + 1
        raise refuse(source, f"not text: control character 0x{ord(control):02x} in line {line}")
    return text


def read_lines(file: str) -> Iterator[str]:
    """
    Read a file, or standard input for ``-``, line by line, as UTF-8 text; it may be of any length.

    Raises:
        InvalidDocumentError: The file cannot be opened, or a line is no text; raised when that line is reached.
    """
    source = display_name(file)
    with _opened(file, source) as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield line.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                reason = f"not UTF-8 text: byte 0x{line[error.start]:02x} at offset {error.start}"
                raise refuse(source, reason, f"line {number}") from None


def _read_bytes(file: str, source: str) -> bytes:
    with _opened(file, source, _open_without_waiting) as stream:
        if file == STANDARD_INPUT or stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            # One byte more than allowed tells a file that is too long, whatever its size claims to be.
            return stream.read(MAX_FILE_SIZE + 1)
        return _read_pipe(stream.fileno(), source)


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe would wait until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _read_pipe(descriptor: int, source: str) -> bytes:
    """Read a pipe, or whatever else is no regular file, up to its end."""
    content = bytearray()
    end = time.monotonic() + PIPE_TIMEOUT
    while len(content) <= MAX_FILE_SIZE:
        if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
            raise refuse(source, f"is a pipe whose end did not come within {PIPE_TIMEOUT:g} s")
        data = os.read(descriptor, 1 << 20)
        if not data:
            break
        content += data
    return bytes(content)


@contextmanager
def _opened(file: str, source: str, opener: Callable[[str, int], int] | None = None) -> Iterator[BinaryIO]:
    try:
        if file == STANDARD_INPUT:
            stdin: Any = sys.stdin
            if stdin is None:
                raise refuse(source, "is closed")
            yield stdin.buffer
        else:
            with open(file, "rb", opener=opener) as stream:
                yield stream
    except InvalidDocumentError:
        raise
    except FileNotFoundError:
        raise refuse(source, "no such file") from None
    except IsADirectoryError:
        raise refuse(source, "is a directory, not a file") from None
    except PermissionError:
        raise refuse(source, "no permission to read it") from None
    except (OSError, ValueError) as error:
        # ValueError: a name with a NUL in it.
        raise refuse(source, f"cannot be read: {error}") from None
