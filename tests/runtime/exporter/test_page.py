"""The page over real HTTP, former names, and streams of ext_proc."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request
from functools import partial

import attrs
import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from prometheus_client import REGISTRY, Counter

from inferencepool import __version__
from inferencepool.adapters.extproc import RequestBody
from inferencepool.errors import ConfigurationError
from inferencepool.model import EndpointMetrics, InferenceRequest
from inferencepool.runtime.exporter import (
    FAMILIES,
    EjectionMetrics,
    LimitMetrics,
    MetricsPage,
    PoolMetrics,
    PrefixMetrics,
    RequestMetrics,
    ScrapeMetrics,
    StreamMetrics,
    ToldMetric,
)
from inferencepool.runtime.extproc import extproc_routes
from inferencepool.runtime.grpc import Closure, GrpcServer, Reason, Status
from inferencepool.runtime.http import PageServer
from tests.adapters.extproc.sessions import body, head, make_bench
from tests.patience import PATIENCE
from tests.runtime.exporter.plays import Bench, Play
from tests.runtime.exporter.reading import Values, read, shown, value_of
from tests.runtime.extproc.serving import PATH, Proxy

PREFIX = "llm_d_epp_"


def scraped(page: MetricsPage) -> tuple[str, bytes]:
    """Serve *page*, and scrape it with the standard library."""

    def scrape(port: int) -> tuple[str, bytes]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            return response.headers["content-type"], response.read()

    async def scenario() -> tuple[str, bytes]:
        server = PageServer({"/metrics": page}, address="127.0.0.1")
        await server.start()
        try:
            return await asyncio.to_thread(scrape, server.port)
        finally:
            await server.stop()

    return asyncio.run(scenario())


def every_metric(*, deprecated: bool = False) -> Values:
    """Let everything happen that is counted, and give what the page says."""
    bench = Bench()
    for play in (Play(), Play(events=True), Play(model="old", status=500), Play(routable=False)):
        play.run(bench)
    streams = StreamMetrics(bench.processor)
    streams.closed(Closure(Reason.RESET, code=2))
    registry = bench.processor.picker.registry
    pool = PoolMetrics(bench.processor.picker)
    for endpoint in registry.endpoints():
        registry.observe_metrics(endpoint.id, EndpointMetrics())
    registry.publish()
    ejections = EjectionMetrics(registry)
    limits = LimitMetrics(lambda: {"pages": {"connections": 1}})
    told = [family for family in FAMILIES if family.name in TOLD]
    others = [ToldMetric(family.name, partial(list, [(family.labels, 1)])) for family in told]
    return read(
        scraped(MetricsPage(bench.metrics, pool, ejections, streams, limits, *others, deprecated=deprecated))[1]
    )


@attrs.frozen(kw_only=True)
class Counts:
    """What somebody counted."""

    fetch_errors: int = 0
    read_errors: int = 0
    postponed: int = 0
    held: int = 0
    hits: int = 0
    misses: int = 0


class TestScrape:
    def test_every_metric(self) -> None:
        """All that is promised is on the page, with the labels promised, and nothing more but that of the process."""
        found: dict[str, set[str]] = {}
        for sample, labels in every_metric():
            stem = sample.rpartition("_")[0]
            name = stem if stem in HISTOGRAMS else sample
            found.setdefault(name, set()).update(label for label, _ in labels if label != "le")

        promised = {family.name: set(family.labels) for family in FAMILIES}
        assert promised == {name: labels for name, labels in found.items() if not name.startswith("process_")}
        assert "process_resident_memory_bytes" in found

    def test_format(self) -> None:
        """It is the text format, which Prometheus reads by default, with a text for each metric."""
        content_type, page = scraped(MetricsPage(RequestMetrics()))
        assert "text/plain; version=0.0.4; charset=utf-8" == content_type
        lines = page.decode().splitlines()
        assert [line.split()[2] for line in lines if line.startswith("# HELP")] == [
            line.split()[2] for line in lines if line.startswith("# TYPE")
        ]
        assert "# TYPE llm_d_epp_request_total counter" in lines
        assert "# TYPE llm_d_epp_scheduler_e2e_duration_seconds histogram" in lines

    def test_names_that_need_escaping(self) -> None:
        """A model may be called anything."""
        bench = make_bench(["10.0.0.1"])
        metrics = RequestMetrics()
        for model in ('a"b', "c\\d", "e\nf", "é 漢"):
            metrics.picked(bench.picker.pick(InferenceRequest(model=model)))
        names = {dict(labels).get("target_model_name") for _, labels in shown(metrics)}
        assert {'a"b', "c\\d", "e\nf", "é 漢"} <= names

    def test_build(self) -> None:
        """It tells which version runs."""
        values = shown()
        (labels,) = [dict(labels) for name, labels in values if name == f"{PREFIX}info"]
        assert labels["build_ref"] == f"inferencepool {__version__}"


class TestSeveral:
    def test_nothing_is_global(self) -> None:
        """Two pickers in one process have metrics of their own, and prometheus-client's own registry has neither."""
        before = {family.name for family in REGISTRY.collect()}
        benches = [Bench(), Bench()]
        Play().run(benches[0])
        pages = [MetricsPage(bench.metrics, PoolMetrics(bench.processor.picker)) for bench in benches]
        first, second = (read(scraped(page)[1]) for page in pages)

        name = f"{PREFIX}scheduler_e2e_duration_seconds_count"
        assert (1, 0) == (value_of(first, name), value_of(second, name))
        assert before == {family.name for family in REGISTRY.collect()}

    def test_metrics_of_your_own(self) -> None:
        """Whatever else you count can be on the same page."""
        page = MetricsPage(RequestMetrics())
        Counter("mine", "Mine.", registry=page.registry).inc(3)
        assert 3 == value_of(read(scraped(page)[1]), "mine_total")


