"""
Settings of all tests.

The environment variable HYPOTHESIS_PROFILE chooses how hard random examples are searched: ``quick`` tries the same
ones in every run, ``thorough`` tries many more, and different ones each time.

With ``--uvloop`` all event loops are uvloop's.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import coverage
import pytest
from hypothesis import HealthCheck, settings

# Examples of a property in which coverage is measured.
_TRACED = 20

# Time limits and slowness checks judge the machine, which is shared, and not the code.
settings.register_profile(
    "quick", max_examples=50, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough",
    max_examples=2_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what this project's tests can be told."""
    parser.addoption("--uvloop", action="store_true", help="run event loops of uvloop in place of asyncio's")


def pytest_configure(config: pytest.Config) -> None:
    """Choose the event loops."""
    if config.getoption("--uvloop"):
        import uvloop  # noqa: PLC0415 - not there on every platform

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Give the processes of ``-n auto``: a third of the time tests wait for timers, sockets and other processes."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return processors + (processors + 1) // 2


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """
    Measure coverage in the first examples of a property only, as tracing takes more time than running does.

    What only later examples reach counts as not reached, so that coverage is at least what is told.
    """
    handle = getattr(getattr(item, "obj", None), "hypothesis", None)
    measuring = coverage.Coverage.current()
    if handle is None or measuring is None:
        yield
        return
    test, examples = handle.inner_test, count(1)

    @functools.wraps(test)
    def run(*arguments: object, **drawn: object) -> object:
        if next(examples) == _TRACED:
            measuring.stop()
        return test(*arguments, **drawn)

    handle.inner_test = run
    yield
    handle.inner_test = test
    if next(examples) > _TRACED:
        measuring.start()


@pytest.fixture(name="root", scope="session")
def _root() -> Path:
    """Give the folder of the repository."""
    return Path(__file__).resolve().parent.parent
