"""Pages that hold the metrics of several engines."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from inferencepool.adapters.exposition import ENGINES, Combine, Engine, MetricSpec, PageReader, read_page
from inferencepool.adapters.exposition import _page_reader as reading
from inferencepool.model import EndpointMetrics

VLLM = ENGINES["vllm"]


def data_parallel_page(
    waiting: Sequence[int], running: Sequence[int], usage: Sequence[float], blocks: Sequence[object] = ()
) -> bytes:
    """What vLLM writes with one engine for each of the values, by the client library that it uses."""
    registry = CollectorRegistry()
    labels = ["model_name", "engine"]
    for name, values in (
        ("num_requests_running", running),
        ("num_requests_waiting", waiting),
        ("kv_cache_usage_perc", usage),
    ):
        gauge = Gauge(f"vllm:{name}", "Help.", labels, registry=registry)
        for engine, value in enumerate(values):
            gauge.labels("llama", str(engine)).set(value)
    if blocks:
        info = Gauge("vllm:cache_config_info", "Help.", ["block_size", "num_gpu_blocks", "engine"], registry=registry)
        for engine, number in enumerate(blocks):
            info.labels("16", str(number), str(engine)).set(1)
    return generate_latest(registry)


class TestDataParallel:
    def test_all_engines_count(self) -> None:
        """Counts and blocks are added up, and of cache use the mean counts, weighted by blocks."""
        page = data_parallel_page([0, 37, 1], [4, 5, 6], [0.25, 0.5, 1.0], [100, 100, 200])

        assert read_page(page).metrics == EndpointMetrics(
            waiting_queue_size=38,
            running_requests=15,
            kv_cache_usage=0.6875,
            cache_block_size=16,
            cache_num_blocks=400,
        )

    @pytest.mark.parametrize("blocks", [(), (100, "None", 200), (0, 0, 0)])
    def test_blocks_are_not_known(self, blocks: Sequence[object]) -> None:
        """Where the blocks of one engine are not known all of them weigh the same."""
        page = data_parallel_page([1, 2, 3], [0, 0, 0], [0.25, 0.5, 1.0], blocks)

        assert pytest.approx(1.75 / 3) == read_page(page).metrics.kv_cache_usage

    def test_remembered_pages_are_followed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While only numbers move, the rules are not applied again, and the numbers are those that they give."""
        pages = [
            data_parallel_page([number, 37, 1], [4, 5, number], [0.25, number / 100, 1.0], [100, 100, 200])
            for number in range(20)
        ]
        reader = PageReader(VLLM)
        reader.read(pages[0], 0.0)
        expected = [read_page(page, VLLM, observed_at=1.0).metrics for page in pages]

        monkeypatch.delattr(reading, "apply_rules")
        for page, metrics in zip(pages, expected, strict=True):
            assert reader.follow(page, 1.0)
            assert metrics == reader.metrics

    def test_value_out_of_range_beside_others(self) -> None:
        """An engine's impossible number counts as the nearest, and the others as they are."""
        reader = PageReader(VLLM)
        reader.read(data_parallel_page([1, 2], [0, 0], [0.5, 0.5], [100, 100]), 0.0)
        reader.read(data_parallel_page([1, -2], [0, 0], [0.5, 1.5], [100, 100]), 1.0)

        assert (1, 0.75) == (reader.metrics.waiting_queue_size, reader.metrics.kv_cache_usage)
        assert {"waiting_queue_size", "kv_cache_usage"} == set(reader.wrong)

    def test_sum_is_bounded(self) -> None:
        """No sum is greater than a count may be."""
        page = data_parallel_page([2**31 - 1, 2**31 - 1], [0, 0], [0.5, 0.5])

        assert 2**31 - 1 == read_page(page).metrics.waiting_queue_size

    def test_one_engine_can_be_named(self) -> None:
        """With labels of one engine the others do not count, and what has no such label does."""
        page = data_parallel_page([0, 37], [4, 5], [0.25, 0.5], [100, 200])
        page += b'vllm:lora_requests_info{max_lora="4",running_lora_adapters="a",waiting_lora_adapters=""} 1\n'
        engine = Engine(
            name="vllm",
            queued_requests=VLLM.queued_requests,
            kv_usage=VLLM.kv_usage,
            cache_info=VLLM.cache_info,
            lora=VLLM.lora,
            only={"engine": "1"},
        )
        metrics = PageReader(engine).read(page)

        assert (37, 0.5, 200) == (metrics.waiting_queue_size, metrics.kv_cache_usage, metrics.cache_num_blocks)
        assert {"a"} == metrics.active_models

    def test_how_engines_are_combined_is_part_of_the_definition(self) -> None:
        """Each metric of an engine can say it."""
        page = data_parallel_page([3, 4], [4, 5], [0.25, 0.75])
        engine = Engine(
            name="mine",
            queued_requests=MetricSpec("vllm:num_requests_waiting", combine=Combine.GREATEST),
            running_requests=MetricSpec("vllm:num_requests_running", combine=Combine.LATEST),
            kv_usage=MetricSpec("vllm:kv_cache_usage_perc", combine=Combine.GREATEST),
        )
        reader = PageReader(engine)
        for _ in range(2):
            metrics = reader.read(page)
            assert (4, 4, 0.75) == (metrics.waiting_queue_size, metrics.running_requests, metrics.kv_cache_usage)

    def test_most_series(self) -> None:
        """The first 256 series of a metric count, however many a page has."""
        page = "".join(f'vllm:num_requests_waiting{{engine="{number}"}} 1\n' for number in range(1000))

        assert 256 == PageReader(VLLM).read(page.encode()).waiting_queue_size
        assert 256 == read_page(page).metrics.waiting_queue_size