class TestTold:
    def test_values_of_others(self) -> None:
        """A function gives them when they are asked for."""
        errors = 3
        metric = ToldMetric("llm_d_epp_datalayer_poll_errors_total", lambda: [(("metrics-data-source",), errors)])
        name = "llm_d_epp_datalayer_poll_errors_total"
        assert 3 == value_of(shown(metric), name, source_type="metrics-data-source")
        errors += 1
        assert 4 == value_of(shown(metric), name, source_type="metrics-data-source")

    @pytest.mark.parametrize("name", ["poll_errors", "llm_d_epp_request_duration_seconds"])
    def test_names(self, name: str) -> None:
        """Only counters and gauges that are listed."""
        with pytest.raises(
            ConfigurationError, match=f"metrics: name: '{name}' is no counter and no gauge; allowed: llm_d"
        ):
            ToldMetric(name, list)

    def test_scrapes(self) -> None:
        """A scraper's counts show under the reference's names."""
        counts = Counts(fetch_errors=3, read_errors=4, postponed=2)
        values = shown(ScrapeMetrics(lambda: counts))
        source = {"source_type": "metrics-data-source"}
        extractor = {"extractor_type": "core-metrics-extractor"}
        assert 3 == value_of(values, f"{PREFIX}datalayer_poll_errors_total", **source)
        assert 4 == value_of(values, f"{PREFIX}datalayer_extract_errors_total", **source, **extractor)
        assert 2 == value_of(values, "inferencepool_postponed_scrapes_total")

    def test_prefixes(self) -> None:
        """So do those of an index of prefixes."""
        counts = Counts(held=5, hits=6, misses=7)
        labels = {"plugin_name": "mine", "plugin_type": "approx-prefix-cache-producer"}
        values = shown(PrefixMetrics(lambda: counts, **labels))
        assert 5 == value_of(values, f"{PREFIX}prefix_indexer_size", **labels)
        assert 6 == value_of(values, "inferencepool_prefix_lookups_total", **labels, result="hit")
        assert 7 == value_of(values, "inferencepool_prefix_lookups_total", **labels, result="miss")

    def test_a_wrong_number_of_labels(self) -> None:
        """It is an error, not a wrong page."""
        metric = ToldMetric("llm_d_epp_datalayer_poll_errors_total", lambda: [(("a", "b"), 1)])
        with pytest.raises(ValueError, match="argument 2 is longer"):
            shown(metric)


class TestFormerNames:
    def test_they_are_off_by_default(self) -> None:
        """Names that are deprecated are not made more common."""
        assert not [name for name, _ in every_metric() if name.startswith("inference_")]

    def test_they_come_beside_the_others(self) -> None:
        """Every metric is there as before, and the table's under their former names with the labels they had."""
        plain, both = every_metric(), every_metric(deprecated=True)
        assert set(plain) == {key for key in both if not key[0].startswith("inference_")}
        found: dict[str, set[str]] = {}
        for name, labels in both:
            if name.startswith("inference_") and not name.endswith(("_bucket", "_sum")):
                found.setdefault(name.removesuffix("_count"), set()).update(label for label, _ in labels)
        assert {name: set(labels.split()) for name, labels in FORMER.items()} == found

    def test_what_is_told_apart_no_more_is_added_up(self) -> None:
        """Where a metric had fewer labels, its values are sums, those of histograms too."""
        bench = Bench()
        for play in (Play(fairness_id="a"), Play(fairness_id="b", batch=True), Play(model="old")):
            play.run(bench)
        values = shown(bench.metrics, deprecated=True)

        labels = {"model_name": "llama", "target_model_name": "llama"}
        assert 2 == value_of(values, "inference_objective_request_duration_seconds_count", **labels)
        assert 2 == value_of(values, "inference_objective_request_duration_seconds_bucket", **labels, le="+Inf")
        assert 60 == value_of(values, "inference_objective_input_tokens_sum", **labels)
        assert 1 == value_of(values, "inference_objective_request_total", **labels, priority="-5")
        assert 0 == value_of(values, "inference_objective_running_requests", model_name="old")


