"""Three ways to read a page, and one answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.exposition import (
    ENGINES,
    Engine,
    Engines,
    PageReader,
    Sample,
    _page_reader,
    _search,
    iterate_samples,
    read_page,
)
from inferencepool.adapters.exposition._candidates import MAX_LABELS, Candidates
from inferencepool.adapters.exposition._layout import Passage, RememberedSeries, latest_of
from inferencepool.adapters.exposition._plain import PlainLine, read_plain
from inferencepool.adapters.exposition._rules import apply_rules
from inferencepool.adapters.exposition._search import Search
from inferencepool.errors import ConfigurationError, InvalidMetricsError
from inferencepool.model import EndpointMetrics
from tests.strategies.exposition import render, samples, successive_pages

LORA = "vllm:lora_requests_info"
VLLM = ENGINES["vllm"]
BACKSLASHES, QUOTES = "\\\\" * 30_000, '""'


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
        findings = apply_rules(self.engine, Candidates(self.engine, samples))
        if findings.tell_nothing:
            return False
        self.metrics = attrs.evolve(self.metrics, **findings.values, observed_at=observed_at)  # type: ignore[arg-type]  # values by the names of fields
        self.missing, self.wrong = tuple(findings.missing), findings.wrong
        return True


@given(successive_pages())
def test_search_finds_what_the_parser_finds(drawn: tuple[Engine, list[str]]) -> None:
    """All samples of the engine's metrics are found, with their types, and no others."""
    engine, pages = drawn
    names = {spec.name for spec in engine.specs}
    for page in pages:
        expected = [attrs.evolve(sample, line=0) for sample in iterate_samples(page) if sample.name in names]
        search = Search(page.encode(), engine)
        deque(search.steps(), maxlen=0)

        found = [line.sample for line in search.lines or () if line.sample and line.sample.name in names]
        assert str(expected) == str(found)


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


@given(successive_pages(), st.integers(0, 3))
def test_pages_with_too_many_lines_to_remember_are_read_as_parsed_ones(
    drawn: tuple[Engine, list[str]], most: int
) -> None:
    """However few lines are kept, the series that count are those of the exact parser, and so are the metrics."""
    engine, pages = drawn
    reader, parsed = PageReader(engine), Parsed(engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_search, "MAX_LINES", most)
        # A step after each line.
        patch.setattr(_search, "_SLICE", 1)
        for number, page in enumerate(pages):
            if parsed.read(page, number):
                assert parsed.metrics == reader.read(page.encode(), float(number))
                assert (parsed.missing, parsed.wrong) == (reader.missing, reader.wrong)
            else:
                with pytest.raises(InvalidMetricsError):
                    reader.read(page.encode(), float(number))
            assert parsed.metrics == reader.metrics


@given(samples(), st.sampled_from(["gauge", "counter"]))
def test_plain_lines_are_read_as_exact_ones(sample: Sample, kind: str) -> None:
    """Whatever the regular expression takes for a plain line is what the exact parser reads."""
    text = render([sample])
    line = text.encode().removesuffix(b"\n")
    plain = read_plain(line, 0, len(line))
    expected = attrs.evolve(next(iterate_samples(text)), type=kind, line=0)

    assert plain is None or str(expected) == str(plain.sample({sample.name: kind}))
    # It takes what servers write.
    if text.isascii() and -inf < sample.value < inf and abs(sample.timestamp or 0) < 10**18:
        assert plain is not None


@pytest.mark.parametrize(
    "line",
    [
        b'a{b="1",b="2"} 1',
        b'a{__name__="b"} 1',
        b'a{b="\xff"} 1',
        b'a{b="\\x"} 1',
        b'a{b="1"c="2"} 1',
        b'a{,b="1"} 1',
        b'a{b="1",,} 1',
        b'a{"b"} 1',
        b"a 1e999",
        b"a 1 2 3",
        b"a 1 2.5",
        b"a 1 9223372036854775808",
        b'a{b ="1", b= "2"} 1',
        b'a{__name__ ="b"} 1',
        b"a NaN",
        b"a",
        b"a{%s} 1" % b",".join(b'l%d=""' % number for number in range(257)),
    ],
)
def test_what_is_not_plain(line: bytes) -> None:
    """All that could be wrong, or is written in a rare way, is left to the exact parser."""
    plain = read_plain(line, 0, len(line))

    assert plain is None or plain.sample({}) is None


