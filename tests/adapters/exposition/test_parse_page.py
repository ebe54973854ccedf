from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inferencepool.adapters.exposition import MAX_PAGE_SIZE, Sample, iterate_samples, parse_page
from inferencepool.errors import InvalidMetricsError
from tests.strategies.exposition import pages


def _try_parse(page: str | bytes) -> tuple[list[Sample], str]:
    try:
        return list(parse_page(page)), ""
    except InvalidMetricsError as error:
        return [], str(error)


class TestProperties:
    @given(pages())
    def test_rendered_samples_come_back(self, drawn: tuple[list[Sample], str]) -> None:
        """What is written as a page is read again, as text and as bytes."""
        written, page = drawn

        assert written == list(parse_page(page))
        assert written == list(parse_page(page.encode()))

    @given(pages(), st.data())
    def test_cut_page_is_refused_or_shorter(self, drawn: tuple[list[Sample], str], data: st.DataObject) -> None:
        """A page that is cut anywhere gives its first samples unchanged, or an error; never other numbers."""
        written, page = drawn
        cut = page[: data.draw(st.integers(0, len(page)))]
        read, error = _try_parse(cut)

        assert written[: len(read)] == read
        assert not error or f"line {cut.count(chr(10)) + 1}:" in error

    @given(st.binary(max_size=200) | st.text(max_size=200))
    @example("a{")
    @example('a{b="\\')
    @example(b"\xff\xfe")
    def test_garbage_raises_only_our_error(self, page: str | bytes) -> None:
        """Whatever the page holds, it is read or refused with our error."""
        _, error = _try_parse(page)

        assert not error or error.startswith("metrics page, line ")


class TestForms:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("a 1", Sample("a", {}, 1.0)),
            ("a{} 1", Sample("a", {}, 1.0)),
            ("a{}1", Sample("a", {}, 1.0)),
            (" \ta \t1\t5 ", Sample("a", {}, 1.0, 5)),
            ('a { b = "c" , } 1 -5', Sample("a", {"b": "c"}, 1.0, -5)),
            ('a{b="x} 9",c="\\"\\\\\\n"} .5', Sample("a", {"b": "x} 9", "c": '"\\\n'}, 0.5)),
            ('{"a.b",c="d"} 1', Sample("a.b", {"c": "d"}, 1.0)),
            ('a{"b.c"="d"} 1', Sample("a", {"b.c": "d"}, 1.0)),
            ("a +Inf", Sample("a", {}, math.inf)),
            ("a -inf", Sample("a", {}, -math.inf)),
            ("a 1.5E+3", Sample("a", {}, 1500.0)),
        ],
    )
    def test_line(self, line: str, expected: Sample) -> None:
        """A line that the text format allows gives its sample."""
        assert (expected,) == parse_page(line + "\n")

    def test_nan(self) -> None:
        """NaN is a value of the format."""
        assert math.isnan(parse_page("a NaN\n")[0].value)

    def test_empty_page_has_no_samples(self) -> None:
        """A page may hold nothing, or comments only."""
        assert () == parse_page("")
        assert () == parse_page("\n  \n# free text { \n#TYPE\n#\n# EOF")

    def test_byte_order_mark(self) -> None:
        """A byte order mark is left out."""
        assert (Sample("a", {}, 1.0),) == parse_page("\ufeffa 1\n") == parse_page(b"\xef\xbb\xbfa 1\n")

    def test_type_belongs_to_exactly_its_name(self) -> None:
        """A TYPE line gives the samples below it their type, by the whole name."""
        page = "a 1\n# TYPE a gauge\n  #  TYPE  a  gauge\na 2\na_total 3\n"

        assert ["untyped", "gauge", "untyped"] == [sample.type for sample in parse_page(page)]
        assert [1, 4, 5] == [sample.line for sample in parse_page(page)]


