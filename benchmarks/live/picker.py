"""``serve``, noting what each pick took and knew: ``python -m benchmarks.live.picker NOTES FLAG...``."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from time import perf_counter
from typing import IO, Any

from inferencepool.cli import main
from inferencepool.picker import EndpointPicker
from inferencepool.scheduling import PickResult

__all__ = ["read_notes"]


def read_notes(file: Path) -> list[dict[str, float]]:
    """
    Read the notes, one for each pick.

    Each has *seconds* that it took; of the endpoint that was picked the *age* of its metrics in seconds, the requests
    *waiting* and *running* by them, and those *pending* since; and *newest*, the age of the newest metrics of any one.
    """
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _note(notes: IO[str]) -> None:
    """Let every picker of this process write to *notes*."""
    pick = EndpointPicker.pick

    @functools.wraps(pick)
    def noted(picker: EndpointPicker, *arguments: Any, **options: Any) -> PickResult:
        began = perf_counter()
        result = pick(picker, *arguments, **options)
        seconds = perf_counter() - began
        slot, now, observed_at = result.slot, picker.registry.clock(), result.snapshot.observed_at
        note = {
            "seconds": seconds,
            "age": now - observed_at[slot],
            "newest": now - max(observed_at),
            "waiting": result.snapshot.waiting_queue_size[slot],
            "running": result.snapshot.running_requests[slot],
            # The pick itself is one of them.
            "pending": max(0, picker.reserved().pending[slot] - 1),
        }
        notes.write(json.dumps(note) + "\n")
        notes.flush()
        return result

    setattr(EndpointPicker, "pick", noted)  # noqa: B010 - a method that is known to the type checker


if __name__ == "__main__":
    with Path(sys.argv[1]).open("w", encoding="utf-8") as file:
        _note(file)
        sys.exit(main(["serve", *sys.argv[2:]]))
