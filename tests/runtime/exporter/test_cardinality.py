"""However many names clients make up, the number of series is bounded."""

from __future__ import annotations

from collections.abc import Collection
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from inferencepool.adapters.bodies import Usage
from inferencepool.adapters.extproc import Exchange, RequestTraits
from inferencepool.errors import ConfigurationError
from inferencepool.model import InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.exporter import CardinalityLimits, MetricsPage, PoolMetrics, RequestMetrics
from inferencepool.runtime.exporter._labels import OTHER, BoundedLabel
from inferencepool.runtime.exporter._prometheus import write_page
from inferencepool.runtime.http import PageRequest
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.runtime.exporter.reading import Values, shown


def decision_about(traits: RequestTraits) -> Any:
    """Make what metrics look at of a decision."""
    return SimpleNamespace(traits=traits, rewrite="")


def told(metrics: RequestMetrics, *traits: RequestTraits) -> None:
    """Tell of requests that were not served."""
    for each in traits:
        metrics.finished(Exchange(traits=each, status=500))


def labels_of(values: Values, name: str, label: str) -> set[str]:
    """Give the values of one label."""
    return {dict(labels)[label] for sample, labels in values if sample == name and label in dict(labels)}


ERRORS = "llm_d_epp_request_error_total"


class TestBound:
    def test_first_come(self) -> None:
        """The first values are told as they are, also later; all others are one."""
        label = BoundedLabel(2)
        assert ["a", "b", OTHER, "a", OTHER] == [label.bound(value) for value in ("a", "b", "c", "a", "d")]

    def test_nothing_is_no_value(self) -> None:
        """What a request did not tell does not count, and is never another."""
        label = BoundedLabel(0)
        assert ["", OTHER] == [label.bound(""), label.bound("a")]

    @pytest.mark.parametrize("value", ["x" * 257, "x" * 10_000_000, "\ud800" * 100])
    def test_long(self, value: str) -> None:
        """Long values are not told, and take none of the places."""
        label = BoundedLabel(1)
        assert [OTHER, "x" * 256] == [label.bound(value), label.bound("x" * 256)]

    def test_what_cannot_be_written(self) -> None:
        """JSON may hold half of a surrogate pair, which UTF-8 cannot say; the page must be made all the same."""
        label = BoundedLabel(1)
        assert ["a\\ud800"] * 2 == [label.bound("a\ud800") for _ in range(2)]
        assert OTHER == label.bound("b")

    def test_exempt(self) -> None:
        """Names that somebody configured are always told, and take nobody's place."""
        label, configured = BoundedLabel(1), {"x", "y"}
        label.exempt = lambda: configured
        assert ["x", "a", "y", OTHER] == [label.bound(value) for value in ("x", "a", "y", "b")]


class TestClaims:
    """Names that clients make up take no place from those that somebody knows."""

    def test_proven_values_have_places_of_their_own(self) -> None:
        """Claims take their share, what is proven the rest, and a claim that is proven gives its place back."""
        label = BoundedLabel(4, 2)
        assert ["a", "b", OTHER] == [label.bound(value) for value in ("a", "b", "c")]
        label.prove("real")
        label.prove("a")
        assert ["real", "a", "b", "c", OTHER] == [label.bound(value) for value in ("real", "a", "b", "c", "d")]
        label.prove("late")
        assert OTHER == label.bound("late")
        assert 4 == len(label._admitted)

    @pytest.mark.parametrize("value", ["", "x" * 257])
    def test_what_cannot_be_proven(self, value: str) -> None:
        """Nothing, and what is too long, take no place."""
        label = BoundedLabel(1)
        label.prove(value)
        assert not label._admitted

    def test_a_flood_of_made_up_names_hides_no_model(self) -> None:
        """A real model is told from its first answer on; how many are running stays right all the while."""
        metrics = RequestMetrics(CardinalityLimits(models=10))
        made_up = [RequestTraits(f"m{n}", f"m{n}", "f", 0) for n in range(1_000)]
        real = RequestTraits("real", "real", "f", 0)
        for traits in (*made_up, real, real):
            metrics.decided(decision_about(traits))
        for traits in made_up:
            metrics.finished(Exchange(traits=traits, destination="10.0.0.1:80", status=404))
        answer = Exchange(traits=real, destination="10.0.0.1:80", status=200)
        metrics.finished(answer)
        metrics.decided(decision_about(real))
        values = shown(metrics)
        total, running = "llm_d_epp_request_total", "llm_d_epp_request_running"

        assert {"m0", "m1", "m2", "m3", "m4", "real", OTHER} == labels_of(values, total, "model_name")
        assert [1] == [
            count for (name, labels), count in values.items() if name == total and ("model_name", "real") in labels
        ]
        metrics.finished(answer)
        metrics.finished(answer)
        values = shown(metrics)
        assert {0} == {
            count
            for (name, labels), count in values.items()
            if name == running and ({("model_name", "real"), ("model_name", OTHER)} & set(labels))
        }
        assert not metrics._requests._misnamed

    def test_refusals_prove_nothing(self) -> None:
        """A server that says that it has no such model does not know it."""
        metrics = RequestMetrics(CardinalityLimits(models=2))
        for number in range(10):
            traits = RequestTraits(f"m{number}", f"m{number}", "f", 0)
            metrics.decided(decision_about(traits))
            metrics.finished(Exchange(traits=traits, destination="10.0.0.1:80", status=404))

        assert {"m0", OTHER} == labels_of(shown(metrics), "llm_d_epp_request_total", "model_name")


