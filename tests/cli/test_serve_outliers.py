"""Outlier detection of `serve`: its flags, and what operators see of it."""

from __future__ import annotations

import argparse
import json
import queue
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

import attrs
import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest

from inferencepool.cli._serve_outliers import add_outlier_flags, check_outlier_flags
from inferencepool.registry import OutlierDetection
from tests.cli.test_serve import PROCESS, Server, entry, field, request_without_body, write
from tests.cli.test_serve_pages import get, port_of, scrape
from tests.patience import PATIENCE
from tests.runtime.exporter.reading import value_of


def parsed(*flags: str) -> OutlierDetection | None:
    """Give what flags ask for."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_outlier_flags(parser.add_argument_group("outlier detection"))
    parser.set_defaults(usage_error=parser.error)
    arguments = parser.parse_args(flags)
    check_outlier_flags(arguments)
    rules: OutlierDetection | None = arguments.outlier_detection
    return rules


def flag(name: str) -> str:
    """Give the flag of a field."""
    return "--outlier-detection-interval" if name == "interval" else f"--{name.replace('_', '-')}"


class TestFlags:
    def test_without_any(self) -> None:
        """It is on, with the numbers that the registry has by itself."""
        assert OutlierDetection() == parsed()

    def test_off(self) -> None:
        """One flag turns it off."""
        assert parsed("--outlier-detection=false") is None

    @pytest.mark.parametrize("each", attrs.fields(OutlierDetection), ids=lambda each: each.name)
    def test_each_number(self, each: attrs.Attribute[float]) -> None:
        """Every field has a flag of its name that sets it and no other."""
        value: Any = 0.75 if each.name == "client_error_share" else 7
        assert attrs.evolve(OutlierDetection(), **{each.name: value}) == parsed(flag(each.name), str(value))

    def test_units(self) -> None:
        """Times have units, and one of them may be off."""
        rules = parsed("--base-ejection-time", "500ms", "--max-busy-time", "1m30s", "--stalled-floor", "off")
        assert OutlierDetection(base_ejection_time=0.5, max_busy_time=90, stalled_floor=inf) == rules

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("--consecutive-5xx", "-1", "argument --consecutive-5xx: '-1' is not a whole number from 0 to 999999"),
            ("--base-ejection-time", "soon", "argument --base-ejection-time: 'soon' is not a duration such as 30s"),
            ("--base-ejection-time", "1ms", "argument --base-ejection-time: 0.001 is not a number from 0.05 to 3600"),
            (
                "--outlier-detection-interval",
                "2h",
                "argument --outlier-detection-interval: 7200.0 is not a number from 1 to 3600 (seconds)",
            ),
            ("--max-ejection-percent", "101", "argument --max-ejection-percent: 101.0 is not a number from 0 to 100"),
            ("--client-error-share", "nan", "argument --client-error-share: 'nan' is not a number of 0 or more"),
            (
                "--success-rate-minimum-hosts",
                "1",
                "argument --success-rate-minimum-hosts: 1 is not a whole number of",
            ),
        ],
    )
    def test_what_is_not_allowed(self, name: str, value: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The error names the flag, the value and what is allowed."""
        with pytest.raises(SystemExit, match="2"):
            parsed(f"{name}={value}")
        assert message in capsys.readouterr().err


def response_headers(status: int) -> bytes:
    """A ``ProcessingRequest`` with the headers of a response that has no body."""
    return field(3, field(1, field(1, field(1, b":status") + field(3, b"%d" % status))) + bytes((3 << 3, 1)))


def exchange(channel: grpc.Channel, ill: bytes) -> bool:
    """Send a request to where the picker wants it; the endpoint *ill* answers 500. True if it was asked."""
    messages: queue.Queue[bytes | None] = queue.Queue()
    messages.put(request_without_body())

    def sent() -> Iterator[bytes]:
        while (message := messages.get(timeout=PATIENCE)) is not None:
            yield message

    answers = channel.stream_stream(PROCESS)(sent(), timeout=PATIENCE)
    is_ill = ill in next(answers)
    messages.put(response_headers(500 if is_ill else 200))
    messages.put(None)
    assert b"".join(answers)
    return is_ill


class TestServing:
    def test_an_endpoint_that_fails(self, tmp_path: Path) -> None:
        """It is named in the log, the metrics and on the debug page, and gets no more requests."""
        endpoints = write(tmp_path / "e.json", {"endpoints": [entry("a", "10.0.0.1"), entry("b", "10.0.0.2")]})
        flags = ("--secure-serving=false", "--metrics-port", "0", "--debug", "--consecutive-5xx", "3")
        times = ("--base-ejection-time", "1h", "--max-ejection-time", "1h", "--max-ejection-time-jitter", "0")
        with Server("--endpoints-file", endpoints, *flags, *times) as server, server.channel() as channel:
            port = port_of(server)
            ill = sum(exchange(channel, b"10.0.0.1:8000") for _ in range(100))
            line = server.wait_for("endpoint ejected")
            values, state = scrape(port), json.load(get(port, "/debug/state.json"))
            page = get(port, "/debug/").read().decode()

        assert 3 <= ill < 10
        assert ("warning", "default/a", "10.0.0.1:8000") == (line["level"], line["endpoint"], line["destination"])
        assert ("consecutive-5xx", "status 500") == (line["reason"], line["detail"])
        assert 3500 < line["probe_in_seconds"] <= 3600
        for name in ("endpoint_ejections_total", "ejected_endpoints"):
            assert 1 == value_of(values, f"inferencepool_{name}", name="", reason="consecutive-5xx")
            assert 0 == value_of(values, f"inferencepool_{name}", name="", reason="busy")
        told = [
            value_of(values, "inferencepool_endpoint_ejected", name="", model_server_endpoint=name) for name in "ab"
        ]
        assert [1, 0] == told
        assert [["consecutive-5xx"], []] == [
            [each["reason"] for each in item["ejections"]] for item in state["endpoints"]
        ]
        assert "<tr class=marked><td>default/a" in page
        assert "consecutive-5xx (status 500), since " in page

    def test_off(self, tmp_path: Path) -> None:
        """An endpoint that fails goes on being asked, and nobody is said to be ejected."""
        endpoints = write(tmp_path / "e.json", {"endpoints": [entry("a", "10.0.0.1"), entry("b", "10.0.0.2")]})
        flags = ("--secure-serving=false", "--metrics-port", "0", "--outlier-detection=false", "--seed", "1")
        with Server("--endpoints-file", endpoints, *flags) as server, server.channel() as channel:
            port = port_of(server)
            assert 20 < sum(exchange(channel, b"10.0.0.1:8000") for _ in range(100))
            values = scrape(port)
        assert 0 == value_of(values, "inferencepool_ejected_endpoints", name="", reason="consecutive-5xx")
