"""
The attacks of the benchmark ``hostile``, for a short while each: nobody else fails, and the picker stays small.

They take minutes, so they belong to the thorough profile. What depends on how fast the machine is, such as how long the
others wait, is left to the benchmark.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from benchmarks.hostile.arena import TooBusyError
from benchmarks.hostile.cases import CASES
from benchmarks.hostile.measuring import measure_case
from tests.gateway.envoy import require_envoy

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"
SECONDS = 3.0
LATER = 1.0
# Ten times what the benchmark allows: caches are cold and the clock of a thread is coarse where others use the machine.
MOST_STEP = 0.25
PATIENCE = 180


@pytest.mark.skipif(not THOROUGH, reason="takes minutes: for the thorough profile")
@pytest.mark.parametrize("name", CASES)
def test_others_are_served_beside_a_hostile_peer(name: str) -> None:
    """No request of the others fails, new gateways get in; memory, log and the longest step of the loop are bounded."""
    require_envoy()

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            outcome = await measure_case(CASES[name], SECONDS, LATER)
        assert 0 < outcome.chats
        assert not {"failed", "locked out", "most", "lines"}.intersection(outcome.missed()), outcome
        assert MOST_STEP >= outcome.step, outcome.step_name

    try:
        asyncio.run(bounded())
    except TooBusyError as error:
        pytest.skip(str(error))
