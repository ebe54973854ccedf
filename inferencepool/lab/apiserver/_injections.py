"""Faults that wait for the requests they strike."""

from __future__ import annotations

from threading import Lock
from types import TracebackType
from typing import Self, final

from inferencepool.lab.apiserver._faults import Fault
from inferencepool.lab.apiserver._patterns import Match, Pattern
from inferencepool.lab.apiserver._requests import ApiRequest

__all__ = ["Injection", "Injections"]


@final
class Injection:
    """A fault that waits for its requests. Thread-safe; as a context manager it ends with the block."""

    def __init__(self, fault: Fault, pattern: Pattern, *, times: int | None, skip: int, owner: Injections) -> None:
        """Strike *times* requests (None for all) after letting *skip* of them pass."""
        self.fault = fault
        self.pattern = pattern
        self._left = times
        self._skip = skip
        self._owner = owner
        self._hits = 0

    @property
    def hits(self) -> int:
        """How many requests it struck."""
        return self._hits

    def remove(self) -> None:
        """Strike no more; no effect where it does not already."""
        self._owner.remove(self)

    def strikes(self, request: ApiRequest) -> bool:
        """Tell whether it strikes *request*, and count; called under the owner's lock."""
        if self._left == 0 or not self.pattern.matches(request):
            return False
        if self._skip:
            self._skip -= 1
            return False
        if self._left is not None:
            self._left -= 1
        self._hits += 1
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def __repr__(self) -> str:
        left = "all" if self._left is None else self._left
        return f"<Injection for {self.pattern}: {self._hits} struck, {left} to come>"


@final
class Injections:
    """All faults that wait. The oldest that matches strikes; one request meets one fault. Thread-safe."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = Lock()
        self._waiting: list[Injection] = []

    def add(self, fault: Fault, *, times: int | None, skip: int, match: Match) -> Injection:
        """Let *fault* wait."""
        injection = Injection(fault, Pattern(**match), times=times, skip=skip, owner=self)
        with self._lock:
            self._waiting.append(injection)
        return injection

    def remove(self, injection: Injection) -> None:
        """Let *injection* wait no more."""
        with self._lock:
            if injection in self._waiting:
                self._waiting.remove(injection)

    def clear(self) -> None:
        """Let none wait any more."""
        with self._lock:
            self._waiting.clear()

    def find(self, request: ApiRequest) -> Fault | None:
        """Find what *request* meets."""
        with self._lock:
            struck = next((injection for injection in self._waiting if injection.strikes(request)), None)
            return struck.fault if struck else None
