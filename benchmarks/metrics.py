"""What metrics cost a request, beside the pick, and beside counting with prometheus-client in the usual way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from time import process_time

import prometheus_client
from attrs import evolve

from benchmarks.fleets import make_registry
from benchmarks.measure import Row, ratio_to_choice, time_of
from inferencepool import EndpointPicker, InferenceRequest
from inferencepool.adapters.bodies import Usage
from inferencepool.adapters.extproc import Decision, Exchange, RequestTraits, Routing
from inferencepool.picker import Observer
from inferencepool.runtime.debug import DecisionLog
from inferencepool.runtime.exporter import FAMILIES, MetricsPage, PoolMetrics, RequestMetrics
from inferencepool.runtime.http import PageRequest

__all__ = ["measure_metrics"]

_REQUEST = InferenceRequest(model="llama", prompt=b"x" * 1000, fairness_id="default-flow")
_TRAITS = RequestTraits("llama", "llama", "default-flow", 0)
_PLAIN = Exchange(
    traits=_TRAITS,
    destination="10.0.0.1:8000",
    status=200,
    complete=True,
    request_bytes=1000,
    answered_after=0.001,
    seconds=1.5,
)
_FULL = Exchange(
    traits=_TRAITS,
    destination="10.0.0.1:8000",
    status=200,
    complete=True,
    usage=Usage(300, 200, 100, 500),
    streaming=True,
    request_bytes=1000,
    response_bytes=5000,
    answered_after=0.001,
    first_byte_after=0.2,
    seconds=1.5,
)


def measure_metrics() -> Iterator[Row]:
    """Measure what is counted of a request, and what it takes to show it."""
    for name, exchange, limit in (("without tokens", _PLAIN, 14), ("with tokens, a stream", _FULL, 20)):
        yield ratio_to_choice(f"metrics of one request, {name}", _ours(exchange), limit)
        yield _against_prometheus_client(name, exchange)
    yield from _beside_a_pick()
    yield _page(100)
    yield _page_at_the_limits(1000)


def _ours(exchange: Exchange) -> Callable[[], None]:
    """Give what is counted of a request: its pick, its decision and its end."""
    metrics = RequestMetrics()
    result = EndpointPicker(make_registry(100)).pick(_REQUEST)
    decision = Decision(result, Routing(result.destination), "id", _TRAITS)

    def count() -> None:
        metrics.picked(result)
        metrics.decided(decision)
        metrics.finished(exchange)

    return count


def _theirs(exchange: Exchange) -> Callable[[], None]:
    """Give the same, counted with the classes of prometheus-client."""
    registry = prometheus_client.CollectorRegistry()
    kinds = {
        "counter": prometheus_client.Counter,
        "gauge": prometheus_client.Gauge,
        "histogram": prometheus_client.Histogram,
    }
    made = {}
    for family in FAMILIES:
        more = {"buckets": family.buckets} if family.buckets else {}
        made[family.name.removeprefix("llm_d_epp_")] = kinds[family.kind](
            family.name, family.text, family.labels, registry=registry, **more
        )
    usage = exchange.usage

    def count() -> None:
        labels = ("llama", "llama", "default-flow", "0")
        made["scheduler_attempts_total"].labels("success", "llama", "pod-1", "default", "8000").inc()
        made["scheduler_e2e_duration_seconds"].observe(0.00001)
        made["request_total"].labels(*labels).inc()
        made["request_running"].labels(*labels).inc()
        made["request_running"].labels(*labels).dec()
        made["request_processing_duration_seconds"].observe(exchange.answered_after)
        made["extproc_stream_duration_seconds"].observe(exchange.seconds)
        made["request_size_bytes"].labels(*labels).observe(exchange.request_bytes)
        made["request_duration_seconds"].labels(*labels).observe(exchange.seconds)
        if usage is not None:
            made["response_size_bytes"].labels(*labels).observe(exchange.response_bytes)
            made["request_ttft_seconds"].labels(*labels, "true").observe(exchange.first_byte_after)
            made["request_input_tokens"].labels(*labels).observe(usage.prompt_tokens)
            made["request_output_tokens"].labels(*labels).observe(usage.output_tokens)
            made["request_cached_tokens"].labels(*labels).observe(usage.cached_tokens)
            made["request_ntpot_seconds"].labels(*labels).observe(0.01)
            made["request_streaming_tpot_seconds"].labels(*labels).observe(0.01)

    return count


def _against_prometheus_client(name: str, exchange: Exchange) -> Row:
    ours, theirs = _ours(exchange), _theirs(exchange)
    times = [(time_of(ours, 2000), time_of(theirs, 400)) for _ in range(11)]
    ratio = median(slow / fast for fast, slow in times)
    return Row(
        f"metrics of one request, {name}, against prometheus-client's own classes",
        f"{median(fast for fast, _ in times) / 1000:.2f} µs",
        f"its own {median(slow for _, slow in times) / 1000:.2f} µs",
        f"{ratio:.1f} times faster",
        ">= 4 times",
        ratio >= 4,
    )


def _beside_a_pick() -> Iterator[Row]:
    """Measure picks with observers against picks without, in turns."""
    plain = _picking(None)
    for name, observer in (("metrics", RequestMetrics()), ("the log of decisions", DecisionLog())):
        observed = _picking(observer)
        times = [(time_of(plain, 1000), time_of(observed, 1000)) for _ in range(31)]
        more = median(slow - fast for fast, slow in times)
        yield Row(
            f"a pick, n=100, with {name} as its observer",
            f"{median(slow for _, slow in times) / 1000:.2f} µs",
            f"without {median(fast for fast, _ in times) / 1000:.2f} µs",
            f"{more / 1000:+.2f} µs",
        )


def _picking(observer: Observer | None) -> Callable[[], None]:
    picker = EndpointPicker(make_registry(100), observer=observer)
    return lambda: picker.pick(_REQUEST).release()


def _page(size: int) -> Row:
    """Measure how long it takes to make a page."""
    metrics = RequestMetrics()
    picker = EndpointPicker(make_registry(size), observer=metrics)
    for _ in range(10 * size):
        picker.pick(_REQUEST)
    metrics.finished(_FULL)
    page = MetricsPage(metrics, PoolMetrics(picker))
    request = PageRequest(path="/metrics")
    lines = page(request).body.count(b"\n")
    return ratio_to_choice(f"the page of metrics, n={size}, {lines} lines", lambda: page(request))


def _page_at_the_limits(size: int) -> Row:
    """Measure a page for which clients made up as many names as they can."""
    metrics = RequestMetrics()
    picker = EndpointPicker(make_registry(size), observer=metrics)
    for number in range(4 * size):
        picker.pick(InferenceRequest(model=f"model-{number % 300}"))
    for number in range(6000):
        name = f"model-{number % 300}"
        traits = RequestTraits(name, name, f"client-{number % 3000}", number % 3)
        for streaming in (False, True):
            metrics.finished(evolve(_FULL, traits=traits, streaming=streaming))
    page = MetricsPage(metrics, PoolMetrics(picker))
    request = PageRequest(path="/metrics")
    body = page(request).body
    times = []
    for _ in range(11):
        began = process_time()
        page(request)
        times.append((process_time() - began) * 1000)
    taken = min(times)
    return Row(
        f"the page of metrics at its limits, n={size}",
        f"{taken:.1f} ms CPU, {len(body) / 1e6:.2f} MB",
        "",
        f"{body.count(10)} lines",
        "<= 50 ms, < 3 MB",
        taken <= 50 and len(body) < 3_000_000,
    )
