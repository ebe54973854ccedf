"""What exists and how loaded it is: changes in, snapshots out."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from math import inf
from random import Random
from threading import Condition
from typing import assert_never, final

import attrs

from inferencepool._lock import held, new_lock, take
from inferencepool.errors import ConfigurationError, UnknownEndpointError
from inferencepool.model import Endpoint, EndpointMetrics, EndpointSet, InferencePool, Pod, Snapshot, to_slots
from inferencepool.registry._changes import (
    Change,
    EndpointsListed,
    MembershipChange,
    MetricsObserved,
    PodDeleted,
    PodsListed,
    PodUpserted,
    PoolChanged,
)
from inferencepool.registry._columns import Columns
from inferencepool.registry._ejections import View
from inferencepool.registry._health import EndpointHealth
from inferencepool.registry._listeners import Listener, Listeners
from inferencepool.registry._outlier_detection import OutlierDetection
from inferencepool.registry._placement import Placement
from inferencepool.registry._staleness import Staleness
from inferencepool.selection import expand
from inferencepool.selection._membership import has_ended

__all__ = ["EndpointRegistry", "RegistryStatistics"]

_BY_DEFAULT = OutlierDetection()


@attrs.frozen
class RegistryStatistics:
    """How much a registry holds: *pods*, members or not, *endpoints* to pick, the latest snapshot's *generation*."""

    pods: int
    endpoints: int
    generation: int