def test_adapters_of_several_engines_are_united() -> None:
    """Of each engine the latest list counts; the lists are united, and the maxima added up."""
    lists = [("0", "a", "", 5), ("0", "b", "c", 9), ("1", "d", "", 2), ("1", "e", "", 1)]
    page = "".join(
        f'vllm:lora_requests_info{{engine="{engine}",max_lora="4",running_lora_adapters="{running}",'
        f'waiting_lora_adapters="{waiting}"}} {time}\n'
        for engine, running, waiting, time in lists
    )
    metrics = read_page(page).metrics

    assert {"b", "d"} == metrics.active_models
    assert {"c"} == metrics.waiting_models
    assert 8 == metrics.max_active_models


def test_several_models_of_triton() -> None:
    """The models of a Triton server with TensorRT-LLM are several engines; their blocks weigh their use."""
    lines = []
    for model, (waiting, used, most) in {"a": (2, 0.5, 100), "b": (3, 1.0, 300)}.items():
        labels = f'model="{model}",version="1"'
        lines += [
            f'nv_trt_llm_request_metrics{{{labels},request_type="waiting"}} {waiting}',
            f'nv_trt_llm_request_metrics{{{labels},request_type="scheduled"}} 1',
            f'nv_trt_llm_kv_cache_block_metrics{{{labels},kv_cache_block_type="fraction"}} {used}',
            f'nv_trt_llm_kv_cache_block_metrics{{{labels},kv_cache_block_type="max"}} {most}',
            f'nv_trt_llm_kv_cache_block_metrics{{{labels},kv_cache_block_type="tokens_per"}} 64',
        ]
    metrics = read_page("\n".join([*lines, ""])).metrics

    assert (5, 2, 0.875) == (metrics.waiting_queue_size, metrics.running_requests, metrics.kv_cache_usage)
    assert (64, 400) == (metrics.cache_block_size, metrics.cache_num_blocks)


def test_shards_of_one_engine_count_once() -> None:
    """The tensor-parallel ranks of SGLang tell the same load; its data-parallel ranks do not."""
    page = "".join(
        f'sglang:num_queue_reqs{{dp_rank="{data}",model_name="m",tp_rank="{tensor}"}} {3 + data}\n'
        for data in range(2)
        for tensor in range(4)
    )

    assert 7 == read_page(page).metrics.waiting_queue_size


class TestAliases:
    @pytest.mark.parametrize(
        ("page", "engine", "expected"),
        [
            ("vllm:gpu_cache_usage_perc 0.5\n", "vllm", (0, 0, 0.5)),
            (
                "sglang_num_queue_reqs 2\nsglang_num_running_reqs 3\nsglang_token_usage 0.25\n",
                "sglang",
                (2, 3, 0.25),
            ),
        ],
    )
    def test_other_names_are_read(self, page: str, engine: str, expected: tuple[float, ...]) -> None:
        """What an engine calls otherwise in another release is read all the same."""
        reading = read_page(page)
        metrics = reading.metrics

        assert reading.engine is ENGINES[engine]
        assert list(expected) == [metrics.waiting_queue_size, metrics.running_requests, metrics.kv_cache_usage]
        assert metrics == PageReader(ENGINES[engine]).read(page.encode())

    def test_both_names_on_a_page(self) -> None:
        """A release that has both tells the same twice: the first name counts, and none is added to the other."""
        old, new = "vllm:gpu_cache_usage_perc 0.25\n", "vllm:kv_cache_usage_perc 0.5\n"
        reader = PageReader(VLLM)
        found = [reader.read(page.encode()).kv_cache_usage for page in (old, old + new, new + old, old, new)]

        assert [0.25, 0.5, 0.5, 0.25, 0.5] == found
