"""What must be followed to know a pool, and what the news mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import attrs
import pytest

from inferencepool.adapters.kubernetes import (
    LEGACY_POOLS,
    OBJECTIVES,
    PODS,
    POOLS,
    REWRITES,
    ApiResource,
    Effect,
    Failure,
    Feed,
    Get,
    NamedPool,
    ObjectivesChanged,
    PoolMissing,
    PoolView,
    ReflectorOptions,
    RewritesChanged,
    ServedResources,
    Stream,
    Wait,
)
from inferencepool.errors import ConfigurationError
from inferencepool.model import InferencePool, Pod
from inferencepool.registry import EndpointRegistry, PodDeleted, PodsListed, PodUpserted, PoolChanged
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.adapters.kubernetes.talking import GONE, event, page

LLAMA = {"app": "llama"}
POD_A = make_pod("a", ip="10.0.0.1", labels=LLAMA)
POD_B = make_pod("b", ip="10.0.0.2", labels=LLAMA)


def pool_of(app: str = "llama", ports: Sequence[int] = (8000,), **metadata: Any) -> dict[str, Any]:
    """A pool as the server gives it in a list: without saying what it is."""
    document = make_pool("llama", selector={"app": app}, ports=ports).to_dict()
    document["metadata"] |= {"resourceVersion": "5", **metadata}
    return {name: document[name] for name in ("metadata", "spec")}


def pod_of(pod: Pod) -> dict[str, Any]:
    """A pod as the server gives it."""
    document = pod.to_dict()
    document["metadata"]["resourceVersion"] = "6"
    return document


def rule_of(name: str, kind: str = "objective", **fields: Any) -> dict[str, Any]:
    """An objective or a rewrite as the server gives it in a list."""
    spec: dict[str, Any] = {"poolRef": {"name": "llama"}}
    spec["priority" if kind == "objective" else "rules"] = 1 if kind == "objective" else []
    return {"metadata": {"name": name, "namespace": "default", "resourceVersion": "7"}, "spec": spec | fields}


class Server:
    """Answers the feeds of a view, and keeps a registry."""

    def __init__(self, pool: NamedPool | InferencePool | None = None) -> None:
        options = ReflectorOptions(streaming_lists=False)
        self.clock = ManualClock()
        self.view = PoolView(
            pool if pool is not None else NamedPool("llama"), options=options, clock=self.clock, rng=Random(0)
        )
        self.registry = EndpointRegistry(clock=ManualClock(), publish_interval=0)
        self.effects: list[Effect] = []

    def feed(self, what: str) -> Feed[Any]:
        """The latest feed whose subject begins like that."""
        return [feed for feed in self.view.feeds if feed.subject.startswith(what)][-1]

    def take(self, feed: Feed[Any], deltas: Sequence[Any]) -> list[Effect]:
        """Hand deltas over, and keep the registry."""
        effects = self.view.take(feed, deltas)
        for effect in effects:
            if not isinstance(effect, ObjectivesChanged | PoolMissing | RewritesChanged):
                self.registry.apply(effect)
        self.effects += effects
        return effects

    def send_list(self, what: str, *items: object) -> list[Effect]:
        """Answer the list of a feed, and let it begin its watch."""
        feed = self.feed(what)
        step = feed.next_step()
        if isinstance(step, Wait):
            step = feed.next_step()
        assert isinstance(step, Get), step
        effects = self.take(feed, feed.receive_page(page(*items)))
        assert isinstance(feed.next_step(), Stream)
        return effects

    def tell(self, what: str, kind: str, document: object) -> list[Effect]:
        """Send an event to the watch of a feed."""
        feed = self.feed(what)
        return self.take(feed, feed.receive_data(event(kind, document)))

    def serve(self, *resources: ApiResource) -> list[Effect]:
        """Say which resources there are, in one round of questions."""
        feed = self.feed("llm-d.ai/")
        while True:
            step = feed.next_step()
            if isinstance(step, Wait):
                continue
            assert isinstance(step, Get)
            names = [{"name": resource.plural} for resource in resources if resource.root == step.path]
            answer = json.dumps({"resources": names}).encode()
            deltas = feed.receive_page(answer) if names else feed.fail(Failure("not found", 404))
            if deltas:
                return self.take(feed, deltas)

    def sync(self, *pods: Pod, pool: dict[str, Any] | None = None) -> None:
        """Let there be the pool with *pods*, and no rules."""
        self.serve()
        self.send_list("inferencepools", pool_of() if pool is None else pool)
        self.send_list("pods", *map(pod_of, pods))
        assert self.view.synced

    @property
    def names(self) -> set[str]:
        """The endpoints of the registry."""
        return {f"{endpoint.pod_name}:{endpoint.port}" for endpoint in self.registry.endpoints()}


class TestPods:
    def test_the_pool_takes_effect_with_its_pods(self) -> None:
        """Nothing is known before both are; then both are, in one step."""
        server = Server()
        before = len(server.view.feeds)
        assert [] == server.send_list("inferencepools", pool_of())
        assert (2, 3) == (before, len(server.view.feeds))
        (effect,) = server.send_list("pods", pod_of(POD_A))
        assert isinstance(effect, PoolChanged)
        assert (POD_A,) == effect.pods

        assert {"a:8000"} == server.names
        without_rules = server.view.synced
        server.serve()
        assert (False, True) == (without_rules, server.view.synced)

    def test_events(self) -> None:
        """What happens to pods happens to the registry."""
        server = Server()
        server.sync(POD_A)
        assert [PodUpserted(POD_B)] == server.tell("pods", "ADDED", pod_of(POD_B))
        assert {"a:8000", "b:8000"} == server.names
        assert [PodUpserted(attrs.evolve(POD_B, ready=False))] == server.tell(
            "pods", "MODIFIED", pod_of(attrs.evolve(POD_B, ready=False))
        )
        assert [PodDeleted("default", "a")] == server.tell("pods", "DELETED", pod_of(POD_A))

        assert set() == server.names

    def test_pod_that_cannot_be_read(self) -> None:
        """Nobody knows whether it serves, so nothing is sent to it, whether it comes in a list or in an event."""
        server = Server()
        server.sync(POD_A, POD_B)
        broken = pod_of(POD_A) | {"status": {"podIP": "none"}}
        assert [PodDeleted("default", "a")] == server.tell("pods", "MODIFIED", broken)
        assert {"b:8000"} == server.names
        server.feed("pods").fail(GONE)
        server.send_list("pods", broken, pod_of(POD_B))

        assert {"b:8000"} == server.names

    def test_age(self) -> None:
        """It tells for how long nothing was heard of pods."""
        server = Server()
        assert 0 == server.view.age
        server.sync(POD_A)
        server.clock.advance(7)
        assert 7 == server.view.age
        server.tell("pods", "ADDED", pod_of(POD_B))

        assert 0 == server.view.age

    def test_list_again(self) -> None:
        """A list says which pods are gone."""
        server = Server()
        server.sync(POD_A, POD_B)
        server.feed("pods").fail(GONE)
        assert [PodsListed((POD_B,))] == server.send_list("pods", pod_of(POD_B))

        assert {"b:8000"} == server.names


class TestPool:
    def test_by_name(self) -> None:
        """One pool is asked for, and its pods by its selector."""
        server = Server()
        step = server.feed("inferencepools").next_step()
        assert isinstance(step, Get)
        assert POOLS.collection("default") == step.path
        assert "metadata.name=llama" == step.params["fieldSelector"]
        server = Server()
        server.send_list("inferencepools", pool_of())
        step = server.feed("pods").next_step()
        assert isinstance(step, Get)
        assert PODS.collection("default") == step.path

        assert "app=llama" == step.params["labelSelector"]

    def test_of_the_older_version(self) -> None:
        """Where v1alpha2 is asked for, its pools are read."""
        server = Server(NamedPool("llama", "default", LEGACY_POOLS.group))
        spec = {"selector": LLAMA, "targetPortNumber": 9000, "extensionRef": {"name": "epp"}}
        server.send_list("inferencepools", {"metadata": {"name": "llama", "namespace": "default"}, "spec": spec})
        server.send_list("pods", pod_of(POD_A))

        assert {"a:9000"} == server.names

    def test_another_selector(self) -> None:
        """The old pods stay until the new ones are known; nobody sees a moment without both."""
        server = Server()
        server.sync(POD_A)
        other = make_pod("x", ip="10.0.0.9", labels={"app": "other"})
        old = server.feed("pods")
        assert [] == server.tell("inferencepools", "MODIFIED", pool_of("other"))
        assert {"a:8000"} == server.names
        assert server.view.synced
        new = server.feed("pods")
        assert old is not new
        assert old in server.view.feeds
        server.take(old, old.receive_data(event("ADDED", pod_of(POD_B))))
        assert {"a:8000", "b:8000"} == server.names
        server.send_list("pods", pod_of(other))
        assert {"x:8000"} == server.names
        assert old not in server.view.feeds
        assert new in server.view.feeds

        assert [] == server.take(old, old.receive_data(event("ADDED", pod_of(POD_A))))
        assert {"x:8000"} == server.names

    def test_another_selector_and_back(self) -> None:
        """A selector that is taken back before its pods are known changes nothing."""
        server = Server()
        server.sync(POD_A)
        feeds = server.view.feeds
        server.tell("inferencepools", "MODIFIED", pool_of("other"))
        assert [] == server.tell("inferencepools", "MODIFIED", pool_of())
        assert feeds == server.view.feeds

        assert {"a:8000"} == server.names

    def test_change_while_pods_are_awaited(self) -> None:
        """Ports that change while the pods of a new selector are awaited count; the pods are asked for once."""
        server = Server()
        server.send_list("inferencepools", pool_of())
        feed = server.feed("pods")
        server.tell("inferencepools", "MODIFIED", pool_of(ports=[9000]))
        assert feed is server.feed("pods")
        server.send_list("pods", pod_of(POD_A))

        assert {"a:9000"} == server.names

    def test_other_ports(self) -> None:
        """Ports count at once, and pods are not asked for again."""
        server = Server()
        server.sync(POD_A)
        feeds = server.view.feeds
        (effect,) = server.tell("inferencepools", "MODIFIED", pool_of(ports=[8000, 8001]))
        assert isinstance(effect, PoolChanged)
        assert feeds == server.view.feeds

        assert {"a:8000", "a:8001"} == server.names

    def test_what_means_nothing(self) -> None:
        """A pool that only its status changes is not told."""
        server = Server()
        server.sync(POD_A)

        assert [] == server.tell("inferencepools", "MODIFIED", pool_of(labels={"a": "b"}) | {"status": {"parents": []}})

    @pytest.mark.parametrize("how", ["deleted", "deleting", "not listed"])
    def test_gone(self, how: str) -> None:
        """A pool that is deleted, is being deleted, or is no longer listed takes its pods along, and may come back."""
        server = Server()
        server.sync(POD_A)
        if how == "deleted":
            effects = server.tell("inferencepools", "DELETED", pool_of())
        elif how == "deleting":
            effects = server.tell("inferencepools", "MODIFIED", pool_of(deletionTimestamp="2026-01-01T00:00:00Z"))
        else:
            server.feed("inferencepools").fail(GONE)
            effects = server.send_list("inferencepools")
        assert [PoolChanged(None, ()), ObjectivesChanged(()), RewritesChanged(())] == effects
        assert set() == server.names
        without_pool = server.view.synced
        assert not [feed for feed in server.view.feeds if feed.subject == "pods"]
        server.tell("inferencepools", "ADDED", pool_of(ports=[9000], uid="another"))
        server.send_list("pods", pod_of(POD_B))

        assert {"b:9000"} == server.names
        assert (False, True) == (without_pool, server.view.synced)

    def test_that_is_not_there(self) -> None:
        """A pool that is not found is told with what there is, until it is there."""
        server = Server()
        assert "the pool default/llama of inference.networking.k8s.io is not known yet" == server.view.absence
        assert [] == server.send_list("inferencepools")
        search = server.feed("pools of")
        search.next_step()
        search.receive_page(page(pool_of()))
        effects = server.view.take(search, search.receive_page(page()))
        (missing,) = effects
        assert isinstance(missing, PoolMissing)
        assert server.view.absence.endswith(f"is not found; {missing.found}")
        server.tell("inferencepools", "ADDED", pool_of())
        assert not [feed for feed in server.view.feeds if feed.subject.startswith("pools of")]
        server.send_list("pods")

        assert "" == server.view.absence

    def test_whose_kind_is_not_there(self) -> None:
        """Where the server has no such kind, the pools of the other group are looked for."""
        server = Server()
        feed = server.feed("inferencepools")
        feed.next_step()
        server.take(feed, feed.fail(Failure("not found", 404)))

        assert isinstance(server.feed("pools of").next_step(), Get)

    def test_gone_while_pods_are_awaited(self) -> None:
        """A pool that goes before its pods are known was never there."""
        server = Server()
        server.send_list("inferencepools", pool_of())

        assert [] == server.tell("inferencepools", "DELETED", pool_of())
        assert "pods" not in [feed.subject for feed in server.view.feeds]

    def test_that_cannot_be_read(self) -> None:
        """A pool that makes no sense any more is as it was before."""
        server = Server()
        server.sync(POD_A)
        broken = pool_of() | {"spec": {}}
        assert [] == server.tell("inferencepools", "MODIFIED", broken)
        server.feed("inferencepools").fail(GONE)
        assert [] == server.send_list("inferencepools", broken)

        assert {"a:8000"} == server.names

    def test_as_it_is_to_be(self) -> None:
        """Without an object, pods are followed by any selector, and nothing else is."""
        server = Server(InferencePool(name="x", selector="app in (llama,other),!old", target_ports=[8000, 8001]))
        assert 1 == len(server.view.feeds)
        step = server.feed("pods").next_step()
        assert isinstance(step, Get)
        assert "app in (llama,other),!old" == step.params["labelSelector"]
        feed = server.feed("pods")
        server.take(feed, feed.receive_page(page(pod_of(POD_A))))

        assert server.view.synced
        assert {"a:8000", "a:8001"} == server.names


class TestRules:
    def test_preferred_group(self) -> None:
        """Of two groups that are served the newer one is followed, for each kind."""
        server = Server()
        server.serve(*OBJECTIVES, REWRITES[1])

        assert OBJECTIVES[0].collection("default") == _path(server.feed("inferenceobjectives"))
        assert REWRITES[1].collection("default") == _path(server.feed("inferencemodelrewrites"))

    def test_those_of_the_pool(self) -> None:
        """Rules count that name our pool, in its group; they are known by name."""
        server = Server()
        server.send_list("inferencepools", pool_of())
        server.send_list("pods", pod_of(POD_A))
        server.serve(*OBJECTIVES, *REWRITES)
        without_rules = server.view.synced
        (effect,) = server.send_list(
            "inferenceobjectives",
            rule_of("ours"),
            rule_of("other", poolRef={"name": "other"}),
            rule_of("group", poolRef={"name": "llama", "group": LEGACY_POOLS.group}),
            rule_of("kind", poolRef={"name": "llama", "kind": "Service"}),
            rule_of("bad", priority="high"),
        )
        assert isinstance(effect, ObjectivesChanged)
        assert ["ours"] == [rule.metadata.name for rule in effect.objectives]
        assert [] == server.send_list("inferencemodelrewrites")

        assert (False, True) == (without_rules, server.view.synced)

    def test_events(self) -> None:
        """A rule counts until it is gone, is given to another pool, or cannot be read."""
        server = Server()
        server.sync(POD_A)
        server.serve(REWRITES[0])
        server.send_list("inferencemodelrewrites", rule_of("a", "rewrite"))

        def tell(kind: str, document: object) -> list[list[str]]:
            told: list[list[str]] = []
            for effect in server.tell("inferencemodelrewrites", kind, document):
                assert isinstance(effect, RewritesChanged)
                told.append([rule.metadata.name for rule in effect.rewrites])
            return told

        assert [["a", "b"]] == tell("ADDED", rule_of("b", "rewrite"))
        assert [] == tell("MODIFIED", rule_of("b", "rewrite"))
        assert [["b"]] == tell("MODIFIED", rule_of("a", "rewrite", poolRef={"name": "other"}))
        assert [["b", "a"]] == tell("MODIFIED", rule_of("a", "rewrite"))
        assert [["b"]] == tell("DELETED", rule_of("a", "rewrite"))
        assert [] == tell("DELETED", rule_of("a", "rewrite"))
        assert [[]] == tell("MODIFIED", rule_of("b", "rewrite", rules=5))
        assert [] == tell("ADDED", {**rule_of("c", "rewrite"), "metadata": {"name": "c", "creationTimestamp": "x"}})

    def test_many_events_at_once(self) -> None:
        """All rules are given once for all events that are read together, in the order in which they came."""
        server = Server()
        server.sync(POD_A)
        server.serve(OBJECTIVES[0])
        server.send_list("inferenceobjectives")
        feed = server.feed("inferenceobjectives")
        lines = [event("ADDED", rule_of(f"r{number}")) for number in range(100)]
        (effect,) = server.take(feed, feed.receive_data(b"".join([*lines, event("DELETED", rule_of("r1"))])))

        assert isinstance(effect, ObjectivesChanged)
        assert ["r0", *(f"r{number}" for number in range(2, 100))] == [rule.metadata.name for rule in effect.objectives]

    def test_wait_for_their_pool(self) -> None:
        """Rules count as long as there is a pool, and are there when it comes."""
        server = Server()
        server.serve(OBJECTIVES[0])
        assert [] == server.send_list("inferenceobjectives", rule_of("ours"))
        server.send_list("inferencepools", pool_of())
        changed, rules = server.send_list("pods")
        assert isinstance(changed, PoolChanged)
        assert isinstance(rules, ObjectivesChanged)
        assert 1 == len(rules.objectives)
        assert ObjectivesChanged(()) in server.tell("inferencepools", "DELETED", pool_of())
        server.tell("inferencepools", "ADDED", pool_of())

        assert rules in server.send_list("pods")

    def test_group_that_goes_with_all_kinds(self) -> None:
        """Where a group is withdrawn, all its rules are."""
        server = Server()
        server.sync(POD_A)
        server.serve(OBJECTIVES[0], REWRITES[0])
        server.send_list("inferenceobjectives", rule_of("a"))
        server.send_list("inferencemodelrewrites", rule_of("b", "rewrite"))

        assert [ObjectivesChanged(()), RewritesChanged(())] == server.serve()

    def test_group_that_comes_and_goes(self) -> None:
        """Another group takes over once its rules are known; where none is served any more, there are no rules."""
        server = Server()
        server.sync(POD_A)
        server.serve(OBJECTIVES[1])
        (old,) = server.send_list("inferenceobjectives", rule_of("old"))
        assert [] == server.serve(*OBJECTIVES)
        assert OBJECTIVES[0].collection("default") == _path(server.feed("inferenceobjectives"))
        (new,) = server.take(
            server.feed("inferenceobjectives"), server.feed("inferenceobjectives").receive_page(page(rule_of("new")))
        )
        assert old != new
        assert server.view.synced
        assert [ObjectivesChanged(())] == server.serve()
        assert 3 == len(server.view.feeds)

        assert server.view.synced

    @pytest.mark.parametrize(("status", "synced"), [(403, True), (404, True), (500, False), (None, False)])
    def test_that_must_not_be_known(self, status: int | None, synced: bool) -> None:
        """Whoever lastingly has no right to know rules works without; after any other failure they are awaited."""
        server = Server()
        server.serve(OBJECTIVES[0])
        server.send_list("inferencepools", pool_of())
        server.send_list("pods", pod_of(POD_A))
        assert not server.view.synced
        feed = server.feed("inferenceobjectives")
        fail(server, feed, Failure("no", status))
        assert (status == 404) == server.view.synced
        for _ in range(4):
            fail(server, feed, Failure("no", status))

        assert synced == server.view.synced

    @pytest.mark.parametrize(("status", "synced"), [(403, True), (500, False)])
    def test_groups_that_must_not_be_known(self, status: int, synced: bool) -> None:
        """The same holds for asking which groups there are: a refusal that passes is no answer."""
        server = Server()
        server.send_list("inferencepools", pool_of())
        server.send_list("pods")
        assert not server.view.synced
        feed = server.feed("llm-d.ai/")
        fail(server, feed, Failure("no", status))
        assert not server.view.synced
        for _ in range(4):
            fail(server, feed, Failure("no", status))

        assert synced == server.view.synced


class TestNames:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("",), "pool: name: '' is no name of an object"),
            (("a/b",), "pool: name: 'a/b' is no name"),
            (("a" * 254,), "pool: name: "),
            (("a", "b.c"), "pool: namespace: 'b.c' is no name of a namespace"),
            (("a", "b" * 64), "pool: namespace: "),
            (("a", "b", "c"), "pool: group: 'c' is not one of inference.networking.k8s.io, inference.networking.x-"),
        ],
    )
    def test_refused(self, arguments: tuple[str, ...], expected: str) -> None:
        """What cannot be a name is refused before anything is asked with it."""
        with pytest.raises(ConfigurationError) as caught:
            NamedPool(*arguments)

        assert str(caught.value).startswith(expected)

    def test_taken(self) -> None:
        """Names of objects may have dots."""
        assert POOLS == NamedPool("a.b-c", "x" * 63).resource


def fail(server: Server, feed: Feed[Any], failure: Failure) -> None:
    """Have the next question of a feed fail."""
    while isinstance(feed.next_step(), Wait):
        pass
    server.take(feed, feed.fail(failure))


def _path(feed: Feed[Any]) -> str:
    assert not isinstance(feed, ServedResources)
    step = feed.next_step()
    assert isinstance(step, Get)
    return step.path
