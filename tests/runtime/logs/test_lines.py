"""Log lines, as they are written."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.logs import (
    JsonLineFormatter,
    LineLimit,
    LogFormat,
    TextLineFormatter,
    log_event,
    start_logging,
)
from inferencepool.testing import ManualClock

LOG = logging.getLogger("inferencepool.tests.logs")


def record(event: str = "request refused", **fields: Any) -> logging.LogRecord:
    """A record at a known time."""
    made = LOG.makeRecord(LOG.name, logging.WARNING, __file__, 1, event, (), None, extra={"fields": fields})
    made.created = 1_700_000_000.25
    return made


def as_json(event: str = "request refused", **fields: Any) -> dict[str, Any]:
    """What a JSON line says, without time, level and event."""
    line = JsonLineFormatter().format(record(event, **fields))
    values: dict[str, Any] = json.loads(line)
    assert line.isascii()
    return {name: value for name, value in values.items() if name not in {"time", "level", "event"}}


def as_text(**fields: Any) -> str:
    """What a text line says after the event."""
    line = TextLineFormatter().format(record(**fields))
    return line.removeprefix('time=2023-11-14T22:13:20.250Z level=warning event="request refused"').strip()


class TestFormats:
    def test_json(self) -> None:
        """A JSON line is an object of time, level, event and fields, in this order."""
        line = JsonLineFormatter().format(record(status=503, reason="no endpoints", model=None))

        assert line == (
            '{"time":"2023-11-14T22:13:20.250Z","level":"warning","event":"request refused",'
            '"status":503,"reason":"no endpoints","model":null}'
        )

    def test_text(self) -> None:
        """A text line has the same content; only what needs quotes has them."""
        line = TextLineFormatter().format(record(status=503, reason="no endpoints", model=None, path="/v1/x", empty=""))

        assert line == (
            'time=2023-11-14T22:13:20.250Z level=warning event="request refused" '
            'status=503 reason="no endpoints" model=null path=/v1/x empty=""'
        )

    @pytest.mark.parametrize(
        ("value", "text", "expected"),
        [
            ("a\nb", '"a\\nb"', "a\nb"),
            ('say "a=b"', '"say \\"a=b\\""', 'say "a=b"'),
            ("C:\\", '"C:\\\\"', "C:\\"),
            ("\x1b[31m\u2028\u202e", '"\\x1b[31m\\u2028\\u202e"', "\x1b[31m\u2028\u202e"),
            ("\ud800", '"\\ud800"', "\ud800"),
            ("žluťoučký", "žluťoučký", "žluťoučký"),
            (b"a\xff", '"a\\\\xff"', "a\\xff"),
            (True, "true", True),
            (0.5, "0.5", 0.5),
            (float("nan"), "nan", "nan"),
            (float("inf"), "inf", "inf"),
            (2**64, "18446744073709551616", "18446744073709551616"),
            (["a", 1, None], "a,1,null", ["a", 1, None]),
            (("a b",), '"a b"', ["a b"]),
            ({"a": 1}, "\"{'a': 1}\"", "{'a': 1}"),
        ],
    )
    def test_values(self, value: object, text: str, expected: object) -> None:
        """Values keep their kind in JSON where JSON has it; text is escaped so that it stays in its place."""
        assert f"field={text}" == as_text(field=value)
        assert {"field": expected} == as_json(field=value)

    def test_long_values_are_cut(self) -> None:
        """A line stays short, and says what it leaves out."""
        assert as_json(body="a" * 5_000)["body"] == "a" * 2_000 + "... (5000 characters)"
        assert as_json(body=b"a" * 5_000)["body"] == "a" * 2_000 + "... (5000 characters)"
        assert as_json(ids=list(range(80)))["ids"] == [*range(50), "... (80 items)"]
        assert len(TextLineFormatter().format(record("x" * 9_000))) < 2_200

    def test_numbers_that_cannot_be_spelled(self) -> None:
        """Python spells no number of thousands of digits; the line is written nevertheless."""
        assert {"field": "<int>"} == as_json(field=10**5_000)

    def test_fields_do_not_replace_what_every_line_has(self) -> None:
        """A field that is called like a part of every line gets another name."""
        made = record()
        made.__dict__["fields"] = {"level": "fine"}

        assert '"level":"warning"' in JsonLineFormatter().format(made)
        assert '"level_":"fine"' in JsonLineFormatter().format(made)

    def test_records_without_fields(self) -> None:
        """What other code logs has the name of its logger."""
        made = LOG.makeRecord("h2.connection", logging.ERROR, __file__, 1, "%d frames", (3,), None)

        assert TextLineFormatter().format(made).endswith(' level=error event="3 frames" logger=h2.connection')

    def test_records_that_are_wrong(self) -> None:
        """A record whose text and values do not fit is written as it is."""
        made = LOG.makeRecord("a", logging.ERROR, __file__, 1, "%d frames", ("x",), None)

        assert 'event="%d frames"' in TextLineFormatter().format(made)

    def test_exceptions(self) -> None:
        """An exception with its traceback stays in the line."""
        try:
            _ = 1 // 0
        except ZeroDivisionError as error:
            made = record()
            made.exc_info = (ZeroDivisionError, error, error.__traceback__)

        line = TextLineFormatter().format(made)
        assert "\n" not in line
        assert "ZeroDivisionError: integer division" in line
        assert "Traceback (most recent call last):\n" in json.loads(JsonLineFormatter().format(made))["exception"]

    @given(st.dictionaries(st.from_regex(r"[a-z_]{1,5}", fullmatch=True), st.text() | st.binary() | st.floats()))
    def test_any_fields_make_one_line(self, fields: dict[str, Any]) -> None:
        """Whatever the fields hold, a record is one line that a terminal shows as it is; JSON can be read back."""
        made = record()
        made.__dict__["fields"] = fields

        assert TextLineFormatter().format(made).isprintable()
        assert len(fields) + 3 == len(json.loads(JsonLineFormatter().format(made)))


class Logged:
    """A stream that is logged to."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.clock = ManualClock()
        self.limit = LineLimit(["request refused"], 2, clock=self.clock)
        self.stop = start_logging(LogFormat.JSON, stream=self.stream, limit=self.limit)

    def take(self) -> list[dict[str, Any]]:
        """The lines since the last call, without their times."""
        lines = [json.loads(line) for line in self.stream.getvalue().splitlines()]
        self.stream.seek(0)
        self.stream.truncate()
        return [{name: value for name, value in line.items() if name != "time"} for line in lines]


