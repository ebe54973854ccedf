"""Drives the workers: all take turns, round after round, so that a busy moment of the machine hits all of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any, Self

import attrs

from benchmarks.peers.catalog import Peer, Way
from benchmarks.peers.environments import NotInstalledError, make_environment

__all__ = ["Filled", "Plan", "Timed", "WorkerError", "compare_memory", "compare_speed", "connect"]

WORKLOADS = {"load": ("load",), "prefix": ("new", "known")}
_ROOT = Path(__file__).parents[2]
# A worker that does not answer for so long is ended.
_PATIENCE = 300.0
# Rounds that are not told: the first finds out how long a pick takes when cold, the second when warm.
_WARM_UP_ROUNDS = 2
# A way that has used up this much time has no more turns, once it has had a few.
_MOST_SECONDS, _FEWEST_ROUNDS = 60.0, 3


class WorkerError(Exception):
    """Raised when a worker answers with an error, or not at all; tells which."""


@attrs.frozen(kw_only=True)
class Plan:
    """
    How much is measured.

    Attributes:
        sizes: Numbers of endpoints.
        rounds: Turns that each way has at each size.
        turn_seconds: How long a turn takes, where a pick is shorter.
        warm_prompts: Prompts that each way has seen before the first turn.
        warm_seconds: Most time for that.
        memory_size: Number of endpoints for the comparison of memory.
        memory_prompts: Prompts for that.
        memory_seconds: Most time for them.
    """

    sizes: Sequence[int] = (10, 100, 1_000)
    rounds: int = 11
    turn_seconds: float = 0.03
    warm_prompts: int = 1_000
    warm_seconds: float = 15
    memory_size: int = 100
    memory_prompts: int = 100_000
    memory_seconds: float = 120


@attrs.define
class Timed:
    """
    What came out for one way, workload and size.

    Attributes:
        peer: Whose way it is.
        way: Which.
        workload: ``load``, ``new`` prompts or ``known`` ones.
        size: Number of endpoints.
        picks: Microseconds of a pick, by round.
        ratios: The same in units of the baseline that the worker measured just before, by round.
        back: Share of the prompts that went where they had gone before, by round.
        endpoints: To how many different endpoints prompts went up to the last round.
        error: Why there is nothing; empty where there is.
    """

    peer: Peer
    way: Way
    workload: str
    size: int
    picks: dict[int, float] = attrs.field(factory=dict)
    ratios: dict[int, float] = attrs.field(factory=dict)
    back: dict[int, float] = attrs.field(factory=dict)
    endpoints: int = 0
    error: str = ""


@attrs.frozen
class Filled:
    """
    The memory that one way takes.

    Attributes:
        peer: Whose way it is.
        way: Which.
        prompts: How many prompts it was given.
        grown: Bytes by which the process has grown.
        error: Why there is nothing; empty where there is.
    """

    peer: Peer
    way: Way
    prompts: int = 0
    grown: int = 0
    error: str = ""


class Connection:
    """A worker's process; it is started when it is first asked, and again after it had to be ended."""

    def __init__(self, peer: Peer, python: str, log: Path) -> None:
        """Run the worker of *peer* by *python*; what it prints goes to *log*."""
        self.peer = peer
        self._command = [python, "-m", f"benchmarks.peers.workers.{peer.worker}"]
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def ask(self, do: str, patience: float = _PATIENCE, **order: Any) -> dict[str, Any]:
        """
        Give an order and wait for the answer, for *patience* seconds at most.

        Raises:
            WorkerError: The answer is an error, or there is none.
        """
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = Timer(patience, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            raise WorkerError(self._last_words(patience))
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _start(self) -> subprocess.Popen[str]:
        if self._process is None:
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    cwd=_ROOT,
                    # A group of its own, so that what it has started can be ended with it.
                    start_new_session=True,
                )
        return self._process

    def _last_words(self, patience: float) -> str:
        assert self._process is not None
        status = self._process.wait()
        self.close()
        if status < 0:
            return f"no answer within {patience:g} seconds"
        lines = self._log.read_text(errors="replace").split("\n")
        return f"the worker has ended: {next((line for line in reversed(lines) if line.strip()), 'it said nothing')}"

    def close(self) -> None:
        """End the worker and all that it started."""
        process, self._process = self._process, None
        if process is not None:
            process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(peer: Peer, folder: Path) -> Connection:
    """
    Make the environment of *peer* below *folder*, and what talks to its worker.

    Raises:
        NotInstalledError: It cannot be installed.
    """
    if peer.missing:
        raise NotInstalledError(peer.missing)
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    name = peer.name.replace(" ", "-")
    python = sys.executable
    if peer.requirements is not None:
        python = make_environment(folder / name, peer.requirements)
    return Connection(peer, python, logs / f"{name}.log")


