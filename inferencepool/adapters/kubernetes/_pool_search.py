"""Which pools there are where the one that is meant is not."""

from __future__ import annotations

import json
from random import Random
from typing import Final, final

import attrs

from inferencepool.adapters.kubernetes._backoff import Backoff
from inferencepool.adapters.kubernetes._feed import Failure, Get, Step, Wait, WithoutStream, cut
from inferencepool.adapters.kubernetes._listing import metadata_of
from inferencepool.adapters.kubernetes._named_pool import NamedPool
from inferencepool.adapters.kubernetes._options import ReflectorOptions
from inferencepool.adapters.kubernetes._resources import LEGACY_POOLS, POOLS, ApiResource

__all__ = ["MOST_BYTES", "MOST_NAMED", "PoolMissing", "PoolSearch"]

_ABSENT: Final = (404, 405)
_FORBIDDEN: Final = 403
#: Pools of a group that are named; a page is asked for so many.
MOST_NAMED: Final = 20
#: Bytes of such a page.
MOST_BYTES: Final = 4 << 20
# Characters of a name.
_MAX_NAME: Final = 253


@attrs.frozen
class PoolMissing:
    """
    The pool that is meant is not there.

    Attributes:
        found: What there is in its place, such as ``pools in this namespace: llama, qwen``.
    """

    found: str = attrs.field(converter=cut)


@final
class PoolSearch(WithoutStream):
    """
    Asks which pools the namespace of a missing pool has, in the group that is meant and in the other one.

    A `Feed` of `PoolMissing`: one value at once, and one about every minute (``retry_refused``) as long as it is
    driven. Not thread-safe.

    Attributes:
        problem: Why it is not known at present; None when it is.
    """

    refused = False

    def __init__(self, pool: NamedPool, options: ReflectorOptions, rng: Random) -> None:
        """Look for what there is in place of *pool*."""
        self.problem: Failure | None = None
        other = LEGACY_POOLS if pool.resource == POOLS else POOLS
        self._pool = pool
        self._resources = (pool.resource, other)
        self._options = options
        self._backoff = Backoff(options, rng)
        self._wait: float | None = None
        self._told: list[str] = []

    @property
    def subject(self) -> str:
        """What it asks for."""
        return f"pools of namespace {self._pool.namespace}"

    @property
    def patience(self) -> float:
        """Seconds that an answer may take."""
        return self._options.page_timeout

    def next_step(self) -> Step:
        """Give what to do next."""
        if self._wait is not None:
            wait, self._wait = self._wait, None
            return Wait(wait)
        return Get(self._resource.collection(self._pool.namespace), {"limit": str(MOST_NAMED)})

    def receive_page(self, body: bytes) -> list[PoolMissing]:
        """Take an answer."""
        try:
            if len(body) > MOST_BYTES:
                message = f"it has more than {MOST_BYTES} bytes"
                raise ValueError(message)  # noqa: TRY301 - told like all others
            page = json.loads(body)
            names = [str(metadata_of(item).get("name"))[:_MAX_NAME] for item in (page["items"] or ())[:MOST_NAMED]]
            more = ", and more" if metadata_of(page).get("continue") else ""
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            return self.fail(Failure(f"the answer cannot be read: {type(error).__name__}: {error}"))
        return self._take(f"{', '.join(names)}{more}" if names else "none")

    def fail(self, failure: Failure) -> list[PoolMissing]:
        """Hear that asking failed; what is not served, or must not be known, is an answer."""
        if failure.status in _ABSENT:
            return self._take("not served")
        if failure.status == _FORBIDDEN:
            return self._take("not to be listed by this account")
        self.problem = failure
        self._wait = self._backoff.after(failure)
        return []

    @property
    def _resource(self) -> ApiResource:
        return self._resources[len(self._told)]

    def _take(self, found: str) -> list[PoolMissing]:
        group = f" of group {self._resource.group}" if self._told else ""
        self._told.append(f"pools in this namespace{group}: {found}")
        if len(self._told) < len(self._resources):
            return []
        missing = PoolMissing("; ".join(self._told))
        self._told = []
        self._wait = self._options.retry_refused
        self._backoff.reset()
        self.problem = None
        return [missing]

    def __repr__(self) -> str:
        return f"<PoolSearch in place of {self._pool.namespace}/{self._pool.name}>"
