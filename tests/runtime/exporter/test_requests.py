"""The counts equal what a sequence of requests did."""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Iterable
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.extproc import Decision, Exchange, RequestBody, RequestTraits, Routing
from inferencepool.errors import NoEndpointsError
from inferencepool.model import InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.exporter import RequestMetrics
from inferencepool.runtime.exporter._requests import _BATCH
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.adapters.extproc.sessions import body, feed, head
from tests.runtime.exporter.plays import Bench, Play, plays
from tests.runtime.exporter.reading import Values, shown, value_of

PREFIX = "llm_d_epp_"


def played(*plays: Play) -> Values:
    """Give the metrics after *plays*."""
    bench = Bench()
    for play in plays:
        play.run(bench)
    return shown(bench.metrics)


def by_traits(values: Values, name: str) -> dict[RequestTraits, float]:
    """Give the values of a metric that has the labels of a request and no others."""
    found = {}
    for (sample, labels), value in values.items():
        if sample == PREFIX + name:
            text = dict(labels)
            model, target, fairness_id = (text[label] for label in ("model_name", "target_model_name", "fairness_id"))
            found[RequestTraits(model, target, fairness_id, int(text["priority"]))] = value
    return found


def count(plays: Iterable[Play]) -> dict[RequestTraits, float]:
    """Count *plays* by their labels."""
    return dict(Counter(play.traits for play in plays))


def add_up(pairs: Iterable[tuple[Play, float]]) -> dict[RequestTraits, float]:
    """Add numbers up by the labels of their plays."""
    sums: dict[RequestTraits, float] = {}
    for play, value in pairs:
        sums[play.traits] = sums.get(play.traits, 0.0) + value
    return sums


class TestMoments:
    def test_before_anything_happened(self) -> None:
        """Histograms without labels are there with no values, so that rates begin at 0; nothing else is."""
        values = shown(RequestMetrics())
        ours = {key: value for key, value in values.items() if key[0].startswith(PREFIX) and key[0] != PREFIX + "info"}
        assert {0.0} == set(ours.values())
        assert 0 == value_of(values, PREFIX + "scheduler_e2e_duration_seconds_count")

    def test_running(self) -> None:
        """A request runs from the answer to the end of its stream, whatever that is."""
        bench = Bench()
        traits = RequestTraits("llama", "llama", "default-flow", 0)
        sessions = [bench.processor.session() for _ in range(3)]
        for session in sessions:
            feed(session, head(), RequestBody(body(), end_of_stream=True))
        assert {traits: 3.0} == by_traits(shown(bench.metrics), "request_running")
        sessions[0].close(finished=True)
        sessions[1].close(finished=False)
        assert {traits: 1.0} == by_traits(shown(bench.metrics), "request_running")
        assert {traits: 3.0} == by_traits(shown(bench.metrics), "request_total")

    def test_reading_changes_nothing(self) -> None:
        """Whoever reads twice reads the same."""
        bench = Bench()
        Play().run(bench)
        before = {key: value for key, value in shown(bench.metrics).items() if key[0].startswith(PREFIX)}
        after = {key: value for key, value in shown(bench.metrics).items() if key[0].startswith(PREFIX)}
        assert before == after

    def test_picks_alone(self) -> None:
        """Whoever embeds the picker without ext_proc gets what it knows of picks."""
        metrics = RequestMetrics()
        registry = EndpointRegistry(make_pool(ports=[8000, 8001]), clock=ManualClock())
        registry.resync([make_pod("p", ip="10.0.0.1")])
        picker = EndpointPicker(registry, observer=metrics)
        picker.pick(InferenceRequest(model="m"), "10.0.0.1:8001")
        with pytest.raises(NoEndpointsError):
            picker.pick(InferenceRequest(model="m"), "")
        values = shown(metrics)

        name = PREFIX + "scheduler_attempts_total"
        endpoint = {"endpoint_name": "p", "namespace": "default", "port": "8001"}
        nobody = dict.fromkeys(endpoint, "")
        assert 1 == value_of(values, name, status="success", target_model_name="m", **endpoint)
        assert 1 == value_of(values, name, status="failure", target_model_name="m", **nobody)
        assert 1 == value_of(values, PREFIX + "scheduler_e2e_duration_seconds_count")


class TestMemory:
    def test_nothing_waits_for_a_reader(self) -> None:
        """Without anybody who reads, no more events are kept than are counted at a time."""
        bench = Bench()
        for play in [Play(), Play(routable=False), Play(readable=False)] * _BATCH:
            play.run(bench)
        metrics = bench.metrics
        waiting = (metrics._picks, metrics._refusals, metrics._requests_told)
        assert max(len(events) for events in waiting) < _BATCH

    def test_refusals_of_a_picker(self) -> None:
        """That holds for a picker alone as well."""
        metrics = RequestMetrics()
        picker = EndpointPicker(EndpointRegistry(), observer=metrics)
        for _ in range(2 * _BATCH):
            with pytest.raises(NoEndpointsError):
                picker.pick(InferenceRequest())
        assert not metrics._refusals

    def test_errors_are_not_kept(self) -> None:
        """An error holds the frames it went through; it is gone when the request is."""
        metrics = RequestMetrics()
        error = NoEndpointsError("none")
        gone = weakref.ref(error)
        metrics.finished(Exchange(error=error, status=503))
        del error
        assert gone() is None


