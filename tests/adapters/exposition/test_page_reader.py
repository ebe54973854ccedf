"""Three ways to read a page, and one answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from hypothesis import given

from inferencepool.adapters.exposition import ENGINES, Engine, Engines, PageReader, iterate_samples
from inferencepool.adapters.exposition._rules import apply_rules
from inferencepool.adapters.exposition._search import search
from inferencepool.errors import ConfigurationError, InvalidMetricsError
from inferencepool.model import EndpointMetrics
from tests.strategies.exposition import successive_pages

LORA = "vllm:lora_requests_info"
VLLM = ENGINES["vllm"]


@attrs.define
class Parsed:
    """What the exact parser and the rules make of one page after the other."""

    engine: Engine
    metrics: EndpointMetrics = attrs.field(factory=EndpointMetrics)
    missing: tuple[str, ...] = ()
    wrong: dict[str, str] = attrs.field(factory=dict)

    def read(self, page: str, observed_at: float) -> bool:
        """Read every line; False where the page tells nothing."""
        names = {spec.name for spec in self.engine.specs}
        samples = [attrs.evolve(sample, line=0) for sample in iterate_samples(page.encode()) if sample.name in names]
        findings = apply_rules(self.engine, samples)
        if not findings.values:
            return False
        self.metrics = attrs.evolve(self.metrics, **findings.values, observed_at=observed_at)  # type: ignore[arg-type]
        self.missing, self.wrong = tuple(findings.missing), findings.wrong
        return True


@given(successive_pages())
def test_search_finds_what_the_parser_finds(drawn: tuple[Engine, list[str]]) -> None:
    """All samples of the engine's metrics are found, with their types, and no others."""
    engine, pages = drawn
    names = {spec.name for spec in engine.specs}
    for page in pages:
        expected = [sample for sample in iterate_samples(page) if sample.name in names]
        lines = search(page.encode(), [each.encode() for each in names])

        assert str(expected) == str(
            [
                attrs.evolve(line.sample, line=sample.line)
                for line, sample in zip(
                    [line for line in lines if line.sample and line.sample.name in names], expected, strict=True
                )
                if line.sample
            ]
        )


@given(successive_pages())
def test_remembered_pages_are_read_as_parsed_ones(drawn: tuple[Engine, list[str]]) -> None:
    """Whatever moves between two pages, the reader knows what the exact parser finds in the second."""
    engine, pages = drawn
    reader, parsed = PageReader(engine), Parsed(engine)
    for number, page in enumerate(pages):
        if parsed.read(page, number):
            assert parsed.metrics == reader.read(page.encode(), float(number))
            assert (parsed.missing, parsed.wrong) == (reader.missing, reader.wrong)
        else:
            with pytest.raises(InvalidMetricsError):
                reader.read(page.encode(), float(number))
        assert parsed.metrics == reader.metrics


def gauges(waiting: object = 2, running: object = 3, usage: object = 0.25) -> str:
    """The three gauges of vLLM, as it writes them."""
    values = {"num_requests_waiting": waiting, "num_requests_running": running, "kv_cache_usage_perc": usage}
    return "".join(
        f'# HELP vllm:{name} Help.\n# TYPE vllm:{name} gauge\nvllm:{name}{{engine="0"}} {value}\n'
        for name, value in values.items()
    )


def lora(*series: tuple[str, float]) -> str:
    """LoRA series: the running adapter, and the time."""
    return "# TYPE vllm:lora_requests_info gauge\n" + "".join(
        f'{LORA}{{max_lora="4",running_lora_adapters="{name}",waiting_lora_adapters=""}} {time}\n'
        for name, time in series
    )


def read_all(*pages: str, engine: Engine = VLLM) -> list[EndpointMetrics]:
    """What one reader finds in *pages*, checked against the exact parser."""
    reader, parsed = PageReader(engine), Parsed(engine)
    found = []
    for number, page in enumerate(pages):
        assert parsed.read(page, number)
        found.append(reader.read(page.encode(), float(number)))
        assert parsed.metrics == found[-1]
        assert (parsed.missing, parsed.wrong) == (reader.missing, reader.wrong)
    return found


