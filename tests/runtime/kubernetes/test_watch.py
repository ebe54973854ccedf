"""Following a pool of a real API server while all goes well, and what is said of it."""

from __future__ import annotations

import asyncio
import logging
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncGenerator, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest

from inferencepool import EndpointPicker, InferenceRequest
from inferencepool.adapters.kubernetes import LEGACY_POOLS, NamedPool, ReflectorOptions
from inferencepool.errors import NoEndpointsError
from inferencepool.lab.apiserver import ApiServer, Fault
from inferencepool.model import InferencePool
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.kubernetes import LightkubeTransport, PoolWatch, load_cluster
from inferencepool.testing import make_pod
from tests.patience import PATIENCE
from tests.runtime.kubernetes.cluster import CALM, FAST, LLAMA, Followed, pool_document, until


class Events(logging.Handler):
    """Collects what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record."""
        self.seen.append((record.getMessage(), getattr(record, "fields", {})))

    def of(self, event: str) -> list[dict[str, Any]]:
        """The fields of all events of that name."""
        return [fields for name, fields in self.seen if name == event]


@pytest.fixture(name="events")
def _events() -> Iterator[Events]:
    events, logger = Events(), logging.getLogger("inferencepool.runtime.kubernetes")
    level = logger.level
    logger.addHandler(events)
    logger.setLevel(logging.INFO)
    yield events
    logger.removeHandler(events)
    logger.setLevel(level)


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    with ApiServer(initializing=0) as server:
        yield server


def add_pod(server: ApiServer, name: str, labels: Mapping[str, str] = LLAMA, **fields: Any) -> None:
    """Add a ready pod with an address of its own."""
    server.pods.add(make_pod(name, ip=f"10.0.0.{ord(name)}", labels=labels, **fields))


def rule(kind: str, name: str, pool: str = "llama", version: str = "llm-d.ai/v1alpha2") -> dict[str, Any]:
    """An objective or a rewrite."""
    spec: dict[str, Any] = {"poolRef": {"name": pool}}
    if kind == "InferenceModelRewrite":
        spec["rules"] = [{"targets": [{"modelRewrite": "llama-3"}]}]
    else:
        spec["priority"] = 5
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