class TestHostilePages:
    """What a page costs, counted in lines and slices."""

    COUNT = 8000

    @staticmethod
    def lines_of_steps(page: str, engine: Engine = VLLM) -> list[int]:
        """How many lines each step of a search looks at."""
        counts = [0]
        with pytest.MonkeyPatch.context() as patch:

            def counted(page: bytes, start: int, end: int) -> PlainLine | None:
                counts[-1] += 1
                return read_plain(page, start, end)

            patch.setattr(_search, "read_plain", counted)
            counts.extend(0 for _ in PageReader(engine).learn(page.encode(), 1.0))
        return counts

    @pytest.mark.parametrize(
        "make",
        [
            lambda number: (
                f'{LORA}{{max_lora="4",running_lora_adapters="a{number}",waiting_lora_adapters=""}} {number}\n'
            ),
            lambda number: f'{LORA}{{max_lora="4",running_lora_adapters="a{number}",waiting_lora_adapters=""}} 5\n',
            lambda number: f'vllm:num_requests_waiting{{e="{number}"}} 1 {number}\n',
            lambda number: f"vllm:num_requests_waiting {number}\n",
            lambda _: "# TYPE vllm:num_requests_waiting gauge\n",
            lambda _: "# HELP vllm:num_requests_waiting Help.\n",
            lambda number: f"# HELP other{number} See vllm:num_requests_waiting.\n",
        ],
    )
    def test_searching_is_linear_and_sliced(self, make: Callable[[int], str]) -> None:
        """Twice the lines are twice the slices, each line is looked at once, and no slice has many."""
        short, long = (
            self.lines_of_steps(gauges() + "".join(make(number) for number in range(count)))
            for count in (self.COUNT, 2 * self.COUNT)
        )

        for counts, size in ((short, self.COUNT), (long, 2 * self.COUNT)):
            assert size <= sum(counts) <= size + 9
            assert max(counts) <= 520
        assert len(long) <= 2 * len(short) + 2

    @pytest.mark.parametrize(
        "line",
        [
            f'{LORA}{{a="{BACKSLASHES}"}} 1\n',
            f"{LORA}{{{','.join(f'l{number}= {QUOTES}' for number in range(250))}}} 1\n",
        ],
    )
    def test_long_lines_are_few_in_a_slice(self, line: str) -> None:
        """What a line costs is counted by its length."""
        counts = self.lines_of_steps(gauges() + line * 20)

        assert max(count * len(line) for count in counts[1:]) <= 4 * len(line) + 64 * 1024

    def test_changed_adapters_are_compared_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where many LoRA series change at a time, the latest is looked for once, and not for each."""
        compared = []

        def counted(series: list[RememberedSeries]) -> RememberedSeries:
            compared.append(len(series))
            return latest_of(series)

        reader = PageReader(VLLM)
        names = [f"a{number}" for number in range(200)]
        reader.read((gauges() + lora(*((name, 5.0) for name in names))).encode(), 0.0)
        monkeypatch.setattr(_page_reader, "latest_of", counted)
        assert reader.follow((gauges() + lora(*((name, 6.0) for name in names))).encode(), 1.0)

        assert [200] == compared

    def test_little_is_remembered(self) -> None:
        """A page with more lines or longer ones than are kept is searched each time, and rightly so."""
        for page in (
            gauges() + lora(*((f"a{number}", float(number)) for number in range(300))),
            gauges() + lora(("x" * 60_000, 1.0), ("y" * 10_000, 2.0)),
            gauges() + f"# HELP other {'x' * 5000}\n",
        ):
            reader = PageReader(VLLM)
            reader.read(page.encode(), 1.0)
            assert not reader.follow(page.encode(), 2.0)
            assert 2 == reader.read(page.encode(), 2.0).waiting_queue_size

    def test_many_adapters(self) -> None:
        """The first 512 names count, and it is told that there are more."""
        names = [f"a{number}" for number in range(600)]
        reader = PageReader(VLLM)
        metrics = reader.read((gauges() + lora((",".join(names), 1.0))).encode(), 1.0)

        assert set(names[:512]) == metrics.active_models
        assert "vllm:lora_requests_info[running_lora_adapters] beyond 512 names" in reader.missing
        metrics = reader.read((gauges() + lora((",".join(names[:512]) + " ,", 1.0))).encode(), 1.0)
        assert set(names[:512]) == metrics.active_models
        assert "vllm:lora_requests_info[running_lora_adapters] beyond 512 names" not in reader.missing

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            (f'{LORA}{{a="{"x" * 65_536}"}} 1\n', "line 10: longer than 65536 characters"),
            (f'{LORA}{{a="{"x" * 300_000}"}} 1\n', "line 10: longer than 65536 characters"),
            (f"# TYPE {LORA} {'x' * 300_000}\n", "line 10: longer than 65536 characters"),
            (f'{LORA}{{{",".join(f"""l{number}="" """ for number in range(257))}}} 1\n', "more than 256 labels"),
            (f"{LORA} {'9' * 1000}\n", "too great for a number"),
            (f"{LORA} 1{'x' * 1000}\n", "line 10: value '1xxx"),
        ],
    )
    def test_lines_that_are_too_much(self, line: str, message: str) -> None:
        """What is beyond the limits is refused as the exact parser refuses it, with little of it in the error."""
        for read in (lambda text: PageReader(VLLM).read(text.encode()), lambda text: list(iterate_samples(text))):
            with pytest.raises(InvalidMetricsError, match=message) as error:
                read(gauges() + line)
            assert len(str(error.value)) < 300

    def test_impossible_label_is_shortened(self) -> None:
        """A label as long as a line is not shown as a whole."""
        reader = PageReader(VLLM)
        reader.read((gauges() + f'{LORA}{{max_lora="{"x" * 60_000}"}} 1\n').encode())

        assert len(reader.wrong["max_active_models"]) < 300

    def test_long_line_of_another_metric(self) -> None:
        """A line that is not of interest may be as long as it likes."""
        reader = PageReader(VLLM)
        long = f'other{{a="{"x" * 500_000}"}} 1\n'
        pages = [long + gauges(number) + long for number in range(3)]

        assert [0, 1, 2] == [reader.read(page.encode()).waiting_queue_size for page in pages]

    def test_number_with_a_thousand_digits(self) -> None:
        """It is a number like others."""
        found = read_all(gauges(usage=0.5), gauges(usage=f"0.{'25' * 500}"), gauges(usage=f"0.{'25' * 400}"))

        assert [0.5, 0.25, 0.25] == [round(metrics.kv_cache_usage, 2) for metrics in found]


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

        assert [5, 5, 12, 5, 13, 5, 14] == [metrics.waiting_queue_size for metrics in found]

    def test_metric_at_the_end_of_a_page(self) -> None:
        """A page may go on behind its last lines, or end with them again; what came there is seen."""
        line = lora(("c", 9.0)).split("\n", 1)[1]
        series = [("a", 5.0), ("b", 4.0)]
        found = read_all(
            gauges(1) + lora(*series),
            gauges(20_000) + lora(*series),
            gauges(20_000) + lora(*series) + line,
            gauges(3) + lora(*series),
            gauges(3) + lora(*series) + "other 1\n",
            gauges(4) + lora(*series),
            gauges(4) + lora(("a", 5.0), ("b", 6.0)),
            gauges(50) + lora(("a", 5.0), ("b", 6.0)),
            lora(("a", 5.0), ("b", 6.0)) + gauges(50),
            gauges(6) + line,
            gauges(7) + "other 1\n" + line,
        )

        assert ["a", "a", "c", "a", "a", "a", "b", "b", "b", "c", "c"] == [
            next(iter(metrics.active_models)) for metrics in found
        ]
        assert [1, 20_000, 20_000, 3, 3, 4, 4, 50, 50, 6, 7] == [metrics.waiting_queue_size for metrics in found]

    def test_lines_that_stay_are_compared_as_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where values stand still, nothing is done for each of them, also when they move, or end the page."""
        followed: list[frozenset[str]] = []
        follow = Passage.follow

        def counted(self: Passage, *given: Any) -> bool:
            followed.append(self.names)
            return follow(self, *given)

        reader = PageReader(VLLM)
        for waiting in (1, 20_000, 3):
            reader.read((gauges(waiting) + "other 1\n" + lora(("a", 5.0), ("b", 4.0))).encode(), 1.0)
            monkeypatch.setattr(Passage, "follow", counted)

        assert [frozenset({"vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc"})] == [
            *{*followed}
        ]
        assert 2 == len(followed)

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
        """A value that cannot be is the nearest one that can, for as long as it stands."""
        reader = PageReader(VLLM)
        reader.read(gauges(2, 3).encode(), 0.0)
        nearest = {"NaN": 0, "-1": 0, "1.5": 2, "3e9": 2**31 - 1, "+Inf": 2**31 - 1}
        for impossible in (*nearest, "4e0.5", "1e400"):
            if impossible in {"4e0.5", "1e400"}:
                # No number at all: the line is wrong, not its value.
                with pytest.raises(InvalidMetricsError, match="line 3: value"):
                    reader.read(gauges(impossible, 5).encode(), 1.0)
                continue
            metrics = reader.read(gauges(impossible, 5).encode(), 1.0)

            assert (nearest[impossible], 5) == (metrics.waiting_queue_size, metrics.running_requests)
            assert ("waiting_queue_size" in metrics.unknown) is (impossible == "NaN")
            assert ["waiting_queue_size"] == list(reader.wrong)
            assert "vllm:num_requests_waiting" in reader.wrong["waiting_queue_size"]
        assert 4 == reader.read(gauges(4, 5).encode(), 2.0).waiting_queue_size
        assert {} == reader.wrong

    def test_timestamps_and_line_ends_change(self) -> None:
        """The form of a page may change from one to the next."""
        plain = gauges(1)
        stamped = 'vllm:num_requests_waiting{e="0"} 5 30\nvllm:num_requests_waiting{e="1"} 6 40\n'
        found = read_all(plain, stamped, plain.replace("\n", "\r\n"), plain, f"{plain}# EOF\n", f"{plain}# EOF")

        assert [1, 11, 1, 1, 1, 1] == [metrics.waiting_queue_size for metrics in found]


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

        assert (2, 11) == (found[0], found[-1])


@pytest.mark.parametrize("count", [200, 300])
def test_labels_are_looked_at_once(count: int) -> None:
    """Of series without number, while the page is searched; a series of too many labels does not count."""
    engine = ENGINES["vllm"]
    labels = ",".join(f'l{number}=""' for number in range(MAX_LABELS - 1))
    lines = [f'vllm:num_requests_waiting{{{labels},e="{number}"}} 1\n' for number in range(count)]
    page = "".join([f'vllm:num_requests_waiting{{{labels},e="",more=""}} 7\n', *lines])
    reader = PageReader(engine)
    seen: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        offer = Candidates.offer

        def counted(self: Candidates[Any], series: Any) -> None:
            seen.append(1)
            offer(self, series)

        patch.setattr(Candidates, "offer", counted)
        reader.read(page.encode())

    assert min(count, 256) == reader.metrics.waiting_queue_size
    assert reader.metrics == read_page(page, engine).metrics
    assert len(seen) <= count + 2


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
