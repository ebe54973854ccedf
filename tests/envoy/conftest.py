"""One event loop for everything that these tests start."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.envoy.stage import Stage
from tests.gateway.envoy import require_envoy


@pytest.fixture(name="runner", scope="session")
def _runner() -> Iterator[asyncio.Runner]:
    """Give the event loop; skip where there is no Envoy."""
    require_envoy()
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(name="stage", scope="module")
def _stage(runner: asyncio.Runner) -> Iterator[Stage]:
    """Give a stage that the tests of a module share."""
    stage = Stage(runner)
    runner.run(stage.open())
    yield stage
    runner.run(stage.close())
