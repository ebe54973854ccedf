"""Certificates that change under servers in use."""

from __future__ import annotations

import asyncio
import ssl
from math import inf, nan
from pathlib import Path

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.tls import CertificateReloader
from tests.runtime.tls.authority import DAY, Authority, Pair, mount, new_key, write
from tests.runtime.tls.connecting import client_context, connect, echoing, name_shown, say

AUTHORITY = Authority()
TRUSTING = client_context(AUTHORITY.pem)


class Watched:
    """A reloader and what it reported."""

    def __init__(self, directory: Path) -> None:
        self.problems: list[str] = []
        self.reloads = 0
        self.reloader = CertificateReloader(directory, on_reload=self._count, on_problem=self.problems.append)

    def _count(self) -> None:
        self.reloads += 1


def seen(port: int, context: ssl.SSLContext = TRUSTING) -> str:
    """Give the name that a new connection is shown."""
    with connect(port, context) as connection:
        assert connection.selected_alpn_protocol() == "h2"
        return name_shown(connection)


def test_new_connections_see_the_new_certificate_and_open_ones_go_on(tmp_path: Path) -> None:
    """The secret changes as a kubelet changes it."""
    watched = Watched(mount(tmp_path / "secret", AUTHORITY.issue("first"), "1"))

    def talk(port: int) -> None:
        with connect(port, TRUSTING) as open_one:
            assert name_shown(open_one) == "first"
            assert not watched.reloader.check()
            mount(tmp_path / "secret", AUTHORITY.issue("second"), "2")
            assert seen(port) == "first"
            assert watched.reloader.check()
            assert not watched.reloader.check()
            assert seen(port) == "second"
            assert say(open_one, b"still here") == b"still here"
            assert name_shown(open_one) == "first"

    async def run() -> None:
        async with echoing(watched.reloader.context) as port:
            await asyncio.to_thread(talk, port)

    asyncio.run(run())
    assert watched.reloads == 1
    assert watched.problems == []


@pytest.mark.parametrize("host", ["localhost", None])
def test_a_change_of_the_kind_of_key_leaves_nothing_of_the_former_certificate(tmp_path: Path, host: str | None) -> None:
    """A client that knows the former kind only is refused; with both kinds, it is shown the new one."""
    watched = Watched(write(tmp_path, AUTHORITY.issue("with RSA", new_key("rsa"))))
    both, former = client_context(None, ssl.TLSVersion.TLSv1_2), client_context(None, ssl.TLSVersion.TLSv1_2)
    both.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES128-GCM-SHA256")
    former.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")

    def look(port: int, client: ssl.SSLContext) -> str:
        with connect(port, client, host) as connection:
            return name_shown(connection)

    async def run() -> None:
        async with echoing(watched.reloader.context) as port:
            assert await asyncio.to_thread(look, port, former) == "with RSA"
            write(tmp_path, AUTHORITY.issue("with EC"))
            assert watched.reloader.check()
            assert await asyncio.to_thread(look, port, both) == "with EC"
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(look, port, former)

    asyncio.run(run())


def test_a_wrong_pair_is_reported_once_and_the_former_stays(tmp_path: Path) -> None:
    """Files that change one after the other, a cut file, a missing one, and then a whole pair."""
    first, second = AUTHORITY.issue("first"), AUTHORITY.issue("second")
    watched = Watched(write(tmp_path, first))
    check = watched.reloader.check

    async def run() -> None:
        async with echoing(watched.reloader.context) as port:
            (tmp_path / "tls.crt").write_bytes(second.chain)
            assert not check()
            assert not check()
            (tmp_path / "tls.crt").write_bytes(second.chain[:100])
            assert not check()
            (tmp_path / "tls.crt").unlink()
            assert not check()
            assert not check()
            assert await asyncio.to_thread(seen, port) == "first"
            write(tmp_path, second)
            assert check()
            assert await asyncio.to_thread(seen, port) == "second"

    asyncio.run(run())
    assert [problem.split(": ", 1)[0] for problem in watched.problems] == [
        str(tmp_path / "tls.key"),
        str(tmp_path / "tls.crt"),
        str(tmp_path / "tls.crt"),
    ]
    assert all(problem.endswith("; the former certificate stays in use") for problem in watched.problems)
    assert watched.reloads == 1


