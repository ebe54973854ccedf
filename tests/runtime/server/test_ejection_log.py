"""Lines about endpoints that are ejected, and back."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from inferencepool.model import Ejection, EjectionReason, Endpoint
from inferencepool.registry import EjectionChange
from inferencepool.runtime.server import EjectionLog


class Lines:
    """An endpoint whose ejections are logged, and what the log says."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        self.caplog = caplog
        self.now = 100.0
        self.log = EjectionLog(lambda: self.now)

    def change(self, *, began: bool, name: str = "a", model: str = "") -> None:
        """An ejection of two seconds begins, or ends that began three seconds ago."""
        now = self.now
        since = now if began else now - 3
        endpoint = Endpoint(namespace="n", pod_name=name, address="10.0.0.1", port=8000, rank=None)
        ejection = Ejection(EjectionReason.BUSY, since, since + 2, "status 429", model)
        self.log(EjectionChange(endpoint, ejection, began))

    def taken(self) -> list[tuple[str, dict[str, Any]]]:
        """Give the lines, and forget them."""
        lines = [(record.message, vars(record)["fields"]) for record in self.caplog.records]
        self.caplog.clear()
        return lines


@pytest.fixture(name="lines")
def _lines(caplog: pytest.LogCaptureFixture) -> Lines:
    return Lines(caplog)


def test_one_line_per_change(lines: Lines) -> None:
    """It says who, where, why and when the next request probes; at the end how long it took."""
    lines.change(began=True, model="m")
    lines.change(began=False, model="m")
    common = {"endpoint": "n/a", "destination": "10.0.0.1:8000", "reason": "busy", "model": "m", "detail": "status 429"}
    assert [
        ("endpoint ejected", common | {"probe_in_seconds": 2}),
        ("endpoint back", common | {"seconds": 3}),
    ] == lines.taken()


def test_an_endpoint_that_flaps(lines: Lines) -> None:
    """Of 60 ejections in a minute 6 are told with their ends; the last tells of the silence, the next of its length."""
    for _ in range(60):
        lines.change(began=True)
        lines.change(began=False)
        lines.now += 0.99
    told = lines.taken()
    assert ["endpoint ejected", "endpoint back"] * 6 == [event for event, _ in told]
    assert [55.05] == [fields["quiet_seconds"] for _, fields in told if "quiet_seconds" in fields]

    lines.now += 60
    lines.change(began=True)
    assert [54] == [fields["left_out"] for _, fields in lines.taken()]


def test_others_are_told(lines: Lines) -> None:
    """An endpoint that flaps takes no line from another one."""
    for _ in range(60):
        lines.change(began=True)
        lines.change(began=False)
    lines.taken()
    lines.change(began=True, name="b")
    assert ["n/b"] == [fields["endpoint"] for _, fields in lines.taken()]


def test_what_is_remembered_is_bounded(lines: Lines) -> None:
    """Of endpoints beyond 10,000 those are forgotten that nothing happened to for the longest time."""
    lines.caplog.set_level(logging.CRITICAL)
    for number in range(10_001):
        lines.change(began=True, name=f"p{number}")
    lines.caplog.set_level(logging.INFO)
    lines.change(began=False, name="p0")
    lines.change(began=False, name="p10000")
    assert ["n/p10000"] == [fields["endpoint"] for _, fields in lines.taken()]


def test_a_clock_that_steps_back(lines: Lines) -> None:
    """Then another minute begins, rather than an endless silence."""
    for _ in range(20):
        lines.change(began=True)
    lines.taken()
    lines.now = 50
    lines.change(began=True)
    assert 1 == len(lines.taken())