class TestRequests:
    def test_models(self) -> None:
        """Both labels share the limit, so one name that is in both counts once."""
        metrics = RequestMetrics(CardinalityLimits(models=6))
        told(metrics, *(RequestTraits(f"m{n}", f"m{n + 1}", "f", 0) for n in range(10)))
        values = shown(metrics)

        assert {"m0", "m1", "m2", OTHER} == labels_of(values, ERRORS, "model_name")
        assert {"m1", "m2", OTHER} == labels_of(values, ERRORS, "target_model_name")
        assert 10 == sum(value for (name, _), value in values.items() if name == ERRORS)

    def test_fairness_ids(self) -> None:
        """They have a limit of their own."""
        metrics = RequestMetrics(CardinalityLimits(fairness_ids=2))
        told(metrics, *(RequestTraits("m", "m", f"f{n}", 0) for n in range(10)))

        assert {"f0", "f1", OTHER} == labels_of(shown(metrics), ERRORS, "fairness_id")

    def test_combinations(self) -> None:
        """Beyond the limit of combinations all labels are one, and no request is lost."""
        metrics = RequestMetrics(CardinalityLimits(requests=4))
        told(metrics, *(RequestTraits(f"m{n % 3}", f"m{n % 3}", f"f{n % 5}", n % 7) for n in range(105)))
        values = shown(metrics)

        series = [labels for name, labels in values if name == ERRORS]
        assert 5 == len(series)
        assert (
            dict.fromkeys(["model_name", "target_model_name", "fairness_id", "priority"], OTHER).items()
            <= dict(series[-1]).items()
        )
        assert 105 == sum(value for (name, _), value in values.items() if name == ERRORS)

    def test_exempt_models(self) -> None:
        """Names in model rewrites are asked for when they come, so that later rewrites count, too."""
        metrics, configured = RequestMetrics(CardinalityLimits(models=0)), set[str]()

        def names() -> Collection[str]:
            return configured

        metrics.exempt_models(names)
        told(metrics, RequestTraits("a", "b", "f", 0))
        assert {OTHER} == labels_of(shown(metrics), ERRORS, "model_name")
        configured |= {"a", "b"}
        told(metrics, RequestTraits("a", "b", "f", 0))
        assert {OTHER, "a"} == labels_of(shown(metrics), ERRORS, "model_name")

    def test_memory(self) -> None:
        """A hundred times as many made-up names take no more memory: nothing is kept of them."""
        metrics = RequestMetrics(CardinalityLimits(models=10, fairness_ids=10, requests=10))

        def flood(begin: int, end: int) -> tuple[int, int, int]:
            told(metrics, *(RequestTraits(f"m{n}", f"n{n}", f"f{n}", 0) for n in range(begin, end)))
            values = shown(metrics)
            tallies = metrics._requests
            return len(values), len(tallies._by_traits), len(tallies._by_labels)

        assert flood(0, 100) == flood(100, 10_000)


