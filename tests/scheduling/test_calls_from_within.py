"""A strategy that calls the picker that asks it gets an error with its name, and never a deadlock."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from threading import Event, Thread
from typing import Any

import attrs
import pytest

from inferencepool.errors import StrategyError
from inferencepool.model import InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import LinearLoad, PickResult, SchedulingProfile, WeightedScorer
from inferencepool.testing import make_pod, make_pool

REQUEST = InferenceRequest()


class Meddler:
    """A strategy that does something with the picker while it is asked, and answers as it should."""

    def __init__(self, method: str, answer: Callable[[Any], Any]) -> None:
        self.meddle: Callable[[], object] = lambda: None
        self._answer = answer
        setattr(self, method, self._asked)

    def _asked(self, *arguments: Any) -> Any:
        self.meddle()
        return self._answer(arguments)


def _first(arguments: Any) -> Any:
    return [arguments[1].members.bit_length() - 1]


HELD: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "narrow": ("filters", "filter meddler", lambda arguments: arguments[1].members),
    "keep": ("filters", "filter meddler", lambda _: True),
    "score_endpoints": ("scorers", "scorer odd", lambda arguments: [1.0] * len(arguments[0])),
    "score_load": ("scorers", "scorer odd", lambda arguments: LinearLoad([0] * len(arguments[0]), 1, 1.0)),
    "affinities_among": ("scorers", "scorer odd", lambda _: []),
    "choose": ("picker", "picker meddler", _first),
    "pick": ("picker", "picker meddler", lambda arguments: [arguments[1][0]]),
}
CALLS: dict[str, Callable[[EndpointPicker, PickResult], object]] = {
    "pick": lambda picker, _: picker.pick(REQUEST),
    "reserved": lambda picker, _: picker.reserved(),
    "endpoints_in_flight": lambda picker, _: picker.endpoints_in_flight(),
    "explain": lambda _, earlier: earlier.explain(),
    "release": lambda _, earlier: earlier.release(),
}
FREE: dict[str, Callable[[EndpointPicker, PickResult], object]] = {
    "statistics": lambda picker, _: picker.statistics(),
    "upsert_pod": lambda picker, _: picker.registry.upsert_pod(make_pod("b")),
    "snapshot": lambda picker, _: picker.registry.snapshot(),
    "endpoints": lambda picker, _: picker.registry.endpoints(),
}


def _meddling(method: str) -> tuple[EndpointPicker, Meddler, PickResult]:
    role, _, answer = HELD[method]
    meddler: Any = Meddler(method, answer)
    item = WeightedScorer(meddler, name="odd") if role == "scorers" else meddler
    chosen: dict[str, Any] = {role: item if role == "picker" else [item]}
    profile = SchedulingProfile(**chosen)
    registry = EndpointRegistry(make_pool(), publish_interval=0)
    registry.upsert_pod(make_pod("a"))
    picker = EndpointPicker(registry, profile=profile)
    return picker, meddler, picker.pick(REQUEST)


def _renew(picker: EndpointPicker) -> None:
    """Let there be a new snapshot, so that fleet scorers and endpoint filters are asked."""
    picker.registry.upsert_pod(make_pod("c"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("method", HELD)
def test_calls_with_the_lock_held(method: str, call: str) -> None:
    """The error names the strategy; nothing stays reserved, and the next pick is as if nothing had been."""
    picker, meddler, earlier = _meddling(method)
    meddler.meddle = lambda: CALLS[call](picker, earlier)
    _renew(picker)

    with pytest.raises(StrategyError) as caught:
        picker.pick(REQUEST)

    assert f"profile default: {HELD[method][1]}: calls the picker while it is being asked" == str(caught.value)
    assert 1 == picker.statistics().in_flight
    meddler.meddle = lambda: None
    with picker.pick(REQUEST):
        assert 2 == picker.statistics().in_flight


@pytest.mark.parametrize("call", FREE)
@pytest.mark.parametrize("method", HELD)
def test_calls_that_need_no_lock_of_the_picker(method: str, call: str) -> None:
    """The registry may be read and written by whatever is asked."""
    picker, meddler, earlier = _meddling(method)
    meddler.meddle = lambda: FREE[call](picker, earlier)
    _renew(picker)

    picker.pick(REQUEST).release()


@pytest.mark.parametrize("method", ["narrow", "choose"])
def test_other_threads_wait(method: str) -> None:
    """A thread that finds the lock held by a pick of another thread waits for it, whatever that one asks."""
    picker, meddler, _ = _meddling(method)
    asked, answered, results = Event(), Event(), []

    def linger() -> None:
        meddler.meddle = lambda: None
        asked.set()
        answered.wait()

    meddler.meddle = linger
    threads = [Thread(target=lambda: results.append(picker.pick(REQUEST))) for _ in range(2)]
    threads[0].start()
    asked.wait()
    threads[1].start()
    assert not results
    answered.set()
    for thread in threads:
        thread.join()

    assert 2 == len(results)


class Chatty:
    """Has every method that is called without the lock, and uses the picker in one of them."""

    def __init__(self, hook: str) -> None:
        self.picker: EndpointPicker | None = None
        self._hook, self._busy = hook, False
        self.affinities = self._using("affinities", [])
        self.response_headers = self._using("response_headers", {})
        for name in ("prepare", "produce", "picked", "started", "released"):
            setattr(self, name, self._using(name, None))

    def _using(self, name: str, answer: Any) -> Callable[..., Any]:
        def use(*_: object) -> Any:
            if self.picker is not None and name == self._hook and not self._busy:
                self._busy = True
                with self.picker.pick(REQUEST) as result:
                    result.explain()
                self._busy = False
            return answer

        return use


@pytest.mark.parametrize(
    "hook", ["affinities", "prepare", "produce", "picked", "started", "released", "response_headers"]
)
def test_what_is_called_without_the_lock_may_use_the_picker(hook: str) -> None:
    """No lock is held, so a pick within a pick is one like any other, if it ends."""
    registry = EndpointRegistry(make_pool(), publish_interval=0)
    registry.upsert_pod(make_pod("a"))
    chatty = Chatty(hook)
    picker = EndpointPicker(registry, profile=SchedulingProfile(scorers=[chatty]))
    chatty.picker = picker

    with picker.pick(REQUEST) as result:
        result.started()
        assert {} == result.response_headers
    assert 0 == picker.statistics().in_flight


@pytest.mark.parametrize("hook", ["affinities", "produce", "picked", "observer"])
def test_picks_without_an_end(hook: str) -> None:
    """A strategy or an observer that picks for every pick is named, and no load stays."""

    class Endless:
        def affinities(self, *_: object) -> list[tuple[float, int]]:
            self._use("affinities")
            return []

        def produce(self, *_: object) -> None:
            self._use("produce")

        def picked(self, *_: object) -> None:
            self._use("picked")

        def _use(self, of: str) -> None:
            if of == hook:
                picker.pick(REQUEST)

    class Observing:
        def picked(self, *_: object) -> None:
            if hook == "observer":
                picker.pick(REQUEST)

        def refused(self, *_: object) -> None: ...

    registry = EndpointRegistry(make_pool(), publish_interval=0)
    registry.upsert_pod(make_pod("a"))
    picker = EndpointPicker(registry, profile=SchedulingProfile(scorers=[Endless()]), observer=Observing())

    with pytest.raises(StrategyError, match=r"Observing\.picked|scorer endless") as caught:
        picker.pick(REQUEST)

    assert "calls the picker for every pick" in str(caught.value)
    assert 0 == picker.statistics().in_flight


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_results_are_not_copied(duplicate: Callable[[object], object]) -> None:
    """A copy would take the load back twice."""
    picker, _, result = _meddling("choose")

    with pytest.raises(TypeError, match="a PickResult cannot be copied or pickled: its load is released once"):
        duplicate(result)
    result.release()
    assert 0 == picker.statistics().in_flight


def test_results_do_not_evolve() -> None:
    """That makes a copy too."""
    picker, _, result = _meddling("choose")
    evolving: Any = result

    with pytest.raises(attrs.exceptions.NotAnAttrsClassError):
        attrs.evolve(evolving)
    if sys.version_info >= (3, 13):
        with pytest.raises(TypeError):
            copy.replace(evolving)
    result.release()
    assert 0 == picker.statistics().in_flight
