"""Prefix indexes under many threads, with a thread switch every few bytecodes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from random import Random
from threading import Event, Thread

import attrs
import pytest

from inferencepool.prefix import PrefixIndex, PrefixTree
from tests.patience import PATIENCE
from tests.prefix.oracle import check_levels, check_shape
from tests.prefix.test_contract import BLOCK, Make, every_index

SECONDS = 5.0 if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else 1.0

# Slots that come and go; each sender has one more of its own, which stays.
CROWD = 6


@pytest.fixture(name="_frequent_switches")
def _frequent_switches() -> Iterator[None]:
    """Let threads interrupt each other as often as can be."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@attrs.define(eq=False)
class Storm:
    """An index that several threads work on."""

    index: PrefixIndex
    errors: list[BaseException] = attrs.field(factory=list)
    ended: Event = attrs.field(factory=Event)
    sent: int = 0
    removed: int = 0

    def send(self, rng: Random, own: int) -> None:
        """Send a prompt somewhere and to a slot that is this thread's own, which then must hold all of it."""
        prompt = b"".join(rng.choice((b"a", b"b")) * BLOCK for _ in range(rng.randrange(1, 12)))
        match = self.index.match(prompt)
        check_levels(match)
        self.index.insert(match, rng.randrange(CROWD))
        self.index.insert(match, own)
        after = self.index.match(prompt)
        check_levels(after)
        assert after.total == after.blocks(own)
        self.sent += 1

    def come_and_go(self, rng: Random) -> None:
        """Remove an endpoint, or change its capacity."""
        if rng.random() < 0.5:
            self.index.remove(rng.randrange(CROWD))
            self.removed += 1
        else:
            self.index.set_capacity(rng.randrange(CROWD), rng.choice([None, 0, 3, 9]))

    def watch(self) -> None:
        """Count; what is counted belongs together."""
        found = self.index.statistics()
        assert found.blocks <= found.held
        assert found.endpoints <= CROWD + 4
        time.sleep(0.001)

    def until_the_end(self, act: Callable[[], None]) -> None:
        """Repeat *act*; an error of one thread ends all."""
        try:
            while not self.ended.is_set():
                act()
        except BaseException as error:  # noqa: BLE001  # told by the main thread
            self.errors.append(error)
            self.ended.set()


@every_index
@pytest.mark.usefixtures("_frequent_switches")
def test_calls_of_many_threads_do_not_mix(make: Make) -> None:
    """Each sender finds what it inserted, levels are always in order, and in the end everything adds up."""
    storm = Storm(make(capacity=100_000))
    for slot in range(CROWD):
        storm.index.set_capacity(slot, 12)
    senders = [Random(seed) for seed in range(4)]
    change = Random(99)
    threads = [
        *(
            Thread(target=storm.until_the_end, args=[lambda rng=rng, own=CROWD + number: storm.send(rng, own)])
            for number, rng in enumerate(senders)
        ),
        Thread(target=storm.until_the_end, args=[lambda: storm.come_and_go(change)]),
        Thread(target=storm.until_the_end, args=[storm.watch]),
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + SECONDS
    latest = end + PATIENCE  # however busy the machine is, there is something to judge by
    while time.monotonic() < end or (time.monotonic() < latest and min(storm.sent, storm.removed) <= 20):
        if storm.ended.wait(0.05):
            break
    storm.ended.set()
    for thread in threads:
        thread.join(PATIENCE)

    if storm.errors:
        raise storm.errors[0]
    assert not any(thread.is_alive() for thread in threads)
    assert storm.sent > 20
    assert storm.removed > 20
    if isinstance(storm.index, PrefixTree):
        check_shape(storm.index)
    for slot in range(CROWD + len(senders)):
        storm.index.remove(slot)
    assert (0, 0, 0) == (
        storm.index.statistics().held,
        storm.index.statistics().blocks,
        storm.index.statistics().bytes,
    )
