"""Which decisions are kept, and what of them."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread

import attrs
import pytest

from inferencepool.errors import ConfigurationError, NoEndpointsError
from inferencepool.model import EndpointMetrics, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.debug import DecisionLog
from inferencepool.scheduling import PickResult, SchedulingProfile
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.patience import PATIENCE

SECRET = "do not tell"  # noqa: S105 - the one that must not be told
REQUEST = InferenceRequest(
    model="llama",
    prompt=SECRET.encode(),
    id="id-1",
    prompt_tokens=[1, 2, 3],
    stream=True,
    priority=-1,
    fairness_id="team-a",
    headers={
        ":path": f"/v1/completions?key={SECRET}",
        ":method": "POST",
        "authorization": f"Bearer {SECRET}",
        "cookie": SECRET,
        "x-request-id": "id-1",
        "x-of-the-client": SECRET,
    },
)


def registry_of(size: int) -> EndpointRegistry:
    """A registry of *size* endpoints, of which the first are busier."""
    registry = EndpointRegistry(make_pool(), clock=ManualClock())
    registry.resync([make_pod(f"p{number}", ip=f"10.0.{number >> 8}.{number & 255}") for number in range(size)])
    for number in range(size):
        registry.observe_metrics(f"default/p{number}-rank-0", EndpointMetrics(waiting_queue_size=size - number))
    return registry


@attrs.define
class Slow:
    """A scorer that lets time pass when it is asked again for an explanation."""

    clock: ManualClock
    seconds: float = 0.0

    def score(self, _request: InferenceRequest, candidates: Sequence[object]) -> list[float]:
        """Take a while."""
        self.clock.advance(self.seconds)
        return [1.0] * len(candidates)


class TestContent:
    def test_of_a_decision(self) -> None:
        """What was asked for, where it went, and why; the prompt's length, and no secret."""
        log = DecisionLog(wall_clock=lambda: 12.5)
        result = EndpointPicker(registry_of(3), observer=log).pick(REQUEST)
        (decision,) = log.decisions()

        assert ("id-1", "/v1/completions", "llama", "team-a", -1, True) == (
            decision.request_id,
            decision.path,
            decision.model,
            decision.fairness_id,
            decision.priority,
            decision.stream,
        )
        assert (len(SECRET), 3, 12.5) == (decision.prompt_bytes, decision.prompt_tokens, decision.at)
        assert ("10.0.0.2:8000", ()) == (decision.destination, decision.fallbacks)
        assert result.explain() == decision.explanation
        assert (3, 0, "") == (decision.candidates, decision.rejected, decision.error)
        assert SECRET not in repr(decision)
        assert {"authorization", "cookie", "x-of-the-client"} == {
            name for name, value in decision.headers.items() if value == "(hidden)"
        }
        assert ("id-1", "POST") == (decision.headers["x-request-id"], decision.headers[":method"])

    def test_of_a_refusal(self) -> None:
        """What was asked for, and why it went nowhere."""
        log = DecisionLog()
        picker = EndpointPicker(registry_of(1), observer=log)
        with pytest.raises(NoEndpointsError) as caught:
            picker.pick(REQUEST, "10.9.9.9")
        (refusal,) = log.refusals()

        assert (str(caught.value), "", None) == (refusal.error, refusal.destination, refusal.explanation)
        assert "llama" == refusal.model
        assert SECRET not in repr(refusal)
        assert () == log.decisions()

    def test_a_long_error_is_cut(self) -> None:
        """It may quote what a client sent."""
        log = DecisionLog()
        log.refused(REQUEST, NoEndpointsError("x" * 10_000))
        assert 500 == len(log.refusals()[0].error)

    def test_fallbacks(self) -> None:
        """They are told in their order."""
        log = DecisionLog()
        profile = SchedulingProfile(max_num_of_endpoints=3)
        result = EndpointPicker(registry_of(5), profile=profile, observer=log).pick(REQUEST)
        assert tuple(each.destination for each in result.fallbacks) == log.decisions()[0].fallbacks
        assert 2 == len(log.decisions()[0].fallbacks)

    def test_a_large_fleet(self) -> None:
        """The best fifty candidates are kept, the chosen one first, and how many there were; so with the rejected."""

        class Every3rd:
            def keep(self, endpoint: object) -> bool:
                return int(str(endpoint).partition("-rank")[0].removeprefix("default/p")) % 3 == 0

        log = DecisionLog()
        profile = SchedulingProfile(filters=[Every3rd()])
        result = EndpointPicker(registry_of(300), profile=profile, observer=log).pick(REQUEST)
        (decision,) = log.decisions()

        assert decision.explanation is not None
        assert result.endpoint == decision.explanation.picked.endpoint
        assert (50, 50) == (len(decision.explanation.candidates), len(decision.explanation.rejected))
        assert (100, 200) == (decision.candidates, decision.rejected)

    def test_a_strategy_that_fails_when_asked_again(self) -> None:
        """The request goes on; that it was not explained is told."""

        @attrs.define
        class Once:
            asked: int = 0

            def score(self, _request: InferenceRequest, candidates: Sequence[object]) -> list[float]:
                self.asked += 1
                if self.asked > 1:
                    message = "only once"
                    raise LookupError(message)
                return [1.0] * len(candidates)

        log = DecisionLog()
        picker = EndpointPicker(registry_of(2), profile=SchedulingProfile(scorers=[Once()]), observer=log)
        result = picker.pick(REQUEST)
        (decision,) = log.decisions()

        assert (result.destination, None) == (decision.destination, decision.explanation)
        assert "not explained: LookupError: only once" == decision.error

    def test_nothing_is_held(self) -> None:
        """A decision keeps neither the result nor the request, so results may be detached."""
        log = DecisionLog()
        picker = EndpointPicker(registry_of(2), observer=log)
        result = picker.pick(REQUEST)
        expected = result.explain()
        result.detach()

        assert not picker.observed
        assert expected == log.decisions()[0].explanation


