"""Long bodies that are over take no memory any more."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.patience import PATIENCE

_PROGRAM = """
import resource
from pathlib import Path
from inferencepool.cli._memory import give_back_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

assert give_back_large_blocks()
kept = []
for size in (16, 12, 8, 16, 12, 8):
    before = bytearray(b"x") * (size << 20)
    kept.append(bytearray(1000))
    block = bytes(before)
    kept.append(bytearray(1000))
    del before, block
full = resident()
assert full < 64 << 20, full
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc alone")
def test_large_blocks_go_back_to_the_system() -> None:
    """What long bodies took is the system's again when they are over, whatever small things were made meanwhile."""
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=PATIENCE)