@final
class EndpointRegistry:
    """
    Turns what happens to a pool and its pods into snapshots of the endpoints there are.

    Thread-safe: one lock guards all state; readers take one reference. Changes are applied in the order of the calls,
    whatever resource versions the pods carry; `resync` settles what got lost. Applying the same change twice does
    nothing the second time, and a call that raises has changed nothing.

    A snapshot is published when it is asked for, something changed (metrics that become stale are a change), and the
    last one is older than *publish_interval*: no thread is needed, and a storm of changes costs one snapshot per
    interval. An endpoint that goes is told at once (see `current`); one that comes, and all metrics, wait for the next,
    which comes early where the last one has no endpoint left and there are others.
    """

    def __init__(
        self,
        pool: InferencePool | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        publish_interval: float = 0.05,
        staleness: Staleness | None = None,
        outlier_detection: OutlierDetection | None = _BY_DEFAULT,
        rng: Random | None = None,
    ) -> None:
        """
        Start empty.

        Args:
            pool: The pool; None while it is not known, so that no pod is a member.
            clock: Seconds that never run backwards; observation times of metrics are told by it.
            publish_interval: Least number of seconds between two snapshots, 0 or more.
            staleness: When metrics are too old, and what is done then; None where nobody keeps them fresh.
            outlier_detection: When endpoints are ejected by what came back from them (see `health`); None for never.
                Where nothing is told of what came back, nothing is done.
            rng: Source of the jitter of ejections.

        Raises:
            ConfigurationError: *publish_interval* is negative or no number.
        """
        if type(publish_interval) not in (int, float) or not publish_interval >= 0:
            message = f"registry: publish_interval: {publish_interval!r} is not a number of seconds of 0 or more"
            raise ConfigurationError(message)
        self.clock = clock
        self._interval = publish_interval
        self._pool = pool
        self._pods: dict[tuple[str, str], Pod] = {}
        self._columns = Columns()
        self._placement = Placement(self._columns, clock)
        self._slots = self._placement.slots
        self._lock = new_lock()
        self._arrived = Condition(self._lock)
        self._staleness = staleness
        self.health = EndpointHealth(
            self._columns, outlier_detection, rng=rng if rng is not None else Random(), clock=clock, touch=self._touch
        )  #: How endpoints are by what came back from them
        self._is_touched, self._view = False, View()
        self._published_at, self._hurried_at, self._turns_at = -inf, -inf, inf
        self._current: tuple[Snapshot, EndpointSet] = (Snapshot(), 0)
        self._listeners = Listeners()
        self.absence = ""  #: Why there is no pool, for whoever is refused; whoever follows one sets it

    @property
    def pool(self) -> InferencePool | None:
        """The pool."""
        return self._pool

    @property
    def staleness(self) -> Staleness | None:
        """When metrics are too old to be trusted; None for never."""
        return self._staleness

    def snapshot(self) -> Snapshot:
        """Give the latest snapshot; publish one first if that is due. O(1), or O(endpoints) when it publishes."""
        return self.current()[0]

    def pods(self) -> tuple[Pod, ...]:
        """List the pods it was told about, members or not, in O(pods)."""
        with held(self._lock):
            return tuple(self._pods.values())

    def endpoints(self) -> tuple[Endpoint, ...]:
        """List the endpoints that may be picked, in O(endpoints)."""
        snapshot, departed = self.current()
        return tuple(map(snapshot.fleet.at, to_slots(snapshot.fleet.members & ~departed)))

    def current(self) -> tuple[Snapshot, EndpointSet]:
        """Give the latest snapshot together with those of its endpoints that are gone already."""
        if (is_due := self._columns.dirty or self._is_touched) or self._turns_at < inf:
            now = self.clock()
            # A clock that stepped back must not keep the next snapshot waiting.
            if (is_due or now > self._turns_at) and (
                not 0 <= now - self._published_at < self._interval or self._is_deserted()
            ):
                self.publish()
        return self._current

    def _is_deserted(self) -> bool:
        """Tell whether there are endpoints, and the latest snapshot has none of them."""
        snapshot, departed = self._current
        return bool(self._columns.members) and not snapshot.fleet.members & ~departed

    def publish(self) -> Snapshot:
        """Publish what changed at once, whatever the interval. Keeps the snapshot where nothing changed."""
        with held(self._lock):
            now = self.clock()
            is_due = self._columns.dirty or now > self._turns_at
            if is_due or self._is_touched:
                # First of all: whoever touches has no lock, and what is told from here on is for the next one.
                self._is_touched = False
                before, self._view = self._view, self.health.view(now)
                if is_due or self._view != before:
                    generation = self._current[0].generation + 1
                    snapshot, self._turns_at = self._columns.publish(generation, now, self._staleness, self._view)
                    self._current = (snapshot, 0)
                    self._published_at = now
                    # Last of all: readers have no lock, and who finds nothing to publish takes the snapshot there is.
                    self._columns.dirty = False
            published = self._current[0]
        self.health.tell()
        return published

    def _touch(self, is_urgent: bool) -> None:
        """See to it that another snapshot is published when it is due; at once if urgent, but once in an interval."""
        # Needs no lock: at worst one is published an interval later.
        if is_urgent and not 0 <= (now := self.clock()) - self._hurried_at < self._interval:
            self._hurried_at, self._published_at = now, -inf
        self._is_touched = True

    def upsert_pod(self, pod: Pod) -> bool:
        """Take over a pod that was created or changed. True if that changed the endpoints."""
        return self._change(lambda: self._upsert(pod))

    def delete_pod(self, namespace: str, name: str) -> bool:
        """Forget a pod; its endpoints can no longer be picked when this returns. False if it had none."""
        return self._change(lambda: self._delete((namespace, name)))

    def resync(self, pods: Iterable[Pod]) -> bool:
        """Take over a complete list: pods that are not on it are gone. True if that changed the endpoints."""
        listed = {pod.key: pod for pod in pods}
        return self._change(lambda: self._resync(listed))

    def set_pool(self, pool: InferencePool | None, pods: Iterable[Pod] | None = None) -> bool:
        """
        Take over a pool that was created or changed; None when it is gone. True if that changed the endpoints.

        All pods that the registry knows are judged again by the new selector and ports.

        Args:
            pool: The pool.
            pods: All pods there are, taken over in the same step, so that nobody sees the one without the other; None
                for those that the registry knows.

        Raises:
            ConfigurationError: The registry holds endpoints that belong to no pool.
        """
        listed = {pod.key: pod for pod in pods} if pods is not None else None
        return self._change(lambda: self._set_pool(pool, listed))

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> bool:
        """
        Take over a complete list of endpoints that belong to no pool, such as those of a file.

        Those that were given before and are not on it are gone; of several with the same id the last one counts.

        Returns:
            Whether that changed the endpoints.

        Raises:
            ConfigurationError: The registry has a pool, whose pods alone say which endpoints there are.
        """
        # An empty namespace is no pod's, so that the keys of endpoints and of pods differ.
        listed = {("", endpoint.id): (endpoint,) for endpoint in endpoints}
        return self._change(lambda: self._set_endpoints(listed))

    def observe_metrics(
        self, endpoint: str | Endpoint, metrics: EndpointMetrics, *, ignore_unknown: bool = False
    ) -> bool:
        """
        Take over what an endpoint reported.

        Args:
            endpoint: Its id; or the endpoint itself, for an answer that may come when another pod has its name.
            metrics: What it reported.
            ignore_unknown: Do nothing where no endpoint has the id, for answers that may come when it is gone.

        Returns:
            False, and nothing has changed, where the endpoint is gone or a later observation is there already. One
            that is later than now does not count: the clock stepped back.

        Raises:
            UnknownEndpointError: No endpoint has the id *endpoint*.
        """
        observed_at = metrics.observed_at if metrics.observed_at is not None else self.clock()
        known = endpoint if isinstance(endpoint, Endpoint) else None
        endpoint_id = endpoint if isinstance(endpoint, str) else endpoint.id
        lock = self._lock
        if not lock.acquire(False):
            take(lock)
        try:
            columns, slot = self._columns, self._slots.get(endpoint_id)
            if slot is None and known is None and not ignore_unknown:
                raise UnknownEndpointError(endpoint_id, self._slots)
            if slot is None or not (known is None or columns.is_occupied_by(slot, known)):
                return False
            if columns.observe(slot, metrics, observed_at):
                return True
            now = self.clock()
            return observed_at <= now and columns.turn_back(slot, now) and columns.observe(slot, metrics, observed_at)
        finally:
            lock.release()

    def lose(self, endpoint: Endpoint) -> bool:
        """
        Take note that *endpoint* cannot be reached: where there is `Staleness`, it is stale until it is observed again.

        False where it is not known, or was lost already.
        """
        with held(self._lock):
            slot = self._slots.get(endpoint.id)
            return slot is not None and self._columns.is_occupied_by(slot, endpoint) and self._columns.lose(slot)

    def apply(self, change: Change) -> bool:
        """Apply any change, given as a value; metrics of an unknown endpoint do nothing. True if it did something."""
        match change:
            case PodUpserted(pod):
                return self.upsert_pod(pod)
            case PodDeleted(namespace, name):
                return self.delete_pod(namespace, name)
            case PodsListed(listed):
                return self.resync(listed)
            case EndpointsListed(endpoints):
                return self.set_endpoints(endpoints)
            case PoolChanged(pool, pods):
                return self.set_pool(pool, pods)
            case MetricsObserved(endpoint_id, metrics):
                return self.observe_metrics(endpoint_id, metrics, ignore_unknown=True)
        assert_never(change)

    def apply_in_slices(self, change: PodsListed | PoolChanged, size: int = 200) -> Iterator[None]:
        """
        Apply a change of all pods bit by bit, so that whoever iterates can let others have their turn in between.

        One of up to *size* pods is applied at once, without a stop. Of more, those that there are come first, *size* at
        a time, and then those that are gone go: an endpoint that stays is never missing, and between two stops picks
        see some as they were and some as they will be. Until the end no other change of pool or pods may be applied;
        where it is given up, the next list settles it.

        Raises:
            ConfigurationError: The registry holds endpoints that belong to no pool.
        """
        listed = self._pods if change.pods is None else {pod.key: pod for pod in change.pods}
        if max(len(listed), len(self._pods)) <= size:
            self.apply(change)
            return
        if isinstance(change, PoolChanged):
            self._check_pool(change.pool)
            self._pool = change.pool
        there = [partial(self._upsert, pod) for pod in listed.values()]
        gone = [partial(self._delete, key) for key in self._pods if key not in listed]
        for some in (steps[at : at + size] for steps in (there, gone) for at in range(0, len(steps), size)):
            self._change(lambda: MembershipChange.of(step() for step in some))  # noqa: B023 - called at once
            yield

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """
        Have *listener* called with every `MembershipChange`, in order, after the change was made.

        It is called without the lock, by a thread that made a change; what it raises is logged. Call what is returned
        to end that.
        """
        with held(self._lock):
            entry = self._listeners.add(listener)

        def unsubscribe() -> None:
            with held(self._lock):
                self._listeners.remove(entry)

        return unsubscribe

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Wait until there is an endpoint to pick, *timeout* seconds at most. False when there is none by then."""
        with held(self._lock):
            return self._arrived.wait_for(lambda: bool(self._columns.members), timeout)

    def statistics(self) -> RegistryStatistics:
        """Tell how much the registry holds."""
        with held(self._lock):
            return RegistryStatistics(len(self._pods), len(self._slots), self._current[0].generation)

    def _change(self, make: Callable[[], MembershipChange]) -> bool:
        """Make a change under the lock, then tell about it."""
        lock = self._lock
        if not lock.acquire(False):
            take(lock)
        try:
            change = make()
            if change:
                self._current = (self._current[0], self._columns.departed)
                self._listeners.post(change)
                if change.added:
                    self._arrived.notify_all()
        finally:
            lock.release()
        self._listeners.deliver()
        return bool(change)

    def _upsert(self, pod: Pod) -> MembershipChange:
        endpoints = () if self._pool is None else expand(self._pool, pod)
        self._pods[pod.key] = pod
        return self._placement.place(pod.key, endpoints, for_good=has_ended(pod))

    def _delete(self, key: tuple[str, str]) -> MembershipChange:
        self._pods.pop(key, None)
        return self._placement.place(key, ())

    def _resync(self, pods: dict[tuple[str, str], Pod]) -> MembershipChange:
        return self._take(self._pool, pods)

    def _set_endpoints(self, listed: dict[tuple[str, str], tuple[Endpoint]]) -> MembershipChange:
        if self._pool is not None:
            message = f"registry: endpoints: it has the pool {self._pool.namespace}/{self._pool.name}, allowed is none"
            raise ConfigurationError(message)
        # With no pool, no pod has endpoints: all that are here were listed.
        gone = [self._placement.place(key, ()) for key in self._placement.pods() if key not in listed]
        return MembershipChange.of([*gone, *itertools.starmap(self._placement.place, listed.items())])

    def _set_pool(self, pool: InferencePool | None, pods: dict[tuple[str, str], Pod] | None) -> MembershipChange:
        self._check_pool(pool)
        return self._take(pool, self._pods if pods is None else pods)

    def _check_pool(self, pool: InferencePool | None) -> None:
        if pool is not None and self._pool is None and self._slots:
            message = (
                f"registry: pool: {len(self._slots)} endpoints were given that belong to no pool, allowed are none"
            )
            raise ConfigurationError(message)

    def _take(self, pool: InferencePool | None, pods: dict[tuple[str, str], Pod]) -> MembershipChange:
        """Let *pool* be the pool and *pods* all pods."""
        expanded = {key: () if pool is None else expand(pool, pod) for key, pod in pods.items()}
        gone = [self._delete(key) for key in list(self._pods) if key not in pods]
        self._pool, self._pods = pool, pods
        return MembershipChange.of([*gone, *itertools.starmap(self._placement.place, expanded.items())])

    def __repr__(self) -> str:
        return f"<EndpointRegistry of {len(self._slots)} endpoints>"
