"""A cluster, a picker that follows it, and Envoy: requests go where pods are."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, final

import attrs
from aiohttp import web

from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod, make_pool
from tests.envoy.serving import PLAIN, Served, served
from tests.envoy.stage import CHAT, Client, Stage, chat, on_stage, until

LLAMA: Final = {"app": "llama"}
_CLIENTS = 8


@asynccontextmanager
async def every_pod() -> AsyncIterator[int]:
    """Serve at every loopback address, at one port; the answer tells at which address it was asked."""

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        assert request.transport is not None
        address, _ = request.transport.get_extra_info("sockname")
        return web.json_response({}, headers={"x-pod": address})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)  # noqa: S104 - it stands for all pods
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@attrs.frozen
class Sent:
    """A request: how many were sent before it, and what became of it."""

    number: int
    status: int
    pod: str | None


@final
class Traffic:
    """Sends requests without a pause, and keeps what became of the latest of them."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.answers: deque[Sent] = deque(maxlen=100_000)
        self.count = 0

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_CLIENTS):
                group.create_task(self._send())

    async def _send(self) -> None:
        while True:
            number = self.count
            self.count += 1
            reply = await self._client.send(CHAT, chat())
            self.answers.append(Sent(number, reply.status, reply.headers.get("x-pod")))

    async def served_by(self, address: str) -> int:
        """Wait until *address* serves; the count of requests sent by then."""
        start = self.count
        await until(lambda: any(each.pod == address for each in self.since(start)), lambda: self.summary(start))
        return self.count

    def since(self, start: int) -> list[Sent]:
        """The answers to requests that were sent after the first *start* ones."""
        return [each for each in self.answers if each.number >= start]

    async def some(self, start: int) -> list[Sent]:
        """Wait for a good number of answers to requests that were sent after the first *start* ones, and give them."""
        await until(lambda: len(self.since(start)) >= 50, lambda: self.summary(start))
        return self.since(start)

    def summary(self, start: int) -> object:
        """What became of requests since *start*, in short."""
        return {(each.status, each.pod) for each in self.since(start)}