class TestSize:
    def test_the_latest_are_kept(self) -> None:
        """As many as wanted, latest first, of each kind."""
        log = DecisionLog(3, interval=0)
        picker = EndpointPicker(registry_of(1), observer=log)
        for number in range(10):
            picker.pick(InferenceRequest(id=str(number)))
            with pytest.raises(NoEndpointsError):
                picker.pick(InferenceRequest(id=f"r{number}"), "")

        assert ["9", "8", "7"] == [each.request_id for each in log.decisions()]
        assert ["r9", "r8", "r7"] == [each.request_id for each in log.refusals()]
        assert 6 == len({each.number for each in (*log.decisions(), *log.refusals())})


class TestPace:
    def test_not_more_often_than_wanted(self) -> None:
        """Between two decisions that are kept the interval passes."""
        clock = ManualClock()
        log = DecisionLog(interval=1, clock=clock)
        picker = EndpointPicker(registry_of(1), observer=log)
        for number in range(10):
            picker.pick(InferenceRequest(id=str(number)))
            clock.advance(0.4)

        assert ["9", "6", "3", "0"] == [each.request_id for each in log.decisions()]

    def test_what_takes_long_is_done_seldom(self) -> None:
        """An explanation is followed by fifty times the time it took, so that all of them take 2 % at most."""
        clock = ManualClock()
        slow = Slow(clock)
        log = DecisionLog(interval=0.1, clock=clock)
        result = EndpointPicker(registry_of(1), profile=SchedulingProfile(scorers=[slow])).pick(REQUEST)
        slow.seconds = 1
        before = clock()
        log.picked(result)
        clock.advance(50 * (clock() - before) - 0.1)
        log.picked(result)
        assert 1 == len(log.decisions())
        clock.advance(0.2)
        log.picked(result)
        assert 2 == len(log.decisions())

    def test_without_an_interval_all_are_kept(self) -> None:
        """Whatever it costs, and by however many threads."""
        log = DecisionLog(1000, interval=0)
        picker = EndpointPicker(registry_of(20), observer=log)
        threads = [Thread(target=lambda: [picker.pick(REQUEST) for _ in range(50)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert list(range(200, 0, -1)) == [each.number for each in log.decisions()]
        assert all(each.explanation is not None for each in log.decisions())

    def test_a_pick_that_finds_another_being_explained(self) -> None:
        """It is passed over, and does not wait."""
        inner: list[PickResult] = []

        @attrs.define
        class Picking:
            """Picks once more, in another thread, while it is asked for an explanation."""

            picker: EndpointPicker | None = None
            asked: int = 0

            def score(self, _request: InferenceRequest, candidates: Sequence[object]) -> list[float]:
                self.asked += 1
                if self.asked == 2:
                    picker = self.picker
                    assert picker is not None
                    thread = Thread(target=lambda: inner.append(picker.pick(InferenceRequest(id="inner"))))
                    thread.start()
                    thread.join(PATIENCE)
                    assert not thread.is_alive()
                return [1.0] * len(candidates)

        log, scorer = DecisionLog(), Picking()
        picker = EndpointPicker(registry_of(1), profile=SchedulingProfile(scorers=[scorer]), observer=log)
        scorer.picker = picker
        picker.pick(InferenceRequest(id="outer"))

        assert 1 == len(inner)
        assert ["outer"] == [each.request_id for each in log.decisions()]


@pytest.mark.parametrize("size", [0, -1, 1.5, True])
def test_size_that_cannot_be(size: int) -> None:
    """The error names it."""
    with pytest.raises(ConfigurationError, match=f"decision log: size: {size!r}"):
        DecisionLog(size)


@pytest.mark.parametrize("interval", [-1, float("inf"), float("nan"), True])
def test_interval_that_cannot_be(interval: float) -> None:
    """The error names it."""
    with pytest.raises(ConfigurationError, match=f"decision log: interval: {interval!r}"):
        DecisionLog(interval=interval)