class TestSuccessivePages:
    def test_load_moves(self) -> None:
        """Values of another length, earlier ones too, move what stands behind them."""
        found = read_all(gauges(2, 3), gauges(20_000, 3000), gauges(7, 1, 0.5), "other 1\n" * 1000 + gauges(7, 2, 0.5))

        assert [2, 20_000, 7, 7] == [metrics.waiting_queue_size for metrics in found]
        assert [3, 3000, 1, 2] == [metrics.running_requests for metrics in found]
        assert [0.25, 0.25, 0.5, 0.5] == [metrics.kv_cache_usage for metrics in found]
        assert [0, 1, 2, 3] == [metrics.observed_at for metrics in found]

    def test_series_come_in_every_place(self) -> None:
        """Another series before, between and behind those that are known is seen."""
        first, second, third = ("a", 5.0), ("b", 4.0), ("c", 9.0)
        found = read_all(
            gauges() + lora(first, second),
            gauges() + lora(first, third, second),
            gauges() + lora(first, second),
            gauges() + lora(third, first, second),
            gauges() + lora(first, second),
            gauges() + lora(first, second, third),
        )

        assert [{"a"}, {"c"}] * 3 == [metrics.active_models for metrics in found]

    def test_series_of_pages_without_comments(self) -> None:
        """Where no comment stands around a metric, another series of it is seen as well."""
        lone = "other 1\nvllm:num_requests_waiting 5\nother 2\n"
        earlier = 'other 1\nvllm:num_requests_waiting{e="0"} 7\nvllm:num_requests_waiting 5\nother 2\n'
        odd = 'other 1\n\tvllm:num_requests_waiting{e="0"} 8\nvllm:num_requests_waiting 5\nother 2\n'
        quoted = 'other 1\n{"vllm:num_requests_waiting",e="0"} 9\nvllm:num_requests_waiting 5\nother 2\n'
        found = read_all(lone, lone, earlier, lone, odd, lone, quoted)

        assert [5, 5, 7, 5, 8, 5, 9] == [metrics.waiting_queue_size for metrics in found]

    def test_latest_adapters_change(self) -> None:
        """The LoRA series whose value overtakes the others counts; of equals the first in the page."""
        found = read_all(
            *(
                gauges() + lora(("a", first), ("b", second))
                for first, second in [(5, 4), (5, 6), (6, 6), (7, 6), (7, 8)]
            )
        )

        assert ["a", "b", "a", "a", "b"] == [next(iter(metrics.active_models)) for metrics in found]

    def test_metric_comes_and_goes(self) -> None:
        """A metric that is absent is looked for each time, and one that is gone keeps its value."""
        found = read_all(gauges(), gauges() + lora(("a", 1)), gauges(3))

        assert [set(), {"a"}, {"a"}] == [set(metrics.active_models) for metrics in found]

    def test_labels_change(self) -> None:
        """A change of a label is seen, with the values as they were."""
        pages = [
            gauges() + f'vllm:cache_config_info{{block_size="16",num_gpu_blocks="{blocks}"}} 1.0\n'
            for blocks in ("None", 100, 200)
        ]

        assert [None, 100, 200] == [metrics.cache_num_blocks for metrics in read_all(*pages)]

    def test_value_becomes_impossible_and_possible_again(self) -> None:
        """An impossible value spoils its field alone, for as long as it stands."""
        reader = PageReader(VLLM)
        reader.read(gauges(2, 3).encode(), 0.0)
        for impossible in ("NaN", "-1", "1.5", "3e9", "+Inf", "4e0.5", "1e400"):
            if impossible in {"4e0.5", "1e400"}:
                # No number at all: the line is wrong, not its value.
                with pytest.raises(InvalidMetricsError, match="line 3: value"):
                    reader.read(gauges(impossible, 5).encode(), 1.0)
                continue
            metrics = reader.read(gauges(impossible, 5).encode(), 1.0)

            assert (2, 5) == (metrics.waiting_queue_size, metrics.running_requests)
            assert ["waiting_queue_size"] == list(reader.wrong)
            assert "vllm:num_requests_waiting" in reader.wrong["waiting_queue_size"]
        assert 4 == reader.read(gauges(4, 5).encode(), 2.0).waiting_queue_size
        assert {} == reader.wrong

    def test_timestamps_and_line_ends_change(self) -> None:
        """The form of a page may change from one to the next."""
        plain = gauges(1)
        stamped = 'vllm:num_requests_waiting{e="0"} 5 30\nvllm:num_requests_waiting{e="1"} 6 40\n'
        found = read_all(plain, stamped, plain.replace("\n", "\r\n"), plain, f"{plain}# EOF\n", f"{plain}# EOF")

        assert [1, 6, 1, 1, 1, 1] == [metrics.waiting_queue_size for metrics in found]


