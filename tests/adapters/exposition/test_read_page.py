from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.exposition import (
    ENGINES,
    Combine,
    Engine,
    MetricSpec,
    PageReader,
    detect_engine,
    read_metrics,
    read_page,
)
from inferencepool.errors import ConfigurationError, InvalidMetricsError
from inferencepool.model import EndpointMetrics

TRITON = 'nv_inference_pending_request_count{model="m"} 3\nnv_inference_exec_count 8\n'
PAGES = {
    "vllm": (
        "vllm:num_requests_waiting 2\nvllm:num_requests_running 3\nvllm:kv_cache_usage_perc 0.25\n"
        'vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1\n'
    ),
    "sglang": (
        "sglang:num_queue_reqs 2\nsglang:num_running_reqs 3\nsglang:token_usage 0.25\n"
        'sglang:cache_config_info{page_size="16",num_pages="100"} 1\n'
    ),
    "trtllm-serve": (
        "trtllm_num_requests_waiting 2\ntrtllm_num_requests_running 3\ntrtllm_kv_cache_utilization 0.25\n"
        "trtllm_kv_cache_tokens_per_block 16\ntrtllm_kv_cache_max_blocks 100\n"
    ),
    "triton-tensorrt-llm": TRITON
    + (
        'nv_trt_llm_request_metrics{request_type="waiting"} 2\nnv_trt_llm_request_metrics{request_type="scheduled"} 3\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction"} 0.25\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per"} 16\n'
        'nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max"} 100\n'
    ),
}
LORA = "vllm:lora_requests_info"


@pytest.mark.parametrize("name", PAGES)
def test_engine(name: str) -> None:
    """Each engine is told by its metrics, and all of them are read."""
    reading = read_page(PAGES[name])

    assert ENGINES[name] is reading.engine is detect_engine(PAGES[name])
    assert () == reading.missing
    assert reading.metrics == EndpointMetrics(
        waiting_queue_size=2, running_requests=3, kv_cache_usage=0.25, cache_block_size=16, cache_num_blocks=100
    )
    assert reading == read_page(PAGES[name], name) == read_page(PAGES[name].encode(), ENGINES[name])


def test_triton() -> None:
    """A plain Triton server tells what waits; what it has run since it began is no load."""
    assert "triton" == detect_engine(TRITON).name
    assert EndpointMetrics(waiting_queue_size=3) == read_metrics(TRITON)
    assert {"running_requests", "kv_cache_usage"} == read_metrics(TRITON).unknown


def test_example_page(root: Path) -> None:
    """The page among the examples is read, with its latest LoRA series."""
    page = (root / "docs/examples/vllm-metrics.txt").read_text(encoding="utf-8")

    assert read_metrics(page, observed_at=12.5) == EndpointMetrics(
        waiting_queue_size=2,
        running_requests=6,
        kv_cache_usage=0.3125,
        active_models=["chat-adapter", "sql-adapter"],
        waiting_models=["legal-adapter"],
        max_active_models=4,
        cache_block_size=16,
        cache_num_blocks=27648,
        observed_at=12.5,
    )