class TestRefusals:
    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("a", "no value"),
            ("a ", "no value"),
            ("a{} ", "no value"),
            ("9a 1", "no metric name"),
            ("{} 1", "no metric name"),
            ('{b="c"} 1', "no metric name"),
            ("a-b 1", "unexpected '-' in the metric name"),
            ("a 1x", "'1x' is not a number"),
            ("a 1_0", "is not a number"),
            ("a 0x1", "is not a number"),
            ("a \u0661", "is not a number"),
            ("a 1e999", "too great"),
            ("a 1 2.5", "timestamp '2.5'"),
            ("a 1 9223372036854775808", "timestamp"),
            ("a 1 2 3", "text after the timestamp"),
            ('a{b="c" 1', "no comma or closing brace"),
            ('a{b="c"', "no closing brace"),
            ('a{b="c",', "no closing brace"),
            ('a{b="c', "no closing quote"),
            ('a{b="c\\', "no closing quote"),
            ('a{b="c\\t"} 1', "unknown escape"),
            ("a{b=c} 1", "label b is not quoted"),
            ("a{b} 1", "no = after label b"),
            ('a{"b"} 1', "no = after label b"),
            ("a{=} 1", "no name"),
            ('a{b="1",b="2"} 1', "label b is given twice"),
            ('a{__name__="b"} 1', "label __name__ is reserved"),
            ("# TYPE a", "type not one of"),
            ("# TYPE a gauge x", "type not one of"),
            ("# TYPE ", "no name"),
        ],
    )
    def test_line(self, line: str, reason: str) -> None:
        """A line that the text format does not allow is refused with its number and the reason."""
        with pytest.raises(InvalidMetricsError) as caught:
            parse_page(f"ok 1\n{line}\n")

        assert "metrics page, line 2: " in str(caught.value)
        assert reason in str(caught.value)

    def test_two_types(self) -> None:
        """A name cannot have two types."""
        with pytest.raises(InvalidMetricsError, match=r"line 2: second type for a, which is a gauge"):
            parse_page("# TYPE a gauge\n# TYPE a counter\n")

    def test_number_cut_at_the_end(self) -> None:
        """A number without a line end behind it may lack digits."""
        with pytest.raises(InvalidMetricsError, match=r"line 2: the page is cut: no line end after 'a 12'"):
            parse_page("a 5\na 12")

    def test_page_that_is_too_long(self) -> None:
        """A page has a greatest size."""
        with pytest.raises(InvalidMetricsError, match="longer than"):
            parse_page("\n" * (MAX_PAGE_SIZE + 1))

    def test_long_line_is_shortened(self) -> None:
        """An error shows no more of a line than fits a screen."""
        with pytest.raises(InvalidMetricsError) as caught:
            parse_page("a" * 100_000 + "\n")

        assert len(str(caught.value)) < 200

    def test_bytes_that_are_no_text(self) -> None:
        """The error for binary data names the line."""
        with pytest.raises(InvalidMetricsError, match=r"line 2: not UTF-8 text: byte 0xff"):
            parse_page(b"a 1\n\xff\n")

    def test_samples_come_before_the_error(self) -> None:
        """Samples are given one by one."""
        samples = iterate_samples("a 1\nb\n")

        assert "a" == next(samples).name
        with pytest.raises(InvalidMetricsError):
            next(samples)


class TestOpenMetrics:
    def test_timestamps_and_exemplars(self) -> None:
        """Timestamps are in seconds there, and exemplars are skipped, with timestamps of their own or none."""
        page = (
            "# TYPE a counter\n# UNIT a seconds\n"
            'a_total{x="# y"} 1 1.5 # {trace_id="} # \\"z\\""} 0.5 1e9\n'
            "b 2 -3e0\nc 4 # {} 1\nd 5\n# EOF\n"
        )

        assert [("a_total", 1, 1500), ("b", 2, -3000), ("c", 4, None), ("d", 5, None)] == [
            (sample.name, sample.value, sample.timestamp) for sample in parse_page(page)
        ]

    @pytest.mark.parametrize("end", ["# EOF", "# EOF\n", "# EOF\r\n"])
    def test_ends(self, end: str) -> None:
        """The end mark tells the format, with a line end or without."""
        assert [2000] == [sample.timestamp for sample in parse_page(f"a 1 2\n{end}")]
        assert () == parse_page(end)

    @pytest.mark.parametrize("end", ["", "x # EOF\n", "# EOF \n", "# EOF\n\n", "## EOF\n"])
    def test_other_ends(self, end: str) -> None:
        """Without the end mark as the last line, timestamps are in milliseconds, as in the older format."""
        page = f"a 1 2\n{end}" if not end.startswith("x") else "a 1 2\n"

        assert [2] == [sample.timestamp for sample in parse_page(page)]

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("a 1 x", "timestamp 'x' is not a number of seconds"),
            ("a 1 1e30", "timestamp '1e30' is not a number of seconds"),
            ("a 1 1e999", "timestamp '1e999' is not a number of seconds"),
            ("a 1 NaN", "timestamp 'NaN' is not a number of seconds"),
            ("a 1 # x", "no labels"),
            ('a 1 # {"b"} 1', "no labels"),
            ("a 1 # {} ", "no value"),
            ("a 1 # {} 1 2 3", "text after the timestamp"),
        ],
    )
    def test_refused(self, line: str, message: str) -> None:
        """Exemplars and timestamps must make sense, and name the line if they do not."""
        with pytest.raises(InvalidMetricsError, match=f"line 2: {message}"):
            parse_page(f"b 1\n{line}\n# EOF\n")

    def test_exemplar_in_the_older_format(self) -> None:
        """There is no such thing there."""
        with pytest.raises(InvalidMetricsError, match="timestamp '#' is not a whole number"):
            parse_page("a 1 # {} 1\n")