class TestRefusedPages:
    @pytest.mark.parametrize(
        ("page", "message"),
        [
            ("", "holds no metrics of engine 'vllm'; looked for vllm:num_requests_waiting"),
            ("other 1\n", "holds no metrics of engine 'vllm'"),
            ("<!DOCTYPE html>\n<html>\n", "line 1: "),
            ("vllm:num_requests_waiting 1", "the page is cut"),
            ("other 1\nvllm:num_requests_waiting one\n", "line 2: value 'one' is not a number"),
            ("vllm:num_requests_waiting NaN\n", "vllm:num_requests_waiting: nan is not"),
            ("\xff", "the page is cut"),
            ('vllm:num_requests_waiting{a="\udcff"} 1\n', "not UTF-8|utf-8"),
        ],
    )
    def test_refused(self, page: str, message: str) -> None:
        """The error says what is wrong, every time, and what is known stays."""
        reader = PageReader(VLLM)
        known = reader.read(gauges().encode(), 0.0)
        for _ in range(2):
            with pytest.raises(InvalidMetricsError, match=message):
                reader.read(page.encode(errors="surrogateescape"), 1.0)
        assert known == reader.metrics
        assert 4 == reader.read(gauges(4).encode(), 2.0).waiting_queue_size

    def test_page_that_was_whole_is_cut(self) -> None:
        """A page that is cut anywhere never gives other numbers than the whole one."""
        page = gauges(12, 34, 0.75)
        reader = PageReader(VLLM)
        reader.read(gauges(12, 34, 0.5).encode(), 0.0)
        for end in range(len(page)):
            try:
                metrics = reader.read(page[:end].encode(), 1.0)
            except InvalidMetricsError:
                continue
            assert (12, 34) == (metrics.waiting_queue_size, metrics.running_requests)
            assert metrics.kv_cache_usage in {0.5, 0.75}


class TestWhatIsNotLookedAt:
    def test_lines_of_other_metrics(self) -> None:
        """A line that makes no sense is no reason to refuse the metrics beside it."""
        reader = PageReader(VLLM)
        for _ in range(2):
            assert 2 == reader.read(f"no sense at all\n{gauges()}".encode()).waiting_queue_size

    def test_scattered_series_are_found_in_time(self) -> None:
        """A server that scatters the series of a metric over its page breaks the format; a later search finds them."""
        reader = PageReader(VLLM)
        reader.read(gauges().encode(), 0.0)
        scattered = gauges() + "# TYPE other gauge\nother 1\n" + f"vllm:num_requests_waiting 9 {10**12}\n"
        found = [reader.read(scattered.encode(), 1.0).waiting_queue_size for _ in range(257)]

        assert (2, 9) == (found[0], found[-1])


def test_names_with_escapes() -> None:
    """A metric whose name has to be escaped in the page is found by the exact parser."""
    engine = Engine(name="mine", queued_requests=r'"a\"b"{e="0"}')

    assert [5, 6] == [
        metrics.waiting_queue_size for metrics in read_all('{"a\\"b",e="0"} 5\n', '{"a\\"b",e="0"} 6\n', engine=engine)
    ]


def test_example_page(root: Path) -> None:
    """The page among the examples is read from its bytes, with a byte order mark as well."""
    page = (root / "docs/examples/vllm-metrics.txt").read_bytes()
    reader = PageReader(VLLM)
    metrics = reader.read(page, 1.0)

    assert (2, 6, 0.3125) == (metrics.waiting_queue_size, metrics.running_requests, metrics.kv_cache_usage)
    assert metrics == reader.read(b"\xef\xbb\xbf" + page, 1.0)


class TestEngines:
    @pytest.mark.parametrize(
        ("labels", "name"),
        [
            ({}, "vllm"),
            ({"llm-d.ai/engine-type": "sglang"}, "sglang"),
            ({"inference.networking.k8s.io/engine-type": "triton"}, "triton"),
            ({"llm-d.ai/engine-type": "sglang", "inference.networking.k8s.io/engine-type": "triton"}, "sglang"),
            ({"llm-d.ai/engine-type": "no-such"}, "vllm"),
        ],
    )
    def test_label_names_the_engine(self, labels: dict[str, str], name: str) -> None:
        """The label decides, then its former name, then the default."""
        assert ENGINES[name] is Engines().engine_of(labels)

    def test_own_engines(self) -> None:
        """An engine of the user's replaces a built-in one of the same name, and others stay."""
        mine, other = Engine(name="vllm", queued_requests="q"), Engine(name="other", queued_requests="o")
        engines = Engines(own=[mine, other], default="other", label="engine")

        assert mine is engines.engine_of({"engine": "vllm"})
        assert other is engines.engine_of({"llm-d.ai/engine-type": "vllm"})
        assert ENGINES["sglang"] is engines.engine_of({"engine": "sglang"})

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Engines(default="x"), "engines: default: unknown engine 'x'; allowed: vllm, "),
            (lambda: Engines(own=[Engine(name="default")]), "engines: own: 'default' is reserved"),
        ],
    )
    def test_refused(self, make: Callable[[], Engines], message: str) -> None:
        """The default must exist, and its word is no name."""
        with pytest.raises(ConfigurationError, match=message):
            make()
