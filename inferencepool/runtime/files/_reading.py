"""Reading a file that may be anything, or nothing, by now."""

from __future__ import annotations

import os
import stat

from inferencepool.errors import InvalidDocumentError, Issue

__all__ = ["read_file"]


def read_file(path: str | os.PathLike[str], limit: int) -> bytes:
    """
    Read a regular file as a whole, or what a link to one leads to. Never waits for a writer.

    Args:
        path: The file.
        limit: The most bytes that it may have.

    Raises:
        InvalidDocumentError: It cannot be opened or read, is no regular file, or is longer than *limit*; names it.
    """
    source = os.fspath(path)
    try:
        with open(path, "rb", opener=_open_without_waiting) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise _refuse(source, "is no regular file, so nobody could tell when it changes")
            # One byte more than allowed tells a file that is too long, also one that grows while it is read.
            content = stream.read(limit + 1)
    except InvalidDocumentError:
        raise
    except FileNotFoundError:
        raise _refuse(source, "no such file") from None
    except IsADirectoryError:
        raise _refuse(source, "is a directory, not a file") from None
    except PermissionError:
        raise _refuse(source, "no permission to read it") from None
    except OSError as error:
        raise _refuse(source, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        # A name with a NUL in it.
        raise _refuse(source, f"cannot be read: {error}") from None
    if len(content) > limit:
        raise _refuse(source, f"exceeds the limit of {_in_words(limit)}")
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe would wait until somebody writes to it.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _in_words(size: int) -> str:
    mebibytes, rest = divmod(size, 1024 * 1024)
    return f"{size} bytes" if rest else f"{mebibytes} MiB"


def _refuse(source: str, reason: str) -> InvalidDocumentError:
    return InvalidDocumentError([Issue("", reason)], source=source)