def compare_speed(connections: Sequence[Connection], plan: Plan) -> Iterator[Timed]:
    """Time every way of all workers, in turns."""
    for group in WORKLOADS:
        for size in plan.sizes:
            turns = [
                _Turns(connection, way, size)
                for connection in connections
                for way in connection.peer.ways
                if way.workload == group
            ]
            for turn in turns:
                turn.open(plan)
            for number in range(-_WARM_UP_ROUNDS, plan.rounds):
                for turn in turns:
                    turn.take(number, plan)
            for turn in turns:
                turn.close()
                yield from turn.timed


class _Turns:
    """All turns of one way at one size."""

    def __init__(self, connection: Connection, way: Way, size: int) -> None:
        self.timed = [Timed(connection.peer, way, workload, size) for workload in WORKLOADS[way.workload]]
        self._connection, self._way, self._size = connection, way, size
        self._seconds = 0.0

    def open(self, plan: Plan) -> None:
        with _Recording(self.timed):
            self._connection.ask("open", way=self._way.name, size=self._size)
            if self._way.workload == "prefix":
                self._connection.ask("warm", way=self._way.name, prompts=plan.warm_prompts, seconds=plan.warm_seconds)

    def take(self, number: int, plan: Plan) -> None:
        if self._seconds > _MOST_SECONDS and number >= _FEWEST_ROUNDS:
            return
        start = monotonic()
        for timed in self.timed:
            if not timed.error:
                with _Recording([timed]):
                    self._time(timed, number, plan)
        self._seconds += monotonic() - start

    def _time(self, timed: Timed, number: int, plan: Plan) -> None:
        answer = self._connection.ask("time", way=self._way.name, workload=timed.workload, seconds=plan.turn_seconds)
        if number >= 0:
            timed.picks[number] = answer["pick"]
            timed.ratios[number] = answer["pick"] / answer["rc"]
            timed.back[number] = answer["back"]
            timed.endpoints = answer["endpoints"]

    def close(self) -> None:
        if not all(timed.error for timed in self.timed):
            with _Recording(self.timed):
                self._connection.ask("close", way=self._way.name)


@attrs.frozen
class _Recording:
    """Writes an error of the worker down, so that the others go on."""

    timed: Sequence[Timed]

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        if isinstance(error, WorkerError):
            for one in self.timed:
                one.error = str(error)
        return isinstance(error, WorkerError)


def compare_memory(connections: Sequence[Connection], plan: Plan) -> Iterator[Filled]:
    """Tell by how much each way that remembers prompts grows, each in a process of its own."""
    for connection in connections:
        for way in connection.peer.ways:
            if way.remembers:
                connection.close()
                yield _fill(connection, way, plan)
        connection.close()


def _fill(connection: Connection, way: Way, plan: Plan) -> Filled:
    try:
        connection.ask("open", way=way.name, size=plan.memory_size)
        answer = connection.ask(
            "fill",
            patience=_PATIENCE + 2 * plan.memory_seconds,
            way=way.name,
            prompts=plan.memory_prompts,
            seconds=plan.memory_seconds,
        )
    except WorkerError as error:
        return Filled(connection.peer, way, error=str(error))
    return Filled(connection.peer, way, answer["prompts"], answer["after"] - answer["before"])