class TestPartialPages:
    def test_other_fields_keep_their_value(self) -> None:
        """What the page lacks stays as it was, and is listed; the time is new."""
        previous = EndpointMetrics(
            waiting_queue_size=9, running_requests=8, kv_cache_usage=0.5, active_models=["x"], observed_at=1.0
        )
        reading = read_page("vllm:num_requests_waiting 1\n", "vllm", previous, 2.0)

        assert reading.missing == (
            "vllm:num_requests_running",
            "vllm:kv_cache_usage_perc",
            "vllm:cache_config_info",
        )
        assert reading.metrics == EndpointMetrics(
            waiting_queue_size=1, running_requests=8, kv_cache_usage=0.5, active_models=["x"], observed_at=2.0
        )

    def test_time_is_not_kept(self) -> None:
        """A page without a time is not as old as the one before."""
        previous = EndpointMetrics(observed_at=1.0)

        assert read_metrics("vllm:num_requests_waiting 1\n", previous=previous).observed_at is None

    def test_labels_that_are_missing_or_unknown(self) -> None:
        """A label that is absent, or that the engine does not know yet, is listed."""
        page = (
            'vllm:cache_config_info{block_size="16",num_gpu_blocks="None"} 1\n'
            f'{LORA}{{running_lora_adapters="a"}} 5\n'
        )
        reading = read_page(page)

        assert EndpointMetrics(cache_block_size=16, active_models=["a"]) == reading.metrics
        assert {
            "vllm:cache_config_info[num_gpu_blocks]",
            f"{LORA}[waiting_lora_adapters]",
            f"{LORA}[max_lora]",
        } < set(reading.missing)

    def test_labelled_metric_is_listed_with_its_labels(self) -> None:
        """Metrics of one family are told apart."""
        page = 'nv_trt_llm_request_metrics{request_type="waiting"} 2\n'

        assert 'nv_trt_llm_request_metrics{request_type="scheduled"}' in read_page(page).missing

    @pytest.mark.parametrize(("engine", "looked_for"), [(None, "sglang:token_usage"), ("sglang", "sglang:token_usage")])
    @pytest.mark.parametrize("page", ["", "# nothing\n", "other 1\n"])
    def test_nothing_known(self, page: str, engine: str | None, looked_for: str) -> None:
        """A page without any of the metrics is refused, and the error lists them."""
        with pytest.raises(InvalidMetricsError, match=f"holds no metrics of .*; looked for .*{looked_for}"):
            read_page(page, engine)

    def test_engine_without_metrics(self) -> None:
        """An engine whose metrics are all disabled reads nothing."""
        with pytest.raises(InvalidMetricsError, match="every metric is disabled"):
            read_page(PAGES["vllm"], Engine(name="mine"))

    def test_unknown_engine(self) -> None:
        """The name of an engine must exist."""
        with pytest.raises(ConfigurationError, match="unknown engine 'x'"):
            read_page(PAGES["vllm"], "x")


class TestSeries:
    def test_latest_timestamp_counts(self) -> None:
        """Of several series the one with the greatest timestamp is read where that is asked for."""
        values = ('{e="0"} 1 10', '{e="1"} 2 30', " 3 20")
        page = "".join(f"vllm:num_requests_waiting{value}\n" for value in values)
        latest = MetricSpec("vllm:num_requests_waiting", combine=Combine.LATEST)
        greatest = MetricSpec("vllm:num_requests_waiting", combine=Combine.GREATEST)

        assert 6 == read_metrics(page).waiting_queue_size
        assert 2 == read_metrics(page, Engine(name="mine", queued_requests=latest)).waiting_queue_size
        assert 3 == read_metrics(page, Engine(name="mine", queued_requests=greatest)).waiting_queue_size

    def test_series_that_is_there_twice(self) -> None:
        """Of two series with the same labels, which the format does not allow, the later one counts."""
        assert 5 == read_metrics("vllm:num_requests_waiting 3\nvllm:num_requests_waiting 5 10\n").waiting_queue_size

    def test_adapters(self) -> None:
        """Of LoRA series the greatest value counts; names are trimmed and blanks skipped."""
        page = (
            f'{LORA}{{running_lora_adapters="old",waiting_lora_adapters="",max_lora="1"}} 1e9\n'
            f'{LORA}{{running_lora_adapters=" a ,, b",waiting_lora_adapters=" ",max_lora=" 4 "}} 2e9\n'
            f'{LORA}{{running_lora_adapters="same time",waiting_lora_adapters="",max_lora="1"}} 2e9\n'
        )

        assert EndpointMetrics(active_models=["a", "b"], max_active_models=4) == read_metrics(page)

    def test_counter(self) -> None:
        """A counter is as good as a gauge."""
        page = "# TYPE vllm:num_requests_running counter\nvllm:num_requests_running 4\n"

        assert 4 == read_metrics(page).running_requests

    def test_negative_zero(self) -> None:
        """A share of -0 is 0."""
        assert "0.0" == str(read_metrics("vllm:kv_cache_usage_perc -0.0\n").kv_cache_usage)


