"""
Settings of all tests.

The environment variable HYPOTHESIS_PROFILE chooses how hard random examples are searched: ``quick`` tries the same
ones in every run, ``thorough`` tries many more, and different ones each time.

With ``--uvloop`` all event loops are uvloop's.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Time limits and slowness checks judge the machine, which is shared, and not the code.
settings.register_profile("quick", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
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


@pytest.fixture(name="root", scope="session")
def _root() -> Path:
    """Give the folder of the repository."""
    return Path(__file__).resolve().parent.parent