@final
class Fleet:
    """Pods of the API server, each with an address of its own."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._numbers = itertools.count(2)
        self.addresses: dict[str, str] = {}

    def add(self, name: str, labels: Mapping[str, str] = LLAMA, *, ready: bool = True) -> str:
        """Add a pod; its address."""
        self.addresses[name] = f"127.0.0.{next(self._numbers)}"
        self._server.pods.add(make_pod(name, ip=self.addresses[name], labels=labels, ready=ready))
        return self.addresses[name]


@asynccontextmanager
async def cluster(
    stage: Stage, server: ApiServer, tmp_path: Path, port: int, *arguments: str
) -> AsyncIterator[tuple[Served, Traffic]]:
    """Run the picker and Envoy for the pool of *server*, and send requests."""
    kubeconfig = str(server.kubeconfig(tmp_path / "kubeconfig"))
    async with served(*arguments, "--kubeconfig", kubeconfig, *PLAIN) as picker:
        await picker.line("synced")
        client = await stage.start_envoy(picker.address, addresses=[f"127.0.0.1:{port}"], cluster="original-dst")
        traffic = Traffic(client)
        sending = asyncio.create_task(traffic.run())
        try:
            yield picker, traffic
        finally:
            sending.cancel()
            await asyncio.wait([sending])


@on_stage
async def test_traffic_follows_pods(stage: Stage, tmp_path: Path) -> None:
    """
    No request that is sent when a pod is known to be gone goes to it, and none fails.

    A pod is known to be gone when requests go to one that came after it: the picker hears of them in this order.
    """
    async with every_pod() as port:
        with ApiServer(initializing=0) as server:
            server.pools.add(make_pool("llama", selector=LLAMA, ports=[port]))
            fleet = Fleet(server)
            fleet.add("a")
            fleet.add("b")
            fleet.add("unready", ready=False)
            fleet.add("other", {"app": "other"})
            async with cluster(stage, server, tmp_path, port, "--pool-name", "llama") as (_, traffic):
                here = {fleet.addresses["a"], fleet.addresses["b"]}
                for address in here:
                    await traffic.served_by(address)

                async def check(what: str, change: Callable[[], Any], *, came: str = "", gone: str = "") -> None:
                    old = fleet.addresses.get(gone)
                    change()
                    here.discard(old or "")
                    if came:
                        here.add(fleet.addresses[came])
                        await traffic.served_by(fleet.addresses[came])
                    mark = fleet.add(f"mark-{len(fleet.addresses)}")
                    here.add(mark)
                    start = await traffic.served_by(mark)
                    answers = await traffic.some(start)
                    assert {200} == {each.status for each in answers}, what
                    assert {each.pod for each in answers} <= here, what

                pods = server.pods

                def relabel(name: str, app: str) -> None:
                    pods.update(name, {"metadata": {"labels": {"app": app}}})

                def make_again(name: str) -> None:
                    pods.delete(name)
                    fleet.add(name)

                def delete_in_a_gap(name: str) -> None:
                    server.end_watches("expire")
                    pods.delete(name)

                await check("added", lambda: fleet.add("c"), came="c")
                await check("made ready", lambda: pods.set_ready("unready"), came="unready")
                await check("made unready", lambda: pods.set_ready("a", ready=False), gone="a")
                await check("labeled for the pool", lambda: relabel("other", "llama"), came="other")
                await check("labeled for another", lambda: relabel("b", "other"), gone="b")
                await check("deleted", lambda: pods.delete("c"), gone="c")
                await check("made again", lambda: fleet.add("c"), came="c")
                await check("made again at once", lambda: make_again("c"), gone="c", came="c")
                await check("watch reset", lambda: server.end_watches("reset"))
                await check("gone in a gap", lambda: delete_in_a_gap("unready"), gone="unready")


@on_stage
async def test_traffic_follows_the_pool(stage: Stage, tmp_path: Path) -> None:
    """Another selector moves requests without a gap; without the pool they get 503; with it they go on."""
    async with every_pod() as port:
        with ApiServer(initializing=0) as server:
            pool = make_pool("llama", selector=LLAMA, ports=[port])
            server.pools.add(pool)
            fleet = Fleet(server)
            old, new = fleet.add("a"), fleet.add("b", {"app": "next"})
            async with cluster(stage, server, tmp_path, port, "--pool-name", "llama") as (picker, traffic):
                await traffic.served_by(old)
                server.pools.update("llama", {"spec": {"selector": {"matchLabels": {"app": "next"}}}})
                start = await traffic.served_by(new)
                assert {(200, new)} == {(each.status, each.pod) for each in await traffic.some(start)}
                assert {200} == {each.status for each in traffic.answers}

                server.pools.delete("llama")
                await picker.line("pool gone")
                start = traffic.count
                assert {(503, None)} == {(each.status, each.pod) for each in await traffic.some(start)}
                server.pools.add(pool)
                start = await traffic.served_by(old)
                assert {(200, old)} == {(each.status, each.pod) for each in await traffic.some(start)}


@on_stage
async def test_traffic_follows_labels(stage: Stage, tmp_path: Path) -> None:
    """Pods are followed by labels and ports alone, where there is no pool."""
    async with every_pod() as port:
        with ApiServer(initializing=0) as server:
            server.withdraw("inference.networking.k8s.io")
            fleet = Fleet(server)
            first = fleet.add("a")
            fleet.add("old", LLAMA | {"old": "yes"})
            flags = ("--endpoint-selector", "app in (llama,other),!old", "--endpoint-target-ports", str(port))
            async with cluster(stage, server, tmp_path, port, *flags) as (_, traffic):
                await traffic.served_by(first)
                second = fleet.add("b", {"app": "other"})
                start = await traffic.served_by(second)
                assert {first, second} == {each.pod for each in await traffic.some(start)}
                server.pods.delete("a")
                third = fleet.add("c")
                start = await traffic.served_by(third)

                assert {each.pod for each in await traffic.some(start)} <= {second, third}