class TestImpossibleValues:
    @pytest.mark.parametrize(
        ("line", "field", "value", "message"),
        [
            ("vllm:num_requests_waiting -1", "waiting_queue_size", 0, "vllm:num_requests_waiting: -1.0 is not"),
            ("vllm:num_requests_waiting 3e9", "waiting_queue_size", 2**31 - 1, "3000000000.0 is not a whole number"),
            ("vllm:num_requests_running +Inf", "running_requests", 2**31 - 1, "vllm:num_requests_running: inf is not"),
            ("vllm:num_requests_running 1.5", "running_requests", 2, "1.5 is not a whole number"),
            ("vllm:num_requests_running 1.4", "running_requests", 1, "1.4 is not a whole number"),
            ("vllm:kv_cache_usage_perc 1.0000001", "kv_cache_usage", 1.0, "1.0000001 is not a number from 0 to 1"),
            ("vllm:kv_cache_usage_perc -0.1", "kv_cache_usage", 0.0, "-0.1 is not a number from 0 to 1"),
            ("vllm:kv_cache_usage_perc -Inf", "kv_cache_usage", 0.0, "-inf is not a number from 0 to 1"),
            (f'{LORA}{{max_lora="-1"}} 1', "max_active_models", 0, f"label max_lora of {LORA}: '-1' is not"),
            ('vllm:cache_config_info{block_size="1e10"} 1', "cache_block_size", 2**31 - 1, "'1e10' is not"),
        ],
    )
    def test_out_of_range_is_the_nearest_that_can_be(self, line: str, field: str, value: float, message: str) -> None:
        """A number that cannot be counts as the nearest one, on a first page too, and is told of."""
        reading = read_page(f"vllm:other 1\n{line}\n")

        assert value == getattr(reading.metrics, field)
        assert field not in reading.metrics.unknown
        assert message in reading.wrong[field]

    def test_not_a_number_is_unknown(self) -> None:
        """NaN tells nothing, whatever was known before."""
        page = "vllm:num_requests_waiting 1\nvllm:kv_cache_usage_perc NaN\n"
        metrics = PageReader(ENGINES["vllm"], EndpointMetrics(kv_cache_usage=0.5)).read(page.encode())

        assert {"kv_cache_usage", "running_requests"} == metrics.unknown

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("vllm:num_requests_waiting NaN", "vllm:num_requests_waiting: nan is not"),
            ("vllm:kv_cache_usage_perc NaN", "vllm:kv_cache_usage_perc: nan is not"),
            ('vllm:cache_config_info{block_size="x"} 1', "label block_size of vllm:cache_config_info: 'x' is not"),
        ],
    )
    def test_refused(self, line: str, message: str) -> None:
        """A page that tells nothing is refused; the error names line, metric and value."""
        with pytest.raises(InvalidMetricsError) as caught:
            read_page(f"vllm:other 1\n{line}\n")

        assert f"metrics page, line 2: {message}" in str(caught.value)

    def test_wrong_type(self) -> None:
        """A summary is no gauge."""
        with pytest.raises(InvalidMetricsError, match="'summary' is not a gauge or a counter"):
            read_page("# TYPE vllm:num_requests_waiting summary\nvllm:num_requests_waiting 1\n")


@given(st.sampled_from(sorted(PAGES)), st.data())
def test_cut_page_never_gives_other_numbers(name: str, data: st.DataObject) -> None:
    """A page that is cut anywhere is refused, or each field is right or what it was before."""
    page = PAGES[name]
    whole = read_metrics(page, name)
    cut = page[: data.draw(st.integers(0, len(page)))]
    try:
        metrics = read_metrics(cut, name)
    except InvalidMetricsError:
        return
    assert metrics.waiting_queue_size in {0, whole.waiting_queue_size}
    assert metrics.running_requests in {0, whole.running_requests}
    assert metrics.kv_cache_usage in {0.0, whole.kv_cache_usage}
    assert metrics.cache_block_size in {None, whole.cache_block_size}
    assert metrics.cache_num_blocks in {None, whole.cache_num_blocks}
