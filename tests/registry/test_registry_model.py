"""The registry, held to a dictionary under random sequences of changes."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inferencepool.model import EndpointMetrics, InferencePool, Pod, Snapshot, to_slots
from inferencepool.registry import EndpointRegistry, PodsListed, PoolChanged
from inferencepool.testing import ManualClock, make_pod, make_pool

INTERVAL = 1.0
NAMES = st.sampled_from("abcd")
PODS = st.builds(
    lambda name, app, uid, address, ready, ports, restarts: attrs.evolve(
        make_pod(
            name,
            ip=f"10.0.{address}.{ord(name)}",
            labels={"app": app},
            ready=ready,
            annotations={} if ports is None else {"llm-d.ai/active-ports": ports},
        ),
        uid=uid,
        restarts=restarts,
    ),
    NAMES,
    st.sampled_from(["llama", "llama", "qwen"]),
    st.sampled_from(["1", "2"]),
    st.integers(0, 1),
    st.sampled_from([True, True, False]),
    st.sampled_from([None, None, "1", ""]),
    st.sampled_from([0, 0, 1]),
)
POOLS = st.none() | st.builds(
    lambda app, ports: make_pool(selector={"app": app}, ports=ports),
    st.sampled_from(["llama", "llama", "qwen"]),
    st.sampled_from([[1], [1, 2], [2, 1], [3, 1, 2]]),
)
ADAPTERS = st.frozensets(st.sampled_from(["chat", "sql"]))
LOADS = st.builds(
    EndpointMetrics,
    waiting_queue_size=st.integers(0, 3),
    running_requests=st.integers(0, 3),
    kv_cache_usage=st.sampled_from([0.0, 0.5]),
    active_models=ADAPTERS,
    waiting_models=ADAPTERS,
    max_active_models=st.integers(0, 3),
    observed_at=st.none() | st.integers(0, 6),
)


@attrs.frozen
class Known:
    """What the model knows about one endpoint."""

    destination: str
    uid: str
    restarts: int
    labels: Mapping[str, str]
    metrics: EndpointMetrics = attrs.field(factory=EndpointMetrics)
    observed_at: float = -inf


def expected_endpoints(pool: InferencePool | None, pod: Pod) -> dict[str, Known]:
    """The endpoints of *pod* by the rules, written down for the pods of this test."""
    if pool is None or not pod.ready or pod.labels["app"] != pool.selector.match_labels["app"]:
        return {}
    listed = pod.annotations.get("llm-d.ai/active-ports")
    return {
        f"default/{pod.name}-rank-{rank}": Known(f"{pod.ip}:{port.number}", pod.uid, pod.restarts, pod.labels)
        for rank, port in enumerate(pool.target_ports)
        if listed is None or str(port.number) in listed.split(",")
    }


def contents(snapshot: Snapshot) -> object:
    """A copy of everything that *snapshot* holds."""
    return (
        snapshot.generation,
        snapshot.fleet.endpoints,
        snapshot.fleet.births,
        snapshot.fleet.caches,
        snapshot.fleet.members,
        list(snapshot.metrics),
        list(snapshot.waiting_queue_size),
        list(snapshot.running_requests),
        list(snapshot.kv_cache_usage),
        list(snapshot.observed_at),
        dict(snapshot.lora_active),
        dict(snapshot.lora_waiting),
        snapshot.lora_room,
    )


class RegistryMachine(RuleBasedStateMachine):
    """Does the same to a registry and to a dictionary, and compares them."""

    @initialize(pool=POOLS)
    def start(self, pool: InferencePool | None) -> None:
        """Start empty."""
        self.clock = ManualClock()
        self.registry = EndpointRegistry(pool, clock=self.clock, publish_interval=INTERVAL)
        self.pool = pool
        self.pods: dict[str, Pod] = {}
        self.known: dict[str, Known] = {}
        self.departed: set[str] = set()
        self.births: dict[str, int] = {}
        self.used: set[int] = set()
        self.processes: dict[str, tuple[str, str, int]] = {}
        self.caches: dict[str, int] = {}
        self.used_caches: set[int] = set()
        self.fresh: set[str] = set()
        self.published_at = -inf
        self.changed = False
        self.seen: list[tuple[Snapshot, object]] = []
        self.told: dict[str, str] = {}
        self.registry.subscribe(self.listen)

    def listen(self, change: object) -> None:
        """Keep a directory of what subscribers are told."""
        for endpoint in change.removed:  # type: ignore[attr-defined]  # always a MembershipChange
            del self.told[endpoint.id]
        for endpoint in change.added:  # type: ignore[attr-defined]  # always a MembershipChange
            assert endpoint.id not in self.told
            self.told[endpoint.id] = endpoint.destination
        for endpoint in change.updated:  # type: ignore[attr-defined]  # always a MembershipChange
            assert self.told[endpoint.id] == endpoint.destination

    def settle(self) -> bool:
        """Let the dictionary follow pool and pods; whether an endpoint came, changed or went."""
        wanted = {id: known for pod in self.pods.values() for id, known in expected_endpoints(self.pool, pod).items()}
        changed = False
        for id in list(self.known):
            old, new = self.known[id], wanted.get(id)
            if new is None or (new.destination, new.uid) != (old.destination, old.uid):
                del self.known[id]
                if id in self.births:
                    self.departed.add(id)
                changed = True
        for id, new in wanted.items():
            old = self.known.get(id, new)
            changed = changed or id not in self.known or (old.labels, old.restarts) != (new.labels, new.restarts)
            self.known[id] = attrs.evolve(old, labels=new.labels, restarts=new.restarts)
            process = (new.destination, new.uid, new.restarts)
            if self.processes.get(id) != process:
                self.processes[id] = process
                self.fresh.add(id)
        self.changed = self.changed or changed
        return changed

    @rule(pod=PODS, twice=st.booleans())
    def upsert(self, pod: Pod, twice: bool) -> None:
        """A pod comes or changes, perhaps told twice."""
        self.pods[pod.name] = pod
        assert self.registry.upsert_pod(pod) == self.settle()
        if twice:
            assert not self.registry.upsert_pod(pod)

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        """A pod goes, known or not."""
        self.pods.pop(name, None)
        assert self.registry.delete_pod("default", name) == self.settle()

    @rule(pods=st.lists(PODS, max_size=4))
    def resync(self, pods: list[Pod]) -> None:
        """A complete list; the last one of a name counts."""
        self.pods = {pod.name: pod for pod in pods}
        assert self.registry.resync(pods) == self.settle()

    @rule(pool=POOLS, pods=st.none() | st.lists(PODS, max_size=4))
    def set_pool(self, pool: InferencePool | None, pods: list[Pod] | None) -> None:
        """The pool changes, perhaps together with all pods."""
        self.pool = pool
        if pods is not None:
            self.pods = {pod.name: pod for pod in pods}
        assert self.registry.set_pool(pool, pods) == self.settle()

    @rule(pool=POOLS, other=st.booleans(), pods=st.none() | st.lists(PODS, max_size=4), size=st.integers(1, 3))
    def apply_in_slices(self, pool: InferencePool | None, other: bool, pods: list[Pod] | None, size: int) -> None:
        """A list, perhaps with another pool, is applied bit by bit; what stays is there all the time."""
        before = dict(self.known)
        if other:
            self.pool = pool
        if pods is not None:
            self.pods = {pod.name: pod for pod in pods}
        self.settle()
        stays = {
            id: known.destination
            for id, known in self.known.items()
            if id in before and (known.destination, known.uid) == (before[id].destination, before[id].uid)
        }
        listed = None if pods is None else tuple(pods)
        change = PodsListed(listed) if not other and listed is not None else PoolChanged(self.pool, listed)
        for _ in self.registry.apply_in_slices(change, size):
            assert stays.items() <= self.told.items()

    @rule(name=NAMES, rank=st.integers(0, 2), load=LOADS, twice=st.booleans())
    def observe(self, name: str, rank: int, load: EndpointMetrics, twice: bool) -> None:
        """An endpoint reports, early, late or twice."""
        id = f"default/{name}-rank-{rank}"
        known = self.known.get(id)
        at = load.observed_at if load.observed_at is not None else self.clock()
        news = known is not None and (
            at > known.observed_at
            or (at == known.observed_at and load != known.metrics)
            # The clock stepped back.
            or at <= self.clock() < known.observed_at
        )
        assert self.registry.observe_metrics(id, load, ignore_unknown=True) == news
        if known is not None and news:
            self.known[id] = attrs.evolve(known, metrics=load, observed_at=at)
            self.changed = True
        if twice:
            assert not self.registry.observe_metrics(id, load, ignore_unknown=True)

    @rule(seconds=st.sampled_from([0.25, 1.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.clock.advance(seconds)

    @rule()
    def ask(self) -> None:
        """Somebody asks for the snapshot: a new one comes if that is due, or the last one has no endpoint left."""
        deserted = self.known and not set(self.births) - self.departed
        due = self.changed and (bool(deserted) or self.clock() - self.published_at >= INTERVAL)
        before = self.registry._current[0]
        self.check_new(before, self.registry.snapshot(), due=due)

    @rule()
    def publish(self) -> None:
        """A new snapshot is wanted now."""
        before = self.registry._current[0]
        self.check_new(before, self.registry.publish(), due=self.changed)

    def check_new(self, before: Snapshot, after: Snapshot, *, due: bool) -> None:
        """A snapshot that was due differs by one generation and says what the dictionary says."""
        if not due:
            assert after is before
            return
        assert after.generation == before.generation + 1
        self.published_at, self.changed = self.clock(), False
        fleet = after.fleet
        slots = fleet.by_id
        assert slots.keys() == self.known.keys()
        for id, known in self.known.items():
            slot = slots[id]
            endpoint = fleet.at(slot)
            assert (endpoint.destination, endpoint.pod_uid, endpoint.labels) == (
                known.destination,
                known.uid,
                known.labels,
            )
            assert after.metrics[slot] == known.metrics
            assert after.waiting_queue_size[slot] == known.metrics.waiting_queue_size
            assert after.running_requests[slot] == known.metrics.running_requests
            assert after.kv_cache_usage[slot] == known.metrics.kv_cache_usage
            assert after.observed_at[slot] == known.observed_at
            if id in self.births and id not in self.departed:
                assert fleet.births[slot] == self.births[id]
            else:
                assert fleet.births[slot] not in self.used
            if id in self.fresh:
                assert fleet.caches[slot] not in self.used_caches
            else:
                assert fleet.caches[slot] == self.caches[id]
            self.caches[id] = fleet.caches[slot]
            self.used_caches.add(fleet.caches[slot])
        self.fresh -= self.known.keys()
        self.births = {id: fleet.births[slot] for id, slot in slots.items()}
        self.used.update(self.births.values())
        self.departed.clear()
        for given, field in ((after.lora_active, "active_models"), (after.lora_waiting, "waiting_models")):
            holders: dict[str, set[int]] = {}
            for id, known in self.known.items():
                for adapter in getattr(known.metrics, field):
                    holders.setdefault(adapter, set()).add(slots[id])
            assert {adapter: set(to_slots(members)) for adapter, members in given.items()} == holders
        assert set(to_slots(after.lora_room)) == {slots[id] for id, k in self.known.items() if k.metrics.has_room()}
        self.seen.append((after, contents(after)))

    @invariant()
    def nothing_published_changes(self) -> None:
        """All snapshots ever given still hold what they held."""
        for snapshot, copy in getattr(self, "seen", ()):
            assert contents(snapshot) == copy

    @invariant()
    def what_is_gone_is_masked(self) -> None:
        """The mask holds the endpoints of the snapshot that are gone, and subscribers know who exists."""
        if hasattr(self, "registry"):
            snapshot, departed = self.registry._current
            masked = departed & snapshot.fleet.members
            assert {snapshot.fleet.at(slot).id for slot in to_slots(masked)} == self.departed
            assert self.told == {id: known.destination for id, known in self.known.items()}
            assert self.registry.statistics().endpoints == len(self.known)
            assert self.registry.statistics().pods == len(self.pods)


TestRegistryMachine = RegistryMachine.TestCase
