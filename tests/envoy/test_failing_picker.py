"""What the pool's failure mode comes to when the picker is away, hangs, fails, or is killed and comes back."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.envoy.serving import PLAIN, Served, served, write_endpoints
from tests.envoy.stage import CHAT, Client, Stage, chat, on_stage, until

SIZES = [0, 2, 100_000, 900_000]
# Pools that fail open: their configuration allows nothing else.
OPEN = ["buffered", "none"]
CLOSED = [
    ("override-host", "full-duplex"),
    ("original-dst", "full-duplex"),
    ("override-host", "buffered"),
    ("original-dst", "none"),
]


def _body(size: int) -> bytes | None:
    return b"x" * size or None


async def _check_open(client: Client, picked: str = "") -> None:
    """Send requests of every size; all of them must arrive whole, at *picked* if given."""
    for size in SIZES * 3:
        body = _body(size)
        reply = await client.send("/opaque", body)
        assert 200 == reply.status, (size, reply)
        assert (size, hashlib.sha256(body or b"").hexdigest()) == (reply.json()["length"], reply.json()["sha256"])
        assert reply.headers["x-served-by"] == (picked or reply.headers["x-served-by"])


async def _check_closed(client: Client, status: int = 503) -> None:
    for size in SIZES * 3:
        assert status == (await client.send("/opaque", _body(size))).status, size


class TestAway:
    @pytest.mark.parametrize("body_mode", OPEN)
    @on_stage
    async def test_open(self, stage: Stage, body_mode: str) -> None:
        """Nobody listens where the picker was: every request is served."""
        addresses = [stage.scripted.address]
        picker = await stage.start_picker(addresses)
        client = await stage.start_envoy(picker.address, addresses=addresses, mode="FailOpen", body_mode=body_mode)
        await _check_open(client)
        await picker.until_idle()
        assert 12 == len(picker.exchanges)
        await picker.server.stop(0)
        await _check_open(client)
        assert 12 == len(picker.exchanges)

    @pytest.mark.parametrize(("cluster", "body_mode"), CLOSED)
    @on_stage
    async def test_closed(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Every request is refused with 503."""
        addresses = [stage.scripted.address]
        picker = await stage.start_picker(addresses)
        client = await stage.start_envoy(picker.address, addresses=addresses, cluster=cluster, body_mode=body_mode)
        await _check_open(client)
        await picker.server.stop(0)
        await _check_closed(client)


