"""
``inferencepool serve`` with a look at its event loop: ``python -m benchmarks.hostile.probe FILE DESCRIPTORS FLAGS...``.

What runs is what `serve` runs. Each step of the loop is timed by the CPU of its thread, so that a busy machine does not
count, and the longest one is noted in a file that the measuring process shares.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
import resource
import signal
import struct
import sys
from pathlib import Path
from time import thread_time_ns
from typing import Any, Self, final

__all__ = ["Probe"]

_NAME = 240
# PR_SET_PDEATHSIG of Linux.
_END_WITH_PARENT = 1
# Nanoseconds of the longest step, the thread's clock when the present one began (0 between steps), and a name.
_FORMAT = struct.Struct(f"<qq{_NAME}s")


@final
class Probe:
    """The longest step since the last reset; one process writes it and one reads it."""

    def __init__(self, file: Path) -> None:
        """Share *file*, which holds a note."""
        with file.open("r+b") as opened:
            self._shared = mmap.mmap(opened.fileno(), _FORMAT.size)

    @classmethod
    def create(cls, file: Path) -> Self:
        """Make the file."""
        file.write_bytes(bytes(_FORMAT.size))
        return cls(file)

    def reset(self) -> None:
        """Forget what there was, but not that a step is under way."""
        memoryview(self._shared)[:8].cast("q")[0] = 0

    def read(self, pid: int) -> tuple[float, str]:
        """Give the seconds of the longest step of a process, and what it was; one that is not over counts so far."""
        taken, began, name = _FORMAT.unpack_from(self._shared)
        running = int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) - began if began else 0
        if running > taken:
            return running / 1e9, "not over"
        return taken / 1e9, name.rstrip(b"\0").decode()

    def install(self) -> None:
        """Time every step of the event loops of this process."""
        run: Any = asyncio.Handle._run
        shared = self._shared
        clock = memoryview(shared)[:16].cast("q")

        def timed(handle: Any) -> None:
            callback = handle._callback
            clock[1] = began = thread_time_ns()
            run(handle)
            taken = thread_time_ns() - began
            clock[1] = 0
            if taken > clock[0]:
                _FORMAT.pack_into(shared, 0, taken, 0, _name_of(callback).encode()[:_NAME])

        asyncio.Handle._run = timed  # type: ignore[assignment,method-assign]  # it is measured from within


def _name_of(callback: Any) -> str:
    """Name what a step called: of a task the coroutine."""
    owner = getattr(callback, "__self__", None)
    named = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
    return str(getattr(named, "__qualname__", type(named).__qualname__))


def main(file: str, descriptors: int, flags: list[str]) -> int:
    """Serve; *descriptors* is the most files that may be open, 0 for as many as there are."""
    from inferencepool.cli import main as command  # noqa: PLC0415 - who only reads the note need not wait for it

    # It ends with the process that measures, however that ends.
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    if descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    Probe(Path(file)).install()
    return command(["serve", *flags])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
