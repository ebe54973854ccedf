"""What a fork leaves behind in the child, for locks that other threads held."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import pytest

from inferencepool import _lock
from inferencepool._lock import new_lock, take
from inferencepool.errors import InferencePoolError
from inferencepool.model import EndpointMetrics, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.testing import make_pod, make_pool

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # Newer interpreters warn of forks with threads, which are what is tried out here.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning"),
]

REQUEST = InferenceRequest()
MESSAGE = "fork: a thread that this process does not have was changing this when it forked; make a new one"


def _in_child(check: Callable[[], object]) -> None:
    """Fork, and run *check* in the child; its failure is printed there, and is the failure of this one."""
    child = os.fork()
    if not child:
        try:
            check()
        except BaseException:  # noqa: BLE001 - the child ends here, whatever happens
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
        os._exit(0)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class _Holder:
    """Another thread that holds a lock for the time of a block."""

    def __init__(self, lock: Any) -> None:
        self._holds, self._done = Event(), Event()
        self._thread = Thread(target=self._hold, args=(lock,))

    def _hold(self, lock: Any) -> None:
        with lock:
            self._holds.set()
            self._done.wait()

    def __enter__(self) -> None:
        self._thread.start()
        self._holds.wait()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def _make() -> EndpointPicker:
    registry = EndpointRegistry(make_pool(), publish_interval=0)
    registry.upsert_pod(make_pod("a"))
    return EndpointPicker(registry)


def test_a_picker_goes_on_in_the_child() -> None:
    """Where no thread was in the middle of anything, a fork changes nothing."""
    picker = _make()
    picker.pick(REQUEST)

    def check() -> None:
        with picker.pick(REQUEST):
            assert 2 == picker.statistics().in_flight
        assert picker.registry.upsert_pod(make_pod("b"))
        assert 2 == len(picker.registry.snapshot())

    _in_child(check)


def test_a_picker_that_another_thread_was_changing_says_so() -> None:
    """Whatever would wait for the lock raises; the parent and new pickers in the child are not concerned."""
    picker = _make()
    result = picker.pick(REQUEST)

    def check() -> None:
        for call in (lambda: picker.pick(REQUEST), result.release, result.explain, picker.reserved):
            with pytest.raises(InferencePoolError) as caught:
                call()
            assert MESSAGE == str(caught.value)
        EndpointPicker(picker.registry).pick(REQUEST).release()

    with _Holder(picker._scheduler._lock):
        _in_child(check)
    picker.pick(REQUEST).release()


def test_a_registry_that_another_thread_was_changing_says_so() -> None:
    """Writers and those who wait raise; what was published can still be read and picked from."""
    picker = _make()
    registry = picker.registry
    registry.snapshot()

    def check() -> None:
        calls: list[Callable[[], object]] = [
            lambda: registry.upsert_pod(make_pod("b")),
            lambda: registry.observe_metrics("default/a-rank-0", EndpointMetrics()),
            lambda: registry.wait_until_ready(0),
            lambda: registry.subscribe(print),
            registry.statistics,
            registry.publish,
        ]
        for call in calls:
            with pytest.raises(InferencePoolError) as caught:
                call()
            assert MESSAGE == str(caught.value)
        picker.pick(REQUEST).release()

    with _Holder(registry._lock):
        _in_child(check)
    assert registry.upsert_pod(make_pod("b"))


def test_locks_of_what_may_be_incomplete_are_new() -> None:
    """What strategies remember is a hint, so its lock is there again."""
    lock = _lock.tolerant_lock()

    def check() -> None:
        assert lock.acquire(blocking=False)

    with _Holder(lock):
        _in_child(check)
    assert not lock.locked()


def test_a_forgotten_lock_is_not_kept() -> None:
    """Nothing but its owner keeps a lock alive."""
    before = len(_lock._locks)
    lock = new_lock()
    assert before + 1 == len(_lock._locks)
    del lock
    assert before == len(_lock._locks)


@pytest.mark.parametrize("free", [False, True])
def test_how_a_taken_lock_is_waited_for(monkeypatch: pytest.MonkeyPatch, free: bool) -> None:
    """With an interpreter lock by trying again after pauses; where threads run at once, as locks are waited for."""
    lock, pauses = new_lock(), []
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: not free, raising=False)
    lock.acquire()
    waiting, taken = Event(), Event()

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        waiting.set()

    def wait() -> None:
        if free:
            waiting.set()
        take(lock)
        taken.set()

    monkeypatch.setattr("inferencepool._lock.time.sleep", pause)
    thread = Thread(target=wait)
    thread.start()
    waiting.wait()
    assert not taken.is_set()
    lock.release()
    thread.join()

    assert taken.is_set()
    assert lock.locked()
    assert free is not bool(pauses)
