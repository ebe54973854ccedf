"""
What the coordinator and the workers say to each other: one JSON object a line, an order and then its answer.

This module runs in the environment of every peer, so it needs nothing but the standard library.

=========  ==========================================  ===============================================================
order      with                                        answer
=========  ==========================================  ===============================================================
``about``  ``distribution``                            ``version`` of the distribution, and of ``python``
``open``   ``way``, ``size``                           nothing; a fleet of so many endpoints is ready
``warm``   ``way``, ``prompts``, ``seconds``           ``prompts``: how many were picked for until the time was up
``time``   ``way``, ``workload``, ``seconds``          ``pick`` and ``rc`` in microseconds, ``picks``: how many, and
                                                       ``back``: share of prompts that went where they went before,
                                                       ``endpoints``: to how many different ones they went so far
``fill``   ``way``, ``prompts``, ``seconds``           ``prompts``, and bytes of memory ``before`` and ``after``
``close``  ``way``                                     nothing
=========  ==========================================  ===============================================================

Anything that goes wrong is answered with ``error``.
"""

from __future__ import annotations

import gc
import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from platform import python_version
from time import monotonic, perf_counter_ns
from typing import Any, Protocol

from benchmarks.peers.prompts import QUESTION, prompt

__all__ = ["InProcess", "Way", "resident_memory", "serve"]

_POPULATION = list(range(1000))
# Prompts that are made before they are timed; 500 of them are 4 MB.
_MOST_AT_ONCE = 500


class Way(Protocol):
    """**Protocol:** one way of picking with one peer, over one fleet."""

    def request(self, text: str, /) -> Any:
        """Put a prompt into the form that the peer's API takes; not timed."""
        ...

    def pick_all(self, requests: Sequence[Any], /) -> Sequence[object]:
        """Pick an endpoint for one request after the other, release it, and tell which it was."""
        ...

    def wake(self) -> None:
        """Get ready for picks; not timed."""
        ...

    def rest(self) -> None:
        """Take no processor time until the next turn."""
        ...

    def clock(self) -> int:
        """Give nanoseconds that pass while picks are made."""
        ...

    def memory(self) -> int:
        """Give the resident memory of the process that picks, in bytes."""
        ...

    def close(self) -> None:
        """End what this way has started."""
        ...


class InProcess:
    """What is common to all ways that pick in the worker's own process."""

    def wake(self) -> None:
        """Do nothing: the process is awake."""

    def rest(self) -> None:
        """Do nothing: the process waits for orders."""

    def clock(self) -> int:
        """Give wall time."""
        return perf_counter_ns()

    def memory(self) -> int:
        """Give the memory of this process."""
        gc.collect()
        return resident_memory("self")

    def close(self) -> None:
        """Leave everything to the garbage collector."""


def resident_memory(process: int | str) -> int:
    """
    Give the resident memory of a process, in bytes.

    Raises:
        OSError: This platform does not tell it in ``/proc``.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) * 1024


def serve(ways: Mapping[str, Callable[[int], Way]]) -> None:
    """
    Follow orders until the coordinator closes the pipe.

    Args:
        ways: The name of each way, and what makes it for a number of endpoints.
    """
    # Libraries print; the answers have a pipe of their own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = _Worker(ways)
    for line in sys.stdin:
        try:
            answer = worker.follow(json.loads(line))
        except Exception as error:  # noqa: BLE001  whatever a peer raises is told, and shown in the table
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    worker.close_all()


class _Worker:
    """Holds the ways that are open."""

    def __init__(self, ways: Mapping[str, Callable[[int], Way]]) -> None:
        self._ways = ways
        self._open: dict[str, _Measured] = {}

    def follow(self, order: dict[str, Any]) -> dict[str, Any]:
        match order:
            case {"do": "about", "distribution": name}:
                return {"version": version(name), "python": python_version()}
            case {"do": "open", "way": way, "size": size}:
                self._open[way] = _Measured(self._ways[way](size))
                return {}
            case {"do": "warm", "way": way, "prompts": count, "seconds": seconds}:
                return {"prompts": self._open[way].pick_new(count, seconds)}
            case {"do": "time", "way": way, "workload": workload, "seconds": seconds}:
                return self._open[way].time(workload, seconds)
            case {"do": "fill", "way": way, "prompts": count, "seconds": seconds}:
                return self._open[way].fill(count, seconds)
            case {"do": "close", "way": way}:
                self._open.pop(way).way.close()
                return {}
        message = f"unknown order: {order}"
        raise ValueError(message)

    def close_all(self) -> None:
        for measured in self._open.values():
            measured.way.close()


class _Measured:
    """A way, and which prompts it has seen: those with numbers below `seen`."""

    def __init__(self, way: Way) -> None:
        self.way = way
        self._seen = 0
        self._known = cycle(range(1))
        self._last_ns: dict[str, float] = {}
        self._sent: dict[int, object] = {}

    def pick_new(self, count: int, seconds: float) -> int:
        """Pick for up to *count* prompts not seen before, and tell how many it were when *seconds* were over."""
        self.way.wake()
        first, deadline = self._seen, monotonic() + seconds
        while self._seen < first + count and monotonic() < deadline:
            # One by one at first: a pick may take seconds.
            chunk = min(100, max(1, self._seen - first), first + count - self._seen)
            numbers = self._numbers("new", chunk)
            self._remember(numbers, self.way.pick_all([self.way.request(prompt(number)) for number in numbers]))
        self.way.rest()
        self._known = cycle(range(self._seen))
        return self._seen - first

    def time(self, workload: str, seconds: float) -> dict[str, float]:
        """Time as many picks as fit into *seconds*, one at least, and beside them the baseline."""
        count = 1
        if workload in self._last_ns:
            count = min(_MOST_AT_ONCE, max(1, int(seconds * 1e9 / self._last_ns[workload])))
        numbers = self._numbers(workload, count)
        requests = [self.way.request(QUESTION if workload == "load" else prompt(number)) for number in numbers]
        self.way.wake()
        baseline = _time_choice()
        start = self.way.clock()
        picked = self.way.pick_all(requests)
        each = (self.way.clock() - start) / count
        self.way.rest()
        self._last_ns[workload] = max(each, 1)
        return {
            "pick": each / 1000,
            "rc": baseline / 1000,
            "picks": count,
            "back": self._remember(numbers, picked) / count,
            "endpoints": len(set(self._sent.values())),
        }

    def fill(self, count: int, seconds: float) -> dict[str, int]:
        """Pick for up to *count* prompts not seen before, and tell the memory that the way takes."""
        self.pick_new(10, seconds)
        before = self.way.memory()
        done = self.pick_new(count, seconds)
        return {"prompts": done, "before": before, "after": self.way.memory()}

    def _numbers(self, workload: str, count: int) -> list[int]:
        if workload == "known":
            return list(islice(self._known, count))
        self._seen += count
        return list(range(self._seen - count, self._seen))

    def _remember(self, numbers: Sequence[int], picked: Sequence[object]) -> int:
        """Note which prompt went where, and count those that went there before."""
        back = sum(self._sent.get(number) == where for number, where in zip(numbers, picked, strict=True))
        self._sent.update(zip(numbers, picked, strict=True))
        return back


def _time_choice() -> float:
    """Time ``random.choice`` on a list of 1,000, in nanoseconds."""
    start = perf_counter_ns()
    for _ in range(4000):
        random.choice(_POPULATION)
    return (perf_counter_ns() - start) / 4000