class TestPods:
    def test_what_happens_to_pods(self, server: ApiServer) -> None:
        """Pods that come, go, get ready or not, change labels or are made again are in the registry, or not."""
        server.pools.add(pool_document())
        add_pod(server, "a")
        add_pod(server, "b", ready=False)
        add_pod(server, "c", labels={"app": "other"})
        with Followed(server) as watch:
            watch.until_synced()
            assert {"10.0.0.97:8000"} == watch.found.keys()
            for change in (
                lambda: server.pods.set_ready("b"),
                lambda: server.pods.update("c", {"metadata": {"labels": LLAMA}}),
                lambda: server.pods.set_ready("a", ready=False),
                lambda: server.pods.delete("b"),
                lambda: add_pod(server, "b"),
                lambda: server.pods.update("c", {"metadata": {"labels": {"app": "other"}}}),
                lambda: server.pods.set_ready("a"),
            ):
                change()
                watch.until_true()

            assert {"10.0.0.97:8000", "10.0.0.98:8000"} == watch.found.keys()

    def test_that_come_back(self, server: ApiServer) -> None:
        """What is remembered of a pod's cache comes back with it, unless its containers restarted meanwhile."""
        server.pools.add(pool_document())
        add_pod(server, "a")
        with Followed(server) as watch:
            watch.until_synced()

            def cache() -> int:
                fleet = watch.registry.publish().fleet
                return fleet.caches[fleet.by_id["default/a-rank-0"]]

            first = cache()
            for labels in ({"app": "other"}, LLAMA):
                server.pods.update("a", {"metadata": {"labels": labels}})
                watch.until_true()
            for ready in (False, True):
                server.pods.set_ready("a", ready=ready)
                watch.until_true()
            assert first == cache()
            server.pods.set_ready("a", ready=False)
            watch.until_true()
            server.pods.update("a", {"status": {"containerStatuses": [{"name": "server", "restartCount": 1}]}})
            server.pods.set_ready("a")
            watch.until_true()
            second = cache()
            assert second > first
            server.pods.update("a", {"status": {"containerStatuses": [{"name": "server", "restartCount": 2}]}})
            until(lambda: cache() > second, cache)

    def test_terminating(self, server: ApiServer) -> None:
        """A pod that is being deleted gets no requests, though it is there and ready."""
        server.pools.add(pool_document())
        pod = make_pod("a", ip="10.0.0.1", labels=LLAMA).to_dict()
        server.pods.add(pod | {"spec": {"nodeName": "node", "containers": [{"name": "a", "image": "a"}]}})
        with Followed(server) as watch:
            watch.until_synced()
            assert 1 == len(watch.found)
            server.pods.delete("a")
            watch.until_true()

            assert 1 == len(server.pods)
            assert {} == watch.found

    def test_all_restart_at_once(self, server: ApiServer) -> None:
        """A thousand pods that restart together end up in the registry as they are, and cost no further requests."""
        server.pools.add(pool_document())
        pods = [make_pod(f"p{n:04}", ip=f"10.0.{n // 250}.{n % 250}", labels=LLAMA) for n in range(1000)]
        for pod in pods:
            server.pods.add(pod)
        with Followed(server, options=ReflectorOptions()) as watch:
            watch.until_synced()
            before = watch.found
            server.requests.clear()
            for pod in pods:
                server.pods.set_ready(pod.name, ready=False)
                server.pods.delete(pod.name)
            for pod in reversed(pods):
                server.pods.add(attrs.evolve(pod, ready=False))
                server.pods.set_ready(pod.name)
            watch.until_true()

            assert before.keys() == watch.found.keys()
            assert not set(before.values()) & set(watch.found.values())
            assert 0 == len(server.requests)

    def test_that_cannot_be_read(self, server: ApiServer, events: Events) -> None:
        """It is named once, and everything else goes on; when it makes sense again it counts."""
        server.pools.add(pool_document())
        add_pod(server, "a")
        add_pod(server, "b")
        with Followed(server) as watch:
            watch.until_synced()
            for _ in range(3):
                server.pods.update("a", {"status": {"conditions": [{"status": "True"}]}})
                server.pods.update("a", {"status": {"conditions": [{"status": "False"}]}})
            add_pod(server, "c")
            until(lambda: {"10.0.0.98:8000", "10.0.0.99:8000"} == watch.found.keys(), lambda: watch.found)
            server.end_watches("expire")
            until(lambda: events.of("pods listed again"), lambda: events.seen)
            assert 1 == len(events.of("object not read"))
            server.pods.update("a", {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
            watch.until_true()
            server.pods.update("a", {"status": {"conditions": [{"status": "True"}]}})
            until(lambda: 2 == len(watch.found), lambda: watch.found)

        told = events.of("object not read")
        assert [("pods", "a", "status.conditions[0].type: is required")] * 2 == [
            (each["resource"], each["name"], each["reason"]) for each in told
        ]


class TestPool:
    def test_comes_and_goes(self, server: ApiServer, events: Events) -> None:
        """A pool is awaited; when it goes its pods go, and nothing is ready; when it is back all is."""
        add_pod(server, "a")
        with Followed(server) as watch:
            server.requests.wait(verb="watch", resource="inferencepools", timeout=PATIENCE)
            assert [] == watch.synced
            server.pools.add(pool_document())
            watch.until_synced()
            server.pools.delete("llama")
            until(lambda: [True, False] == watch.synced, lambda: watch.synced)
            assert {} == watch.found
            server.pools.add(pool_document(ports=(8000, 8001)))
            until(lambda: [True, False, True] == watch.synced, lambda: watch.synced)
            watch.until_true()

        assert 2 == len(events.of("synced"))
        assert 1 == len(events.of("pool gone"))

    def test_changes(self, server: ApiServer) -> None:
        """Another selector and other ports count; endpoints that are ready before and after never vanish."""
        server.pools.add(pool_document())
        add_pod(server, "a", labels={"app": "llama", "tier": "gold"})
        add_pod(server, "b")
        add_pod(server, "c", labels={"tier": "gold"})
        with Followed(server) as watch:
            watch.until_synced()
            removed: list[str] = []
            watch.registry.subscribe(lambda change: removed.extend(each.pod_name for each in change.removed))
            spec = {"selector": {"matchLabels": {"app": None, "tier": "gold"}}}
            server.pools.update("llama", {"spec": spec})
            watch.until_true()
            assert {"10.0.0.97:8000", "10.0.0.99:8000"} == watch.found.keys()
            server.pools.update("llama", {"spec": {"targetPorts": [{"number": 8000}, {"number": 9000}]}})
            watch.until_true()

            assert ["b"] == removed
            assert 4 == len(watch.found)

    def test_of_the_older_version(self) -> None:
        """Pools of v1alpha2 are followed where that is what there is."""
        with ApiServer(initializing=0) as server:
            server.withdraw("inference.networking.k8s.io")
            spec = {"selector": LLAMA, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}}
            server.apply(
                {
                    "apiVersion": LEGACY_POOLS.api_version,
                    "kind": "InferencePool",
                    "metadata": {"name": "llama"},
                    "spec": spec,
                }
            )
            add_pod(server, "a")
            with Followed(server, pool=NamedPool("llama", group=LEGACY_POOLS.group)) as watch:
                until(lambda: {"10.0.0.97:8000"} == watch.found.keys(), lambda: watch.found)

    def test_as_it_is_to_be(self, server: ApiServer) -> None:
        """Pods can be followed by labels alone, without any object of the inference extension."""
        for group in ("inference.networking.k8s.io", "inference.networking.x-k8s.io", "llm-d.ai"):
            server.withdraw(group)
        add_pod(server, "a")
        add_pod(server, "b", namespace="other")
        pool = InferencePool(name="x", selector="app in (llama,other),!old", target_ports=[8000, 8001])
        with Followed(server, pool=pool) as watch:
            until(lambda: {"10.0.0.97:8000", "10.0.0.97:8001"} == watch.found.keys(), lambda: watch.found)
            server.pods.update("a", {"metadata": {"labels": {"old": "yes"}}})
            until(lambda: {} == watch.found, lambda: watch.found)

        assert {"pods"} == {entry.request.target.plural for entry in server.requests}


class TestRules:
    def test_of_the_pool(self, server: ApiServer) -> None:
        """Objectives and rewrites of the pool are given, and taken back when they or the pool go."""
        server.pools.add(pool_document())
        server.apply(rule("InferenceObjective", "a"), rule("InferenceObjective", "b", "other"))
        with Followed(server) as watch:
            watch.until_synced()
            assert {"a": 5} == watch.objectives
            server.apply(rule("InferenceModelRewrite", "r"))
            until(lambda: ("r",) == watch.rewrites, lambda: watch.rewrites)
            server.objectives.update("b", {"spec": {"poolRef": {"name": "llama"}, "priority": None}})
            until(lambda: {"a": 5, "b": None} == watch.objectives, lambda: watch.objectives)
            server.objectives.delete("a")
            until(lambda: {"b": None} == watch.objectives, lambda: watch.objectives)
            server.pools.delete("llama")
            until(lambda: not watch.objectives and not watch.rewrites, lambda: (watch.objectives, watch.rewrites))
            server.pools.add(pool_document())
            until(lambda: watch.objectives and watch.rewrites, lambda: (watch.objectives, watch.rewrites))

    def test_groups(self, server: ApiServer) -> None:
        """The newer group wins where both are served, and takes over when it is installed later."""
        legacy = "inference.networking.x-k8s.io/v1alpha2"
        server.apply(rule("InferenceObjective", "old", version=legacy), rule("InferenceObjective", "new"))
        server.pools.add(pool_document())
        with Followed(server) as watch:
            watch.until_synced()
            assert {"new": 5} == watch.objectives
            server.withdraw("llm-d.ai")
            until(lambda: {"old": 5} == watch.objectives, lambda: watch.objectives)
            server.serve("llm-d.ai")
            until(lambda: {} == watch.objectives, lambda: watch.objectives)
            server.withdraw("llm-d.ai")
            until(lambda: {"old": 5} == watch.objectives, lambda: watch.objectives)
            server.withdraw("inference.networking.x-k8s.io")
            until(lambda: {} == watch.objectives, lambda: watch.objectives)

            assert [True] == watch.synced


class TestRights:
    def test_least(self, server: ApiServer, events: Events) -> None:
        """Pods and pools are enough; without a right to rules there are none, and that is told."""
        rights = [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
            {"apiGroups": ["inference.networking.k8s.io"], "resources": ["inferencepools"], "verbs": ["list", "watch"]},
        ]
        account = server.service_account("epp", rules=rights)
        server.pools.add(pool_document())
        add_pod(server, "a")
        with Followed(server, account=account) as watch:
            watch.until_synced()

        forbidden = {each["resource"] for each in events.of("cluster not followed") if each["status"] == 403}
        assert {"inferenceobjectives.llm-d.ai", "inferencemodelrewrites.llm-d.ai"} == forbidden

    def test_none(self, server: ApiServer, events: Events) -> None:
        """Without a right, what is missing is told, and tried again: rights may come later."""
        account = server.service_account("epp")
        server.pools.add(pool_document())
        add_pod(server, "a")
        with Followed(server, account=account) as watch:
            until(lambda: "inferencepools.inference.networking.k8s.io" in watch.watch.problems, lambda: events.seen)
            until(lambda: any("hint" in each for each in events.of("cluster not followed")), lambda: events.seen)
            assert [] == watch.synced
            server.service_account("epp", rules=[{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
            watch.until_synced()

        told = next(each for each in events.of("cluster not followed") if "hint" in each)
        assert 403 == told["status"]
        assert "cannot" in told["reason"]
        assert told["hint"] == "the role needs the verbs get, list and watch for this resource in this namespace"
        assert told["retry_in"] > 0
        assert events.of("cluster followed again")

    def test_definition_that_is_missing(self, server: ApiServer, events: Events) -> None:
        """A server that has no pools is told apart from one without our pool; a definition may come later."""
        server.withdraw("inference.networking.k8s.io")
        with Followed(server) as watch:
            until(lambda: events.of("cluster not followed"), lambda: events.seen)
            (told, *_) = events.of("cluster not followed")
            assert (404, "the server has no such resource: is its definition (CRD) installed?") == (
                told["status"],
                told["hint"],
            )
            server.serve("inference.networking.k8s.io")
            server.pools.add(pool_document())
            watch.until_synced()


class TestWhatIsMissing:
    def test_pool(self, server: ApiServer, events: Events) -> None:
        """A pool that is not found is told in the log and to whoever is refused, with the pools that there are."""
        server.pools.add(pool_document() | {"metadata": {"name": "lama", "namespace": "default"}})
        with Followed(server) as watch:
            until(lambda: len(events.of("pool not found")) > 1, lambda: events.seen)
            with pytest.raises(NoEndpointsError, match=r"pool default/llama .* is not found; pools .*: lama; "):
                EndpointPicker(watch.registry).pick(InferenceRequest())
            server.pools.add(pool_document())
            watch.until_synced()
            with pytest.raises(NoEndpointsError) as caught:
                EndpointPicker(watch.registry).pick(InferenceRequest())
            assert "" == watch.watch.absence

        assert "there are no ready endpoints" == str(caught.value)
        told = events.of("pool not found")[0]
        assert "default/llama" == told["pool"]
        assert told["found"].startswith("pools in this namespace: lama; ")

    def test_endpoints_of_pods(self, server: ApiServer, events: Events) -> None:
        """Pods that match and give no endpoint are named with the reason, once in the log."""
        server.pools.add(pool_document())
        add_pod(server, "a", ready=False)
        add_pod(server, "b", annotations={"llm-d.ai/active-ports": "9999"})
        add_pod(server, "c")
        with Followed(server) as watch:
            until(lambda: watch.synced, lambda: watch.watch.problems)
            until(lambda: len(watch.watch.unused_pods) == 2, lambda: watch.watch.unused_pods)
            add_pod(server, "d", ready=False)
            until(lambda: "d" in watch.watch.unused_pods, lambda: watch.watch.unused_pods)
            server.pods.set_ready("a")
            server.pods.delete("d")
            until(lambda: {"b"} == watch.watch.unused_pods.keys(), lambda: watch.watch.unused_pods)

        assert {
            "a": "not ready (condition Ready is not True)",
            "b": "its annotation of active ports names none of the pool's (8000)",
            "d": "not ready (condition Ready is not True)",
        } == {each["name"]: each["reason"] for each in events.of("pod without endpoint")}
        assert 3 == len(events.of("pod without endpoint"))


def test_one_feed_that_is_heard_wakes_the_others(server: ApiServer, tmp_path: Path) -> None:
    """When one feed finds that the server is back, those that wait because it was away ask at once."""

    async def play() -> None:
        server.pools.add(pool_document())
        add_pod(server, "a")
        transport = LightkubeTransport(load_cluster(str(server.admin.write_kubeconfig(tmp_path / "kubeconfig"))))
        naps: list[asyncio.Event] = []
        is_back = False

        async def sleep(seconds: float) -> None:
            # Nobody wakes up by the clock: the first one does when the server is back, and has to wake all others.
            if is_back or seconds == 0:
                await asyncio.sleep(0.01)
                return
            naps.append(asyncio.Event())
            await naps[-1].wait()

        watch = PoolWatch(
            transport, EndpointRegistry(publish_interval=0), NamedPool("llama"), options=FAST, sleep=sleep
        )
        following = asyncio.create_task(watch.run())
        await watch.wait_until_synced()
        server.stop(how="reset")
        async with asyncio.timeout(PATIENCE):
            while "pods" not in watch.problems or len(watch.problems) < 2 or len(naps) < len(watch.problems):  # noqa: ASYNC110 - there is no event for it
                await asyncio.sleep(0.01)
            server.start()
            is_back = True
            naps[-1].set()
            while watch.problems:  # noqa: ASYNC110 - nobody is told of it
                await asyncio.sleep(0.01)
        following.cancel()
        await asyncio.wait([following])
        await transport.close()

    asyncio.run(play())


class TestPart:
    def test_mistake_of_a_listener(self, server: ApiServer, tmp_path: Path) -> None:
        """What is wrong in here, or in what it tells, is no failure of the server: it ends the watch."""

        def fail(_synced: bool) -> None:
            message = "a mistake"
            raise LookupError(message)

        async def scenario(kubeconfig: str) -> None:
            transport = LightkubeTransport(load_cluster(kubeconfig))
            watch = PoolWatch(transport, EndpointRegistry(), NamedPool("llama"), on_synced=fail, options=CALM)
            with pytest.raises(LookupError, match="a mistake"):
                await watch.run()
            await transport.close()

        server.pools.add(pool_document())
        asyncio.run(scenario(str(server.kubeconfig(tmp_path / "config"))))

    def test_waiting_for_it(self, server: ApiServer, tmp_path: Path) -> None:
        """Whoever embeds it can wait until it is synced."""

        async def scenario() -> list[str]:
            transport = LightkubeTransport(load_cluster(str(server.kubeconfig(tmp_path / "config"))))
            registry = EndpointRegistry()
            watch = PoolWatch(transport, registry, NamedPool("llama"), options=CALM)
            task = asyncio.create_task(watch.run())
            async with asyncio.timeout(PATIENCE):
                await watch.wait_until_synced()
            assert watch.synced
            assert {} == watch.problems
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await transport.close()
            return [endpoint.id for endpoint in registry.endpoints()]

        server.pools.add(pool_document())
        add_pod(server, "a")

        assert ["default/a-rank-0"] == asyncio.run(scenario())

    def test_turns_of_others(self, server: ApiServer, tmp_path: Path) -> None:
        """A list of many pods reaches the registry bit by bit, with turns for others, and readiness waits for all."""
        server.pools.add(pool_document())
        for number in range(1000):
            server.pods.add(make_pod(f"pod-{number}", ip=f"10.0.{number // 250}.{number % 250}", labels=LLAMA))
        seen: set[int] = set()
        synced: list[int] = []

        async def scenario() -> None:
            registry = EndpointRegistry()
            transport = LightkubeTransport(load_cluster(str(server.kubeconfig(tmp_path / "kubeconfig"))))

            def count(_synced: bool) -> None:
                synced.append(registry.statistics().endpoints)

            watch = PoolWatch(transport, registry, NamedPool("llama"), options=CALM, on_synced=count)
            following = asyncio.create_task(watch.run())
            while not watch.synced:
                seen.add(registry.statistics().endpoints)
                await asyncio.sleep(0)
            following.cancel()
            await asyncio.wait([following])
            await transport.close()

        asyncio.run(asyncio.wait_for(scenario(), PATIENCE))

        assert [1000] == synced
        assert {200, 400, 600, 800} <= seen

    def test_clock_that_steps_back(self, server: ApiServer, tmp_path: Path) -> None:
        """A clock that steps backwards at every look changes nothing that matters."""

        class Backwards:
            def __init__(self) -> None:
                self.now = 1e9

            def __call__(self) -> float:
                self.now -= 1000
                return self.now

        async def scenario(kubeconfig: str) -> None:
            transport = LightkubeTransport(load_cluster(kubeconfig))
            registry = EndpointRegistry(publish_interval=0)
            watch = PoolWatch(transport, registry, NamedPool("llama"), options=FAST, clock=Backwards())
            task = asyncio.create_task(watch.run())
            async with asyncio.timeout(PATIENCE):
                await watch.wait_until_synced()
                for how in ("end", "reset", "expire", "close"):
                    server.end_watches(how)
                    server.inject(Fault.internal_error(), resource="pods")
                    server.pods.delete("a")
                    while registry.endpoints():  # noqa: ASYNC110 - another thread changes it
                        await asyncio.sleep(0.005)
                    add_pod(server, "a")
                    while not registry.endpoints():  # noqa: ASYNC110 - as above
                        await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.wait([task])
            await transport.close()

        server.pools.add(pool_document())
        add_pod(server, "a")
        asyncio.run(scenario(str(server.kubeconfig(tmp_path / "config"))))


class TestOwnClient:
    def test_any_client_will_do(self, server: ApiServer) -> None:
        """A client of one's own, with errors of its own, is driven like ours."""

        class ForeignError(Exception):
            def __init__(self, status: int) -> None:
                super().__init__(f"status {status}")
                self.status = status

        class Own:
            """The standard library, in threads."""

            def __init__(self) -> None:
                self.failures = 3

            async def get(self, path: str, params: Mapping[str, str]) -> bytes:
                return await asyncio.to_thread(self._ask, path, params)

            async def stream_lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
                # A watch that ends with what there is: without pushing, but with all the same requests.
                yield await asyncio.to_thread(self._ask, path, {**params, "timeoutSeconds": "1"})

            def _ask(self, path: str, params: Mapping[str, str]) -> bytes:
                if self.failures:
                    self.failures -= 1
                    raise ForeignError(503)
                url = f"{server.url}{path}?{urllib.parse.urlencode(params)}"
                request = urllib.request.Request(url, headers=dict(server.admin.headers))  # noqa: S310 - our own server
                try:
                    with urllib.request.urlopen(request, timeout=PATIENCE) as response:  # noqa: S310 - as above
                        body: bytes = response.read()
                        return body
                except urllib.error.HTTPError as error:
                    with error:
                        raise ForeignError(error.code) from None

        async def scenario() -> None:
            registry = EndpointRegistry(publish_interval=0)
            options = attrs.evolve(CALM, streaming_lists=False)
            watch = PoolWatch(Own(), registry, NamedPool("llama"), options=options)
            task = asyncio.create_task(watch.run())
            async with asyncio.timeout(PATIENCE):
                await watch.wait_until_synced()
                assert 1 == len(registry.endpoints())
                server.pods.delete("a")
                while registry.endpoints():  # noqa: ASYNC110 - another thread changes it
                    await asyncio.sleep(0.005)
            task.cancel()
            await asyncio.wait([task])

        server.pools.add(pool_document())
        add_pod(server, "a")
        asyncio.run(scenario())