def test_the_same_files_written_again_change_nothing(tmp_path: Path) -> None:
    """New files with the same content are no news."""
    pair = AUTHORITY.issue("first")
    watched = Watched(mount(tmp_path, pair, "1"))
    mount(tmp_path, pair, "2")

    assert not watched.reloader.check()
    assert (watched.reloads, watched.problems) == (0, [])


def test_dates_are_reported_at_the_beginning_and_at_each_change(tmp_path: Path) -> None:
    """A certificate outside its dates is used all the same."""
    watched = Watched(write(tmp_path, AUTHORITY.issue("old", begin=-3 * DAY, end=-2 * DAY)))
    assert len(watched.problems) == 1
    write(tmp_path, AUTHORITY.issue("early", begin=DAY, end=2 * DAY))

    assert watched.reloader.check()
    assert [": the certificate expired at 20" in problem for problem in watched.problems] == [True, False]
    assert "not valid before" in watched.problems[1]
    assert watched.reloads == 1


def test_minimum_version_outlives_a_change(tmp_path: Path) -> None:
    """What the context refused at first it refuses afterwards."""
    write(tmp_path, AUTHORITY.issue("first"))
    reloader = CertificateReloader(tmp_path, minimum_version=ssl.TLSVersion.TLSv1_3)
    write(tmp_path, AUTHORITY.issue("second"))
    assert reloader.check()
    assert reloader.context.minimum_version == ssl.TLSVersion.TLSv1_3

    async def run() -> None:
        async with echoing(reloader.context) as port:
            with pytest.raises(ssl.SSLError):
                await asyncio.to_thread(seen, port, client_context(None, ssl.TLSVersion.TLSv1_2))
            assert await asyncio.to_thread(seen, port) == "second"

    asyncio.run(run())


def test_running_looks_every_interval_until_cancelled(tmp_path: Path) -> None:
    """Each look finds the change that was made before it."""
    write(tmp_path, AUTHORITY.issue("first"))
    waits: list[float] = []
    reloads: list[str] = []

    async def run() -> None:
        ticks: asyncio.Queue[None] = asyncio.Queue()
        asleep: asyncio.Queue[None] = asyncio.Queue()

        async def sleep(seconds: float) -> None:
            waits.append(seconds)
            asleep.put_nowait(None)
            await ticks.get()

        reloader = CertificateReloader(
            tmp_path, interval=2.5, sleep=sleep, on_reload=lambda: reloads.append("reloaded")
        )
        task = asyncio.create_task(reloader.run())
        await asleep.get()
        for name in ("second", "third"):
            write(tmp_path, AUTHORITY.issue(name))
            ticks.put_nowait(None)
            await asleep.get()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert waits == [2.5] * 3
    assert len(reloads) == 2


@pytest.mark.parametrize("interval", [0.0, -1.0, inf, nan])
def test_intervals_that_cannot_be_are_refused(tmp_path: Path, interval: float) -> None:
    """Zero, negative and infinite ones."""
    with pytest.raises(ConfigurationError, match="interval"):
        CertificateReloader(tmp_path, interval=interval)


def test_a_directory_that_cannot_be_used_is_refused_at_the_beginning(tmp_path: Path) -> None:
    """There is no former certificate to go on with."""
    with pytest.raises(ConfigurationError, match=r"tls\.crt: cannot be read"):
        CertificateReloader(tmp_path)
    write(tmp_path, Pair(AUTHORITY.issue("one").chain, AUTHORITY.issue("two").key))
    with pytest.raises(ConfigurationError, match=r"tls\.key: not the private key"):
        CertificateReloader(tmp_path)