class TestThreads:
    def test_nothing_is_lost_or_counted_twice(self) -> None:
        """Threads pick and finish while others read; at the end all numbers are exact, and none ever went back."""
        metrics = RequestMetrics()
        registry = EndpointRegistry(make_pool())
        registry.resync([make_pod(f"p{number}", ip=f"10.0.0.{number + 1}") for number in range(3)])
        picker = EndpointPicker(registry, observer=metrics)
        traits, rounds, threads = RequestTraits("m", "m", "f", 0), 3000, 4
        routing = Routing("10.0.0.1:8000")
        totals: list[float] = []

        def work() -> None:
            for _ in range(rounds):
                result = picker.pick(InferenceRequest(model="m"))
                metrics.decided(Decision(result, routing, "id", traits))
                result.release()
                metrics.finished(Exchange(traits=traits, destination="10.0.0.1:8000", complete=True, seconds=0.25))

        def look() -> None:
            while any(worker.is_alive() for worker in workers):
                values = shown(metrics)
                totals.append(value_of(values, PREFIX + "scheduler_e2e_duration_seconds_count") or 0)
                assert all(0 <= running <= threads for running in by_traits(values, "request_running").values())

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            workers = [Thread(target=work) for _ in range(threads)]
            for worker in workers:
                worker.start()
            look()
        finally:
            sys.setswitchinterval(before)
        for worker in workers:
            worker.join()
        values = shown(metrics)

        assert sorted(totals) == totals
        assert threads * rounds == value_of(values, PREFIX + "scheduler_e2e_duration_seconds_count")
        assert {traits: threads * rounds} == by_traits(values, "request_total")
        assert {traits: threads * rounds * 0.25} == by_traits(values, "request_duration_seconds_sum")
        assert {traits: 0} == by_traits(values, "request_running")


class TestSequences:
    @given(plays=st.lists(plays(), max_size=8))
    def test_by_traits(self, plays: list[Play]) -> None:
        """Every count and sum is that of the requests that were made, by their labels."""
        values = played(*plays)

        routed = [play for play in plays if not play.outcome]
        served = [play for play in routed if play.status is not None]
        written = [play for play in served if play.tells and play.tokens[1]]
        streamed = [play for play in written if play.events and play.tokens[1] > 1]
        for name, expected in {
            "request_total": count(routed),
            "request_running": dict.fromkeys(count(routed), 0.0),
            "request_size_bytes_count": count(routed),
            "request_size_bytes_sum": add_up((play, play.request_size) for play in routed),
            "request_duration_seconds_count": count(served),
            "request_duration_seconds_sum": add_up((play, play.seconds) for play in served),
            "response_size_bytes_count": count(served),
            "response_size_bytes_sum": add_up((play, sum(map(len, play.response))) for play in served),
            "request_input_tokens_count": count(play for play in served if play.tells and play.tokens[0]),
            "request_output_tokens_count": count(written),
            "request_output_tokens_sum": add_up((play, play.tokens[1]) for play in written),
            "request_cached_tokens_count": count(play for play in served if play.tells),
            "request_cached_tokens_sum": add_up((play, play.tokens[2]) for play in served if play.tells),
            "request_ntpot_seconds_count": count(written),
            "request_ntpot_seconds_sum": add_up((play, play.seconds / play.tokens[1]) for play in written),
            "request_streaming_tpot_seconds_count": count(streamed),
        }.items():
            assert pytest.approx(expected) == by_traits(values, name), name

    @given(plays=st.lists(plays(), max_size=8))
    def test_others(self, plays: list[Play]) -> None:
        """So it is with what has other labels, or none."""
        values = played(*plays)

        routed = [play for play in plays if not play.outcome]
        for name, expected in {
            "extproc_stream_duration_seconds_count": len(plays),
            "request_processing_duration_seconds_count": len(routed),
            "request_processing_duration_seconds_sum": sum(play.waits[0] for play in routed),
            "scheduler_e2e_duration_seconds_count": len(routed),
        }.items():
            assert pytest.approx(expected) == value_of(values, PREFIX + name), name
        statuses = {"success": len(routed), "failure": sum(play.outcome == "ServiceUnavailable" for play in plays)}
        assert statuses == {"success": 0, "failure": 0} | self._sums(values, "scheduler_attempts_total", "status")
        codes = Counter(
            play.outcome or "ModelServerError" for play in plays if play.outcome or (play.status or 0) >= 400
        )
        assert codes == self._sums(values, "request_error_total", "error_code")
        rewrites = Counter("canary" for play in routed if play.model == "old")
        assert rewrites == self._sums(values, "model_rewrite_decisions_total", "model_rewrite_name")
        kinds = Counter(str(play.events).lower() for play in routed if play.status is not None)
        assert kinds == self._sums(values, "request_ttft_seconds_count", "streaming")

    def _sums(self, values: Values, name: str, label: str) -> dict[str, float]:
        """Add up a metric by one label."""
        sums = Counter[str]()
        for (sample, labels), value in values.items():
            if sample == PREFIX + name:
                sums[dict(labels)[label]] += int(value)
        return dict(sums)