class TestPicks:
    def test_endpoints_that_left(self) -> None:
        """Those that got nothing for the longest time are forgotten."""
        registry = EndpointRegistry(make_pool(), clock=ManualClock(), publish_interval=0)
        metrics = RequestMetrics(CardinalityLimits(picks=3))
        picker = EndpointPicker(registry, observer=metrics)
        for number in range(10):
            registry.resync([make_pod(f"p{number}", ip=f"10.0.0.{number + 1}")])
            picker.pick(InferenceRequest(model="m")).release()
            shown(metrics)

        assert {"p7", "p8", "p9"} == labels_of(shown(metrics), "llm_d_epp_scheduler_attempts_total", "endpoint_name")

    def test_models(self) -> None:
        """Models of picks are bounded as those of requests, where the reference does not bound them."""
        registry = EndpointRegistry(make_pool(), clock=ManualClock())
        registry.resync([make_pod("p", ip="10.0.0.1")])
        metrics = RequestMetrics(CardinalityLimits(models=4))
        picker = EndpointPicker(registry, observer=metrics)
        for number in range(10):
            picker.pick(InferenceRequest(model=f"m{number}"))

        values = shown(metrics)
        assert {"m0", "m1", OTHER} == labels_of(values, "llm_d_epp_scheduler_attempts_total", "target_model_name")


@pytest.mark.parametrize("name", ["models", "fairness_ids", "requests", "picks"])
@pytest.mark.parametrize("value", [-1, 1.0, True, "1"])
def test_limits_that_cannot_be(name: str, value: object) -> None:
    """The error names the limit and the value."""
    with pytest.raises(ConfigurationError, match=f"metrics: {name}: {value!r}"):
        CardinalityLimits(**{name: value})  # type: ignore[arg-type]  # on purpose


class TestPageSize:
    """However clients choose models and fairness ids, the page stays short."""

    @staticmethod
    def page_of(length: int) -> tuple[RequestMetrics, bytes]:
        """A thousand endpoints, and more names of *length* characters than there is room for."""
        metrics = RequestMetrics()
        registry = EndpointRegistry(make_pool())
        for number in range(1000):
            registry.upsert_pod(make_pod(f"pod-{number}", ip=f"10.0.{number // 250}.{number % 250 + 1}"))
        picker = EndpointPicker(registry, observer=metrics)
        for number in range(3000):
            picker.pick(InferenceRequest(model=str(number % 200).rjust(length, "m")))
        usage = Usage(300, 200, 100, 500)
        for number in range(2000):
            model = str(number % 200).rjust(length, "m")
            traits = RequestTraits(model, model, str(number).rjust(length, "f"), number % 3)
            metrics.decided(decision_about(traits))
            for streaming in (False, True):
                exchange = Exchange(
                    traits=traits,
                    destination="10.0.0.1:80",
                    status=200,
                    complete=True,
                    usage=usage,
                    streaming=streaming,
                    request_bytes=9,
                    response_bytes=9,
                    first_byte_after=0.2,
                    seconds=1.0,
                )
                metrics.finished(exchange)
        return metrics, MetricsPage(metrics, PoolMetrics(picker))(PageRequest(path="/metrics")).body

    @pytest.mark.parametrize("length", [8, 250])
    def test_page_is_bounded(self, length: int) -> None:
        """It has less than 3 MB, and nothing is lost: what has no place of its own is counted under other."""
        metrics, page = self.page_of(length)
        values = shown(metrics)

        assert len(page) < 3_000_000
        for name, expected in (
            ("llm_d_epp_request_total", 2000),
            ("llm_d_epp_request_duration_seconds_count", 4000),
            ("llm_d_epp_request_ttft_seconds_count", 4000),
        ):
            assert expected == sum(value for (sample, _), value in values.items() if sample == name)
        assert OTHER in labels_of(values, "llm_d_epp_request_duration_seconds_count", "model_name")

    def test_made_up_models_leave_room(self) -> None:
        """A model that was answered for has its own series although clients filled the page before."""
        metrics = RequestMetrics(CardinalityLimits(models=2000, request_bytes=100_000))
        made_up = [RequestTraits(f"m{n}", f"m{n}", f"f{n}", 0) for n in range(1000)]
        for traits in made_up:
            metrics.finished(Exchange(traits=traits, destination="10.0.0.1:80", status=404, complete=True, seconds=1.0))
        real = RequestTraits("real", "real", "f", 0)
        metrics.finished(Exchange(traits=real, destination="10.0.0.1:80", status=200, complete=True, seconds=1.0))
        values = shown(metrics)

        assert "real" in labels_of(values, "llm_d_epp_request_duration_seconds_count", "model_name")

    def test_page_is_what_prometheus_client_writes(self) -> None:
        """The text is that of the client library, line by line."""
        registry = CollectorRegistry()
        metrics, _ = self.page_of(8)
        registry.register(metrics)
        odd = RequestTraits('a"b\\c\nd', "x", "f", 0)
        told(metrics, odd)

        assert generate_latest(registry) == write_page(registry.collect())
