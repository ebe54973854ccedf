"""Which kinds of objects an API server serves."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Final, final

import attrs

from inferencepool.adapters.bodies import loads_json
from inferencepool.adapters.kubernetes._backoff import Backoff
from inferencepool.adapters.kubernetes._feed import Failure, Get, Step, Wait, WithoutStream
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._resources import ApiResource

__all__ = ["MOST_BYTES", "Served", "ServedResources"]

_NOT_SERVED = 404
#: Bytes of an answer; a group has a few kinds.
MOST_BYTES: Final = 1 << 20


@attrs.frozen
class Served:
    """
    These resources, of those asked for, are served.

    Attributes:
        resources: They.
    """

    resources: frozenset[ApiResource]


@final
class ServedResources(WithoutStream):
    """
    Asks which of some resources an API server serves, again and again: definitions may be installed at any time.

    A `Feed` of `Served`, one value at first and one for each change. Not thread-safe.

    Attributes:
        problem: Why it is not known at present; None when it is.
        synced: Whether it was known once.
    """

    def __init__(
        self, resources: Iterable[ApiResource], *, options: ReflectorOptions | None = None, rng: Random | None = None
    ) -> None:
        """
        Begin with nothing known.

        Args:
            resources: What to ask for.
            options: How patient to be; *retry_refused* is the time between two rounds of questions, too.
            rng: Source of the randomness in waiting times.
        """
        self.problem: Failure | None = None
        self.synced = False
        self._resources = tuple(resources)
        self._roots = tuple(dict.fromkeys(resource.root for resource in self._resources))
        self._options = options if options is not None else ReflectorOptions()
        self._rng = rng if rng is not None else Random()
        self._backoff = Backoff(self._options, self._rng)
        self._wait: float | None = None
        self._asked = 0
        self._found: set[ApiResource] = set()
        self._told: frozenset[ApiResource] | None = None

    @property
    def subject(self) -> str:
        """What it asks for."""
        return ", ".join(root.removeprefix("/apis/") for root in self._roots)

    @property
    def refused(self) -> bool:
        """Whether the server says that the resource is not there, or lastingly that it is not for us."""
        return self.problem is not None and self._backoff.refused

    @property
    def patience(self) -> float:
        """Seconds that an answer may take."""
        return self._options.page_timeout

    def next_step(self) -> Step:
        """Give what to do next."""
        if self._wait is not None:
            wait, self._wait = self._wait, None
            return Wait(wait)
        return Get(self._roots[self._asked], {})

    def receive_page(self, body: bytes) -> list[Served]:
        """Take an answer."""
        root = self._roots[self._asked]
        try:
            if len(body) > MOST_BYTES:
                message = f"it has more than {MOST_BYTES} bytes"
                raise ValueError(message)  # noqa: TRY301 - told like all others
            names = {item["name"] for item in loads_json(body)["resources"] or ()}
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            self.fail(Failure(f"the answer cannot be read: {type(error).__name__}: {error}"))
            return []
        return self._take({each for each in self._resources if each.root == root and each.plural in names})

    def fail(self, failure: Failure) -> list[Served]:
        """Hear that asking failed; that nothing is there is an answer, too, and may be news."""
        if failure.status == _NOT_SERVED:
            return self._take(set())
        self.problem = failure
        self._asked, self._found = 0, set()
        self._wait = self._backoff.after(failure)
        return []

    def _take(self, found: set[ApiResource]) -> list[Served]:
        self._found |= found
        self._asked += 1
        if self._asked < len(self._roots):
            return []
        served = frozenset(self._found)
        self._asked, self._found = 0, set()
        self._wait = self._options.retry_refused * self._rng.uniform(0.5, 1.0)
        self._backoff.reset()
        self.problem, self.synced = None, True
        if served == self._told:
            return []
        self._told = served
        return [Served(served)]

    def __repr__(self) -> str:
        return f"<ServedResources of {', '.join(self._roots)}>"
