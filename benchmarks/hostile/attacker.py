"""The hostile client, in a process of its own: ``python -m benchmarks.hostile.attacker CASE HOST PORT SECONDS``."""

from __future__ import annotations

import asyncio
import resource
import sys

from benchmarks.hostile.cases import CASES
from benchmarks.hostile.pages import Pages


def main(name: str, host: str, port: int, seconds: float) -> None:
    """Attack for some seconds, and print what the case counts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attack = CASES[name].attack
    assert not isinstance(attack, Pages)
    print(asyncio.run(attack.run(host, port, seconds)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
