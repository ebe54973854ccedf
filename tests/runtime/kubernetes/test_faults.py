"""Whatever goes wrong between the API server and the watch, the registry says what is true when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import attrs
import pytest

from inferencepool.adapters.kubernetes import ReflectorOptions
from inferencepool.lab.apiserver import ApiServer, Fault, Gate
from inferencepool.testing import make_pod
from tests.runtime.kubernetes.cluster import CALM, FAST, LLAMA, Followed, most_requests, pool_document, until

Trouble = Callable[[ApiServer], Any]


def add_pods(server: ApiServer, *names: str) -> None:
    """Add ready pods of the pool, each with an address of its own."""
    for name in names:
        server.pods.add(make_pod(name, ip=f"10.0.0.{ord(name)}", labels=LLAMA))


@contextmanager
def followed(server: ApiServer, options: ReflectorOptions = FAST) -> Iterator[Followed]:
    """Follow a pool with some pods until the end of the block, and be in step at its begin."""
    server.pools.add(pool_document())
    add_pods(server, *"abcdefgh")
    with Followed(server, options=options) as watch:
        watch.until_synced()
        yield watch


def injected(fault: Callable[[], Fault], **match: Any) -> Trouble:
    """Let every request meet *fault*, beginning with those that are open."""

    def begin(server: ApiServer) -> Any:
        injection = server.inject(fault(), times=None, **match)
        server.end_watches("reset")
        return injection

    return begin


def answered_by(*faults: Fault) -> Trouble:
    """Let the next requests for pods meet *faults*, each one of them."""

    def begin(server: ApiServer) -> None:
        for fault in faults:
            server.inject(fault, resource="pods")
        server.end_watches("reset", resource="pods")

    return begin


def expired_between_pages(server: ApiServer) -> None:
    """Forget the past whenever a page of a list has been given, so that the token for the next one is of no use."""
    server.inject(
        Fault.internal_error(), verb="watch", times=None, where=lambda request: "sendInitialEvents" in request.query
    )
    server.inject(
        Fault.expired(), verb="list", resource="pods", times=3, where=lambda request: "continue" in request.query
    )
    server.compact()
    server.end_watches("expire")


TROUBLES: dict[str, Trouble] = {
    "watch ends in order": lambda server: server.end_watches("end"),
    "watch expires": lambda server: server.end_watches("expire"),
    "watch is reset": lambda server: server.end_watches("reset"),
    "watch is closed in the middle": lambda server: server.end_watches("close"),
    "watch falls silent": lambda server: server.end_watches("silence"),
    "past is forgotten": lambda server: (server.end_watches("reset"), server.compact()),
    "every version is too old": injected(
        Fault.expired, verb="watch", where=lambda request: "resourceVersion" in request.query
    ),
    "every version is too old, in events": injected(
        Fault.expired_event, verb="watch", where=lambda request: "resourceVersion" in request.query
    ),
    "version is too large": injected(lambda: Fault.status(504, "Timeout", "Too large resource version: 9, current: 1")),
    "tokens of pages expire": expired_between_pages,
    "lists as streams are refused": lambda server: (
        injected(
            lambda: Fault.status(422, "Invalid"),
            verb="watch",
            where=lambda request: "sendInitialEvents" in request.query,
        )(server),
        server.end_watches("expire"),
    ),
    "401": injected(Fault.unauthorized),
    "403": injected(Fault.forbidden),
    "429 with a time to wait": injected(lambda: Fault.too_many_requests(1)),
    "409": injected(Fault.conflict),
    "500": injected(Fault.internal_error),
    "503 of a load balancer": injected(Fault.unavailable),
    "500 in events": injected(
        lambda: Fault.error_event({"kind": "Status", "code": 500, "message": "fault"}), verb="watch"
    ),
    "no JSON": injected(Fault.garbage),
    "page of a proxy": injected(Fault.web_page),
    "redirect": injected(lambda: Fault.status(302, "Found")),
    "no answer, reset": injected(lambda: Fault.drop("reset")),
    "no answer, closed": injected(lambda: Fault.drop("close")),
    "no answer, silence": injected(lambda: Fault.drop("silence")),
    "body breaks off": injected(lambda: Fault.break_off("reset", lines=1, bytes=7)),
    "body ends early": injected(lambda: Fault.break_off("close", lines=1, bytes=7)),
    "body stops": injected(lambda: Fault.break_off("silence", lines=1, bytes=7)),
    "bytes one by one": injected(lambda: Fault.split(1)),
    "bytes in odd pieces": injected(lambda: Fault.split(7, 1, 300)),
    "lines together": injected(lambda: Fault.merge(3)),
    "lines that are no events": answered_by(
        *(Fault(first=[line]) for line in (b"{", b"[]", b"<html>", b'{"type":"ADDED"}'))
    ),
    "blank lines": answered_by(Fault(first=[b"", b" "])),
    "several in a row": answered_by(
        Fault.internal_error(), Fault.expired_event(), Fault.drop("reset"), Fault.web_page(), Fault.too_many_requests(1)
    ),
}


MEETINGS = [(trouble, streaming) for trouble in TROUBLES for streaming in (True, False)]


@attrs.define
class Routable:
    """Watches for endpoints that were seen to go."""

    gone: set[str] = attrs.field(factory=set)
    wrong: list[str] = attrs.field(factory=list)

    def hear(self, change: Any) -> None:
        """Hear of a change of a registry."""
        self.gone |= {endpoint.pod_uid for endpoint in change.removed}
        self.wrong += [endpoint.id for endpoint in change.added if endpoint.pod_uid in self.gone]


def meet(trouble: str, streaming: bool) -> None:
    """Follow a pool while *trouble* is met, and for as long as it takes to be in step afterwards."""
    options = attrs.evolve(FAST, streaming_lists=streaming)
    with ApiServer(initializing=0) as server, followed(server, options) as watch, ExitStack() as over:
        routable = Routable()
        over.callback(watch.registry.subscribe(routable.hear))
        requests = server.requests.count(resource="pods")
        TROUBLES[trouble](server)
        for _ in range(3):
            server.pods.delete("a")
            add_pods(server, "a")
        server.pods.delete("b")
        server.pods.set_ready("c", ready=False)
        server.pods.update("d", {"metadata": {"labels": {"app": "other"}}})
        add_pods(server, "x", "y")
        until(
            lambda: watch.found == watch.truth or server.requests.count(resource="pods") >= requests + 3,
            lambda: watch.found,
        )
        server.heal()
        watch.until_true()

        assert {f"10.0.0.{ord(name)}:8000" for name in "aefghxy"} == watch.found.keys()
        assert [True] == watch.synced
        assert [] == routable.wrong


@pytest.fixture(name="met", scope="module")
def _met() -> Iterator[Callable[[str, bool], Future[None]]]:
    """Give what became of every trouble; several are met at a time, because most of them are waiting."""
    with ThreadPoolExecutor(8) as pool:
        outcomes = {(trouble, streaming): pool.submit(meet, trouble, streaming) for trouble, streaming in MEETINGS}
        yield lambda trouble, streaming: outcomes[trouble, streaming]


@pytest.mark.parametrize(("trouble", "streaming"), MEETINGS)
def test_fault(trouble: str, streaming: bool, met: Callable[[str, bool], Future[None]]) -> None:
    """
    Pods that come and go while it lasts are in the registry, or not, when it is over.

    No pod that was seen to go comes back, and readiness does not flicker.
    """
    met(trouble, streaming).result()


def test_known_pods_stay_while_the_server_is_away() -> None:
    """A server that does not answer takes nothing away; how long it has been away is known."""
    with ApiServer(initializing=0) as server, followed(server) as watch:
        before = watch.found
        server.stop(how="reset")
        until(lambda: "pods" in watch.watch.problems, lambda: watch.watch.problems)
        assert before == watch.found
        age = watch.watch.age
        until(lambda: watch.watch.age > age, lambda: watch.watch.age)
        server.pods.delete("a")
        server.start()
        watch.until_true()

        assert 7 == len(watch.found)
        until(lambda: not watch.watch.problems, lambda: watch.watch.problems)


@pytest.mark.parametrize("how", ["close", "reset"])
def test_restarts(how: Any) -> None:
    """A server that restarts, and forgets while it does, is followed on."""
    with ApiServer(initializing=0) as server, followed(server) as watch:
        for name in "abcd":
            server.stop(how=how)
            server.pods.delete(name)
            server.compact()
            server.start()
            watch.until_true()

        assert 4 == len(watch.found)


@pytest.mark.parametrize("streaming", [True, False])
def test_versions_that_go_back(streaming: bool) -> None:
    """What a server that was restored from a backup does not have any more is gone after one broken watch."""
    with ApiServer(initializing=0, streaming_lists=streaming) as server, followed(server) as watch:
        revision = server.revision
        add_pods(server, "x", "y")
        server.pods.delete("a")
        watch.until_true()
        ahead = server.revision
        server.requests.clear()
        server.restore(revision)
        server.pods.delete("b")
        assert server.revision < ahead
        watch.until_true()

        assert {f"10.0.0.{ord(name)}:8000" for name in "acdefgh"} == watch.found.keys()
        lists = server.requests.matching(verb="list", resource="pods")
        asked = [each.request.query.get("limit") for each in lists]
        assert "1" == asked[0]
        assert 1 == asked.count("1")


def test_partition() -> None:
    """Connections that are dead without a sign are given up, and nothing is taken away meanwhile."""
    with ApiServer(initializing=0) as server, followed(server) as watch:
        with server.partition():
            server.pods.delete("a")
            until(lambda: "pods" in watch.watch.problems, lambda: watch.watch.problems)
            assert 8 == len(watch.found)
        watch.until_true()

        assert 7 == len(watch.found)


def test_slow_list() -> None:
    """What happens while a list is on its way is not lost."""
    with ApiServer(initializing=0, streaming_lists=False) as server:
        gate = Gate()
        server.inject(Fault(gate=gate), verb="list", resource="pods")
        server.pools.add(pool_document())
        add_pods(server, *"ab")
        with Followed(server) as watch:
            gate.wait()
            server.pods.delete("a")
            add_pods(server, "c")
            gate.open()
            watch.until_synced()

            assert {"10.0.0.98:8000", "10.0.0.99:8000"} == watch.found.keys()


def test_list_that_never_comes() -> None:
    """A list that takes too long is asked for again."""
    with ApiServer(initializing=0, streaming_lists=False) as server:
        server.inject(Fault.drop("silence"), verb="list", resource="pods")
        server.pools.add(pool_document())
        add_pods(server, "a")
        with Followed(server, options=attrs.evolve(FAST, page_timeout=0.1)) as watch:
            watch.until_synced()

            assert 1 == len(watch.found)


def test_requests_while_all_is_well() -> None:
    """A server that ends watches in order is asked for a watch, never for a list."""
    with ApiServer(initializing=0) as server, followed(server, CALM) as watch:
        server.requests.clear()
        server.requests.wait(8, verb="watch")
        watch.until_true()

        assert 0 == server.requests.count(verb="list")
        assert 0 == server.requests.count(where=lambda request: "sendInitialEvents" in request.query)


def test_no_storm() -> None:
    """However the server fails for good, it is asked in growing intervals, for each resource."""
    lasting = [name for name in TROUBLES if TROUBLES[name].__qualname__.startswith("injected")]
    assert len(lasting) > 20
    with ExitStack() as over:
        watches = {}
        for name in lasting:
            server = over.enter_context(ApiServer(initializing=0))
            watches[name] = over.enter_context(followed(server, attrs.evolve(FAST, healthy_after=5)))
        for name, watch in watches.items():
            watch.server.requests.clear()
            TROUBLES[name](watch.server)
        began = time.monotonic()
        # The longer this lasts, the more requests are allowed; a machine that is busy makes fewer.
        time.sleep(2)
        counts = {
            (name, plural): watch.server.requests.count(resource=plural)
            for name, watch in watches.items()
            for plural in ("pods", "inferencepools", "inferenceobjectives", "inferencemodelrewrites")
        }
        allowed = most_requests(time.monotonic() - began)

    assert {} == {key: count for key, count in counts.items() if count > allowed}