@pytest.fixture(name="logged")
def _logged() -> Iterator[Logged]:
    root = logging.getLogger()
    before = root.level, root.handlers[:]
    logged = Logged()
    yield logged
    logged.stop()
    assert before == (root.level, root.handlers)


class TestLogging:
    def test_events(self, logged: Logged) -> None:
        """An event is a line; what is less than information is none."""
        log_event(LOG, logging.INFO, "serving", port=9002)
        log_event(LOG, logging.DEBUG, "nobody reads this")

        assert [{"level": "info", "event": "serving", "port": 9002}] == logged.take()

    def test_text_is_the_default(self) -> None:
        """Lines are text unless JSON is asked for."""
        stream = io.StringIO()
        stop = start_logging(stream=stream)
        log_event(LOG, logging.INFO, "serving")
        stop()

        assert stream.getvalue().endswith("Z level=info event=serving\n")

    def test_standard_error_is_the_default(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Lines go to standard error unless told otherwise."""
        stop = start_logging()
        log_event(LOG, logging.INFO, "serving")
        stop()

        captured = capsys.readouterr()
        assert "event=serving" in captured.err
        assert not captured.out


class TestLimit:
    def test_lines_of_a_flood_are_counted(self, logged: Logged) -> None:
        """No more lines of an event than the limit pass in a second; the next one tells how many did not."""
        for number in range(5):
            log_event(LOG, logging.WARNING, "request refused", number=number)
        LOG.warning(["other"])
        assert [0, 1, None] == [line.get("number") for line in logged.take()]

        logged.clock.advance(1)
        log_event(LOG, logging.WARNING, "request refused", number=5)
        log_event(LOG, logging.WARNING, "request refused", number=6)
        assert [(5, 3), (6, None)] == [(line["number"], line.get("left_out")) for line in logged.take()]

    def test_what_was_left_out_last_is_told_at_the_end(self, logged: Logged) -> None:
        """Nothing is left out in silence."""
        for _ in range(5):
            log_event(LOG, logging.WARNING, "request refused")
        logged.take()
        logged.stop()

        assert [
            {"level": "warning", "event": "lines left out", "of": "request refused", "left_out": 3}
        ] == logged.take()

    def test_limit_below_one(self) -> None:
        """A limit that lets nothing pass is refused."""
        with pytest.raises(ConfigurationError, match="most: 0 is not a number of lines"):
            LineLimit([], 0)