class TestFailing:
    """A strategy that raises ends the stream with an error."""

    @pytest.mark.parametrize("body_mode", OPEN)
    @on_stage
    async def test_open(self, stage: Stage, body_mode: str) -> None:
        """The request is served by some endpoint, whole."""
        addresses = [stage.scripted.address]
        picker = await stage.start_picker(addresses)
        client = await stage.start_envoy(picker.address, addresses=addresses, mode="FailOpen", body_mode=body_mode)
        for size in SIZES * 3:
            body = _body(size)
            reply = await client.send("/opaque", body, {"x-whim": "raise"})
            assert (200, size) == (reply.status, reply.json()["length"])
            assert hashlib.sha256(body or b"").hexdigest() == reply.json()["sha256"]
            exchange = await picker.exchange(reply.request_id)
            assert isinstance(exchange.error, LookupError)
            assert not exchange.refused
        assert len(picker.errors) == len(SIZES) * 3
        await _check_open(client, stage.scripted.address)
        await picker.until_idle()

    @pytest.mark.parametrize(("cluster", "body_mode"), CLOSED)
    @on_stage
    async def test_closed(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """The client gets 503, without the reason; the next request is served."""
        addresses = [stage.scripted.address]
        picker = await stage.start_picker(addresses)
        client = await stage.start_envoy(picker.address, addresses=addresses, cluster=cluster, body_mode=body_mode)
        for size in SIZES * 3:
            reply = await client.send("/opaque", _body(size), {"x-whim": "raise"})
            assert 503 == reply.status, (size, reply)
            assert b"told" not in reply.body
        await _check_open(client)
        await picker.until_idle()


class TestHanging:
    """The process of the picker stops running, and its connections stay."""

    @pytest.mark.parametrize("body_mode", OPEN)
    @on_stage
    async def test_open(self, stage: Stage, body_mode: str, tmp_path: Path) -> None:
        """Requests are served after the timeout; after the picker goes on, they are picked for again."""
        await self._hang(stage, tmp_path, "override-host", body_mode, mode="FailOpen")

    @pytest.mark.parametrize(("cluster", "body_mode"), CLOSED)
    @on_stage
    async def test_closed(self, stage: Stage, cluster: str, body_mode: str, tmp_path: Path) -> None:
        """Requests get an error, in full duplex by the keepalive; after the picker goes on, they are served again."""
        await self._hang(stage, tmp_path, cluster, body_mode, mode="FailClose")

    async def _hang(self, stage: Stage, folder: Path, cluster: str, body_mode: str, mode: str) -> None:
        file = folder / "endpoints.json"
        addresses = [stage.scripted.address]
        write_endpoints(file, addresses)
        async with served("--endpoints-file", str(file), *PLAIN) as picker:
            client = await stage.start_envoy(
                picker.address,
                addresses=addresses,
                cluster=cluster,
                body_mode=body_mode,
                mode=mode,
                # It must hold for a picker that runs, on a busy machine too.
                epp_timeout=1.5,
                epp_keepalive=1.5,
            )
            await _check_open(client)
            picker.send(signal.SIGSTOP)
            replies = await asyncio.gather(*(client.send("/opaque", _body(size)) for size in SIZES))
            if mode == "FailOpen":
                assert [(200, size) for size in SIZES] == [(each.status, each.json()["length"]) for each in replies]
            else:
                assert {each.status for each in replies} <= {503, 504}
            picker.send(signal.SIGCONT)
            for _ in range(200):
                if (await client.send("/opaque")).status == 200:
                    break
            await _check_open(client)


class _Load:
    """Sends requests until it is stopped, and counts by phase how they ended."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.phase = "before"
        self.counts: dict[str, Counter[str]] = {"before": Counter(), "between": Counter(), "after": Counter()}
        self._stopped = False
        self._workers = [asyncio.ensure_future(self._send()) for _ in range(16)]

    async def _send(self) -> None:
        while not self._stopped:
            began = self.phase
            try:
                outcome = str((await self.client.send(CHAT, chat(2000))).status)
            except aiohttp.ClientError as error:
                outcome = type(error).__name__
            # A request that saw the end of a phase has seen what comes between.
            self.counts[began if began == self.phase else "between"][outcome] += 1

    async def enough(self) -> None:
        """Wait for 200 requests of the phase."""
        counted = self.counts[self.phase]
        count = counted.total()
        await until(lambda: counted.total() >= count + 200, lambda: self.counts)

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._workers)


class TestKilled:
    @pytest.mark.parametrize(
        ("cluster", "mode"),
        [("override-host", "FailClose"), ("original-dst", "FailClose"), ("override-host", "FailOpen")],
    )
    @on_stage
    async def test_and_started_again(
        self,
        stage: Stage,
        cluster: str,
        mode: str,
        tmp_path: Path,
        record_property: Callable[[str, object], None],
    ) -> None:
        """
        Under load, at the same port: Envoy finds the new picker by itself.

        A closed pool refuses what comes in between with 503, and responses on their way are cut off. An open one loses
        nothing.
        """
        file = tmp_path / "endpoints.json"
        write_endpoints(file, stage.addresses)
        first = await Served.start("--endpoints-file", str(file), *PLAIN)
        client = await stage.start_envoy(first.address, cluster=cluster, mode=mode)
        streams = []
        for _ in range(10):
            script = stage.scripted.script()
            script.send(b"first")
            sent = {**script.headers, "x-request-id": "stream"}
            # Without a pin the picker chooses; the script waits at one server only, so others answer at once.
            streams.append((script, asyncio.ensure_future(client.send("/opaque", chat(), sent))))
        load = _Load(client)
        await load.enough()
        waiting = [script for script, _ in streams if script.arrived.is_set()]
        load.phase = "between"
        await first.kill()
        await load.enough()
        second = await Served.start("--endpoints-file", str(file), "--log-requests", *PLAIN, port=first.port)
        try:
            await second.line("request picked")
            await until(lambda: load.counts["between"]["200"] > 100, lambda: load.counts)
            load.phase = "after"
            await load.enough()
            await load.stop()
            for script in waiting:
                script.end()
            results = await asyncio.gather(*(task for _, task in streams), return_exceptions=True)
        finally:
            await second.kill()
        cut = sum(isinstance(result, aiohttp.ClientError) for result in results)
        told = f"{mode}: {load.counts}; of {len(waiting)} responses on their way {cut} were cut off"
        record_property("outcomes", told)
        between = {"200"} if mode == "FailOpen" else {"200", "503"}
        assert waiting, told
        assert [{"200"}, between, {"200"}] == [set(counted) for counted in load.counts.values()], told
        assert cut == (0 if mode == "FailOpen" else len(waiting)), told
