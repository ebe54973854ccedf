from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from inferencepool.adapters.kubernetes import ElectionOptions, LeaseName
from inferencepool.lab.apiserver import ApiServer, Fault
from inferencepool.runtime.election import LeaderElection, elapsed, make_identity
from tests.runtime.election.replicas import LASTING, LEASE, RULES, FastLoop, Replicas, replicas_of

Scenario = Callable[[Replicas], Awaitable[None]]


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    with ApiServer(initializing=0) as server:
        yield server


@pytest.fixture(name="play")
def _play(server: ApiServer, tmp_path: Path) -> Callable[[Scenario], None]:
    """Give a function that plays a scenario with replicas of the server."""

    def play(scenario: Scenario) -> None:
        async def main() -> None:
            async with replicas_of(server, tmp_path) as replicas:
                await scenario(replicas)

        with asyncio.Runner(loop_factory=FastLoop) as runner:
            runner.run(main())

    return play


def holder(server: ApiServer) -> str:
    """Tell who holds the lease, as the server has it."""
    return str(server.leases.get(LEASE.name)["spec"]["holderIdentity"])


def test_one_of_three_leads(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """Of three replicas one leads, and the others know who."""

    async def scenario(replicas: Replicas) -> None:
        for name in ("a", "b", "c"):
            replicas.start(name)
        leader = await replicas.leader()
        await replicas.until(lambda: {each.holder for each in replicas.elections.values()} == {leader})
        spec = server.leases.get(LEASE.name)["spec"]

        assert (leader, 20) == (spec["holderIdentity"], spec["leaseDurationSeconds"])
        assert [(leader, True)] == replicas.told

    play(scenario)


def test_leadership_lasts(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """A leader renews its lease and leads on; those who follow ask for nothing meanwhile."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        replicas.start("b")
        await replicas.until(lambda: server.watches(resource="leases") == 1)
        server.requests.clear()
        await replicas.until(lambda: server.requests.count(verb="update") >= LASTING)

        assert [("a", True)] == replicas.told
        assert 0 == server.requests.count(where=lambda request: request.token == replicas.accounts["b"].token)
        assert 0 == server.leases.get(LEASE.name)["spec"]["leaseTransitions"]

    play(scenario)


def test_release_hands_over(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """A leader that drains stops at once and gives the lease up; another hears of it and leads, without waiting."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        replicas.start("b")
        await replicas.until(lambda: server.watches(resource="leases") == 1)
        server.requests.clear()
        replicas.elections["a"].drain()
        assert [("a", True), ("a", False)] == replicas.told
        assert "b" == await replicas.leader()
        await replicas.ended("a")

        # It asked for nothing between the news and taking the lease, so it did not wait for a lease to end.
        asked = [each.request.verb for each in server.requests if each.request.token == replicas.accounts["b"].token]
        assert "update" == asked[0]
        assert 1 == server.leases.get(LEASE.name)["spec"]["leaseTransitions"]

    play(scenario)


def test_release_is_tried_again(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """A lease that cannot be given up at first is given up a little later."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        with server.inject(Fault.internal_error(), times=None, verb="update") as failing:
            replicas.elections["a"].drain()
            await replicas.until(lambda: failing.hits >= 2)
        await replicas.ended("a")

        assert "" == holder(server)

    play(scenario)


def test_cancelled_leader_gives_up(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """A replica whose task is cancelled gives the lease up before it ends."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        await replicas.cancel("a")

        assert "" == holder(server)
        assert [("a", True), ("a", False)] == replicas.told

    play(scenario)


def test_last_one_leaves_the_lease_free(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """After a drain the lease has no holder, and the next replica takes it at once."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a").drain()
        await replicas.ended("a")
        replicas.start("b")
        await replicas.leader()
        replicas.elections["b"].drain()
        await replicas.elections["b"].wait_until_ended()

        assert "" == holder(server)
        assert [("b", True), ("b", False)] == replicas.told

    play(scenario)


def test_partition_of_the_leader(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """A leader that is cut off stops before another begins; when it is back it follows."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        for name in ("b", "c"):
            replicas.start(name)
        await replicas.until(lambda: server.watches(resource="leases") == 2)
        token = replicas.accounts["a"].token
        with server.partition(where=lambda request: request.token == token):
            second = await replicas.leader(other_than="a")
            assert [("a", True), ("a", False), (second, True)] == replicas.told
        await replicas.until(lambda: replicas.elections["a"].holder == second)

        assert 3 == len(replicas.told)

    play(scenario)


def test_partition_of_the_followers(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """Who is cut off does not lead, however long it hears nothing."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        replicas.start("b")
        await replicas.until(lambda: server.watches(resource="leases") == 1)
        token = replicas.accounts["b"].token
        with server.partition(where=lambda request: request.token == token):
            server.requests.clear()
            await replicas.until(lambda: server.requests.count(verb="update") >= LASTING)

        assert [("a", True)] == replicas.told

    play(scenario)


def test_server_that_is_away(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """While the API server is away nobody leads for longer than the deadline; afterwards one does again."""

    async def scenario(replicas: Replicas) -> None:
        for name in ("a", "b"):
            replicas.start(name)
        await replicas.leader()
        server.stop()
        await replicas.until(lambda: not replicas.leading)
        assert replicas.elections["a"].problem is not None
        server.start()
        await replicas.leader()

    play(scenario)


def test_stream_that_ends(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """Who follows the lease begins anew when the server ends the stream in good order, and not at once."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        replicas.start("b")
        for count in (1, 2, 3):
            await replicas.until(lambda count=count: server.requests.count(verb="watch") == count)  # type: ignore[misc]  # its type cannot be inferred
            await replicas.until(lambda: server.end_watches("end") == 1)

        assert [("a", True)] == replicas.told

    play(scenario)


def test_client_with_a_mistake() -> None:
    """A client that is none ends the election, with its mistake, when it is needed."""

    class Wrong:
        async def get(self, path: str, params: Mapping[str, str]) -> bytes:
            metadata = {"name": "lock", "resourceVersion": "1"}
            return json.dumps({"metadata": metadata, "spec": {"holderIdentity": path, "other": dict(params)}}).encode()

        def stream_lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
            raise AttributeError(path, params)

        async def create(self, path: str, document: Mapping[str, Any]) -> bytes:
            raise AssertionError(path, document)

        async def replace(self, path: str, document: Mapping[str, Any]) -> bytes:
            raise AssertionError(path, document)

    with pytest.raises(AttributeError, match="/leases"):
        asyncio.run(LeaderElection(Wrong(), LeaseName("lock", "default"), on_change=print).run())


def test_clock_without_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a system does not count the time it slept, its monotonic clock has to do."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)

    assert time.monotonic() <= elapsed() <= time.monotonic()


def test_restart_within_the_deadline(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """A short absence of the API server changes nothing."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        server.stop(how="reset")
        server.start()
        server.requests.clear()
        await replicas.until(lambda: server.requests.count(verb="update") >= 5)

        assert [("a", True)] == replicas.told

    play(scenario)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.internal_error(),
        Fault.too_many_requests(1),
        Fault.conflict(),
        Fault.drop(),
        Fault.garbage(),
        Fault.drop("close"),
    ],
    ids=["500", "429", "409", "lost-answer", "garbage", "closed"],
)
def test_faults(server: ApiServer, play: Callable[[Scenario], None], fault: Fault) -> None:
    """Single faults of any request cost no leadership, and never make a second leader."""

    async def scenario(replicas: Replicas) -> None:
        for name in ("a", "b", "c"):
            replicas.start(name)
        await replicas.leader()
        for verb in ("update", "watch"):
            server.inject(fault, verb=verb)
        server.end_watches("close")
        server.requests.clear()
        await replicas.until(lambda: server.requests.count(verb="update") >= 15)

        assert {True} == {leading for _, leading in replicas.told}

    play(scenario)


def test_race(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """Of many that take a free lease at the same moment one leads."""

    async def scenario(replicas: Replicas) -> None:
        server.leases.add({"metadata": {"name": LEASE.name}, "spec": {"holderIdentity": ""}})
        names = [f"r{number}" for number in range(6)]
        for name in names:
            replicas.start(name)
        leader = await replicas.leader()
        await replicas.until(lambda: {each.holder for each in replicas.elections.values()} == {leader})

        assert [(leader, True)] == replicas.told
        assert 1 <= server.requests.count(verb="update", where=lambda request: b"r" in request.body)

    play(scenario)


def test_wrong_times_of_day(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """A time of day that is years off, and differs between replicas, changes nothing."""

    async def scenario(replicas: Replicas) -> None:
        years = timedelta(days=10_000)
        replicas.start("a", now=lambda: datetime.now(UTC) - years)
        await replicas.leader()
        replicas.start("b", now=lambda: datetime.now(UTC) + years)
        await replicas.until(lambda: server.watches(resource="leases") == 1)
        server.requests.clear()
        await replicas.until(lambda: server.requests.count(verb="update") >= 5)
        assert [("a", True)] == replicas.told
        replicas.elections["a"].drain()

        assert "b" == await replicas.leader()

    play(scenario)


def test_clock_that_jumps(play: Callable[[Scenario], None]) -> None:
    """A machine that slept does not lead when it wakes, until it has the lease anew."""

    async def scenario(replicas: Replicas) -> None:
        slept = 0.0
        election = replicas.start("a", clock=lambda: asyncio.get_running_loop().time() + slept)
        await replicas.leader()
        slept = 100.0
        assert not election.leading

        await replicas.leader()
        assert [True, False, True] == [leading for _, leading in replicas.told]

    play(scenario)


def test_without_the_right_to_watch(server: ApiServer, play: Callable[[Scenario], None]) -> None:
    """Who may not watch leases polls them, and takes over all the same."""

    async def scenario(replicas: Replicas) -> None:
        replicas.start("a")
        await replicas.leader()
        replicas.start("b", rules=[RULES[0], RULES[1] | {"verbs": ["get", "update"]}])
        token = replicas.accounts["b"].token
        await replicas.until(lambda: server.requests.count(verb="get", where=lambda each: each.token == token) >= 3)
        assert 1 == server.requests.count(verb="watch")
        replicas.elections["a"].drain()

        assert "b" == await replicas.leader()

    play(scenario)


def test_without_rights(server: ApiServer, play: Callable[[Scenario], None], caplog: pytest.LogCaptureFixture) -> None:
    """Who may not touch the lease does not lead, asks seldom, and says once which rights are missing."""
    caplog.set_level(logging.INFO, "inferencepool.runtime.election")

    async def scenario(replicas: Replicas) -> None:
        election = replicas.start("a", rules=[])
        await replicas.until(lambda: len(server.requests) >= 5)
        assert election.problem is not None
        assert 403 == election.problem.status
        election.drain()
        await replicas.ended("a")

    play(scenario)

    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert 1 == len(warnings)
    assert "get, watch, create and update for leases" in str(caplog.records[-1].__dict__)


def test_listener_that_fails(server: ApiServer, tmp_path: Path) -> None:
    """A mistake of who is told ends the election with that mistake, and gives the lease up."""

    class Mistake(Exception):  # noqa: N818 - named after what it stands for
        pass

    def fail(leading: bool) -> None:
        if leading:
            raise Mistake

    async def main() -> None:
        async with replicas_of(server, tmp_path) as replicas:
            replicas.start("unused")
            await replicas.cancel("unused")
            election = LeaderElection(_client(replicas), LEASE, on_change=fail)
            with pytest.raises(Mistake):
                await election.run()
            assert not election.leading

    asyncio.run(main())


def test_client_that_hangs() -> None:
    """A request without an answer is given up in time for another."""
    asked = asyncio.Semaphore(0)

    class Hanging:
        async def get(self, path: str, params: Mapping[str, str]) -> bytes:
            asked.release()
            await asyncio.Event().wait()
            raise AssertionError(path, params)

        def stream_lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
            raise AssertionError(path, params)

        async def create(self, path: str, document: Mapping[str, Any]) -> bytes:
            raise AssertionError(path, document)

        async def replace(self, path: str, document: Mapping[str, Any]) -> bytes:
            raise AssertionError(path, document)

    async def main() -> None:
        options = ElectionOptions(lease_duration=1, renew_deadline=0.1, retry_period=0.01)
        election = LeaderElection(Hanging(), LeaseName("lock", "default"), on_change=print, options=options)
        task = asyncio.create_task(election.run())
        for _ in range(3):
            await asked.acquire()
        assert election.problem is not None
        assert "no answer within 0.05 s" == election.problem.reason
        election.drain()
        await task

    asyncio.run(main())


def test_identities_differ() -> None:
    """Every replica has a name of its own, that begins with its host's."""
    first, second = make_identity(), make_identity()

    assert first != second
    assert first.rpartition("_")[0] == second.rpartition("_")[0]


def _client(replicas: Replicas) -> Any:
    return replicas._transports[0]