class TestStreams:
    @pytest.mark.parametrize(
        ("closure", "code"),
        [
            (Closure(Reason.ENDED, status=Status.OK), "OK"),
            (Closure(Reason.ENDED, status=Status.INVALID_ARGUMENT), "InvalidArgument"),
            (Closure(Reason.ENDED, status=Status.INTERNAL), "Internal"),
            (Closure(Reason.RESET, code=2), "OK"),
            (Closure(Reason.STOPPED), "OK"),
            (Closure(Reason.LOST), "Canceled"),
            (Closure(Reason.OVERFLOW), "ResourceExhausted"),
            (Closure(Reason.BROKEN, code=1), "Internal"),
        ],
        ids=str,
    )
    def test_codes(self, closure: Closure, code: str) -> None:
        """Each end counts under a status of gRPC, spelled as Go does."""
        streams = StreamMetrics(make_bench().processor)
        streams.closed(closure)
        streams.closed(closure)
        assert 2 == value_of(shown(streams), f"{PREFIX}extproc_streams_total", code=code)

    def test_every_reason_has_a_code(self) -> None:
        """None is forgotten."""
        streams = StreamMetrics(make_bench().processor)
        for reason in Reason:
            streams.closed(Closure(reason, status=Status.OK if reason is Reason.ENDED else None))
        total = sum(value for (name, _), value in shown(streams).items() if name == f"{PREFIX}extproc_streams_total")
        assert len(Reason) == total

    def test_over_grpc(self) -> None:
        """Streams of a real client are counted while they are open and when they have ended."""
        bench = make_bench()
        streams = StreamMetrics(bench.processor)

        async def scenario() -> None:
            server = GrpcServer(extproc_routes(bench.processor, on_closed=streams.closed))
            await server.start("127.0.0.1", 0)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                first, second = (Proxy(channel.stream_stream(PATH)(timeout=PATIENCE)) for _ in range(2))
                await first.say(head(), RequestBody(body(), end_of_stream=True))
                await first.hear(2)
                await second.say(RequestBody(b"out of place"))
                await second.status()
                assert 1 == value_of(shown(streams), f"{PREFIX}extproc_streams_inflight")
                await first.finish()
            await server.stop(0)

        asyncio.run(scenario())
        values = shown(streams)
        assert 0 == value_of(values, f"{PREFIX}extproc_streams_inflight")
        codes = {
            code: value_of(values, f"{PREFIX}extproc_streams_total", code=code) for code in ("OK", "InvalidArgument")
        }
        assert {"OK": 1, "InvalidArgument": 1} == codes


def test_without_prometheus_client() -> None:
    """The error says which extra to install."""
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from inferencepool.errors import MissingExtraError\n"
        "try:\n    import inferencepool.runtime.exporter\n"
        "except MissingExtraError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'exporting metrics needs prometheus-client: pip install "inferencepool[epp]"\n' == done.stdout


# What others tell: scrapers, indexes of prefixes, producers of load.
TOLD = {
    "llm_d_epp_inflight_tokens",
    "llm_d_epp_prefix_indexer_size",
    "llm_d_epp_datalayer_poll_errors_total",
    "llm_d_epp_datalayer_extract_errors_total",
    "inferencepool_postponed_scrapes_total",
    "inferencepool_prefix_lookups_total",
}
HISTOGRAMS = {family.name for family in FAMILIES if family.kind == "histogram"}
# Transcribed from the reference's list of deprecated names, as far as there is something to tell here.
FORMER = {
    "inference_objective_request_total": "model_name target_model_name priority",
    "inference_objective_request_error_total": "model_name target_model_name error_code",
    "inference_objective_request_duration_seconds": "model_name target_model_name",
    "inference_objective_request_sizes": "model_name target_model_name",
    "inference_objective_response_sizes": "model_name target_model_name",
    "inference_objective_input_tokens": "model_name target_model_name",
    "inference_objective_output_tokens": "model_name target_model_name",
    "inference_objective_prompt_cached_tokens": "model_name target_model_name",
    "inference_objective_running_requests": "model_name",
    "inference_objective_normalized_time_per_output_token_seconds": "model_name target_model_name",
    "inference_pool_average_kv_cache_utilization": "name",
    "inference_pool_average_queue_size": "name",
    "inference_pool_average_running_requests": "name",
    "inference_pool_ready_pods": "name",
    "inference_pool_per_pod_queue_size": "name model_server_pod",
    "inference_extension_scheduler_e2e_duration_seconds": "",
    "inference_extension_scheduler_attempts_total": "status target_model_name pod_name namespace port",
    "inference_extension_info": "commit build_ref",
    "inference_extension_model_rewrite_decisions_total": "model_rewrite_name model_name target_model",
}
