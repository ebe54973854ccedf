"""Listing and watching while things go wrong."""

from __future__ import annotations

import json

import pytest

from inferencepool.adapters.kubernetes import Failure, Get, Reflector, Stream, Wait
from inferencepool.testing import ManualClock
from tests.adapters.kubernetes.talking import (
    GONE,
    RESOURCE,
    begin,
    bookmark,
    confirm,
    error,
    event,
    follow,
    item,
    page,
    read,
    reflector_of,
    told,
    waits,
)

PATH = RESOURCE.collection("default")
SERVER_ERROR = Failure("internal error", 500)
LOST = Failure("connection reset")


class TestLists:
    def test_failure_of_a_page(self) -> None:
        """The page that failed is asked for again after a while; those before it are kept."""
        reflector = reflector_of()
        reflector.next_step()
        reflector.receive_page(page(item("a"), rest="t"))
        reflector.next_step()
        reflector.fail(LOST)
        assert LOST == reflector.problem
        assert 0.4 <= waits(reflector) <= 0.8
        assert Get(PATH, {"limit": "2", "continue": "t"}) == reflector.next_step()

        assert [{"a", "b"}] == told(reflector.receive_page(page(item("b"))))
        assert reflector.problem is None

    def test_token_that_expired(self) -> None:
        """The list begins anew, in one piece, which cannot expire; the next list comes in pages again."""
        reflector = reflector_of()
        reflector.next_step()
        reflector.receive_page(page(item("a"), rest="t"))
        reflector.next_step()
        reflector.fail(GONE)
        assert Get(PATH, {}) == reflector.next_step()
        assert [{"b"}] == told(reflector.receive_page(page(item("b"))))
        follow(reflector)
        reflector.fail(GONE)
        assert isinstance(reflector.next_step(), Wait)

        assert Get(PATH, {"limit": "2"}) == reflector.next_step()

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<!doctype html>",
            b"[]",
            b"\xff",
            b"[" * 100_000,
            b'{"metadata":{"resourceVersion":"1"}}',
            b'{"metadata":{"resourceVersion":""},"items":[]}',
            b'{"metadata":{"resourceVersion":1},"items":[]}',
            b'{"metadata":{},"items":[]}',
            b'{"metadata":5,"items":[]}',
            b'{"metadata":{"resourceVersion":"1"},"items":{}}',
            b'{"metadata":{"resourceVersion":"1"},"items":"none"}',
        ],
    )
    def test_page_that_cannot_be_read(self, body: bytes) -> None:
        """What is no list says nothing about what exists; it is asked for again from the beginning."""
        reflector = reflector_of()
        reflector.next_step()
        reflector.receive_page(page(item("a"), rest="t"))
        reflector.next_step()
        assert [] == reflector.receive_page(body)
        assert reflector.problem is not None
        assert reflector.problem.reason.startswith("the list cannot be read: ")
        assert not reflector.synced
        assert waits(reflector) > 0
        assert Get(PATH, {"limit": "2"}) == reflector.next_step()

        assert [{"b"}] == told(reflector.receive_page(page(item("b"))))


class TestStreams:
    @pytest.mark.parametrize("status", [400, 422, 501])
    def test_not_offered(self, status: int) -> None:
        """A server that refuses lists as streams is asked once, and there is no problem."""
        reflector = reflector_of(streaming_lists=True)
        follow(reflector)
        reflector.fail(Failure("forbidden for watch", status))
        assert reflector.problem is None
        begin(reflector)
        reflector.fail(GONE)

        assert Get(PATH, {"limit": "2"}) == reflector.next_step()

    def test_failure(self) -> None:
        """A list as a stream that fails is followed by one in pages; what came of it does not count."""
        reflector = reflector_of(streaming_lists=True)
        follow(reflector)
        reflector.receive_data(event("ADDED", item("a")))
        reflector.fail(LOST)
        assert waits(reflector) > 0
        assert Get(PATH, {"limit": "2"}) == reflector.next_step()
        assert [{"b"}] == told(reflector.receive_page(page(item("b"))))
        follow(reflector)
        reflector.fail(GONE)
        assert waits(reflector) > 0

        assert "sendInitialEvents" in follow(reflector)

    def test_end_before_the_mark(self) -> None:
        """A list as a stream that ends without its mark is none."""
        reflector = reflector_of(streaming_lists=True)
        follow(reflector)
        reflector.receive_data(event("ADDED", item("a")))
        reflector.end_stream()
        assert reflector.problem is not None
        assert not reflector.synced
        assert waits(reflector) > 0

        assert isinstance(reflector.next_step(), Get)

    def test_that_trickles(self) -> None:
        """A list as a stream that never comes to its end is given up."""
        clock = ManualClock()
        reflector = reflector_of(clock, streaming_lists=True, page_timeout=60)
        follow(reflector)
        for _ in range(6):
            clock.advance(10)
            reflector.receive_data(event("ADDED", item("a")))
            assert reflector.listening
        clock.advance(10)
        reflector.receive_data(event("ADDED", item("a")))

        assert not reflector.listening
        assert Failure("the list as a stream took too long") == reflector.problem

    def test_mark_without_a_version(self) -> None:
        """Without a version nothing could be watched from there: the list does not count."""
        reflector = reflector_of(streaming_lists=True)
        follow(reflector)
        assert [] == reflector.receive_data(event("ADDED", item("a")) + bookmark("", ends=True))
        assert not reflector.listening

        assert not reflector.synced


class TestExpired:
    @pytest.mark.parametrize("as_event", [True, False])
    def test_deletion_in_the_gap(self, as_event: bool) -> None:
        """Told in an event or by status, a list follows at once, and it says what is gone."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector, item("a"), item("b"))
        clock.advance(60)
        if as_event:
            assert [] == reflector.receive_data(error(410, reason="Expired") + event("ADDED", item("late")))
            assert not reflector.listening
        else:
            reflector.fail(GONE)
        assert reflector.problem is None
        assert Get(PATH, {"limit": "2"}) == reflector.next_step()

        assert [{"b"}] == told(reflector.receive_page(page(item("b"))))

    def test_again_and_again(self) -> None:
        """A server that forgets every version at once is not asked more often than one that fails."""
        reflector = reflector_of(retry_first=1, retry_most=8)
        waited = []
        for _ in range(8):
            begin(reflector)
            reflector.receive_data(error(410))
            step = reflector.next_step()
            if isinstance(step, Wait):
                waited.append(step.seconds)
                assert isinstance(reflector.next_step(), Get)
            reflector.receive_page(page())
            follow(reflector)
            reflector.receive_data(error(410))
            waited.append(waits(reflector))

        assert 15 == len(waited)
        assert all(4 <= seconds <= 8 for seconds in waited[3:])


class TestWatches:
    @pytest.mark.parametrize("status", [None, 401, 403, 429, 500, 502, 503])
    def test_failure_that_says_nothing_of_the_version(self, status: int | None) -> None:
        """The watch is tried again where it was, without a list, by a server that has come as far."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector)
        clock.advance(60)
        reflector.fail(Failure("no", status))
        assert waits(reflector) > 0
        confirm(reflector)

        assert {"resourceVersion": "10"} == follow(reflector)

    @pytest.mark.parametrize("status", [400, 404, 405, 422, 504])
    def test_failure_that_may_be_about_the_version(self, status: int) -> None:
        """A server that does not take the version, as one that was restored from a backup, is asked for a list."""
        reflector = reflector_of()
        begin(reflector)
        reflector.fail(Failure("Too large resource version", status))
        assert waits(reflector) > 0

        assert isinstance(reflector.next_step(), Get)

    def test_failures_in_a_row(self) -> None:
        """After several failures the server may be another one: it is asked for a list."""
        reflector = reflector_of()
        begin(reflector)
        for _ in range(2):
            reflector.fail(LOST)
            assert waits(reflector) > 0
            confirm(reflector)
            assert {"resourceVersion": "10"} == follow(reflector)
        reflector.fail(LOST)
        assert waits(reflector) > 0

        assert isinstance(reflector.next_step(), Get)

    def test_health_forgets_failures(self) -> None:
        """After a watch that lasted, the first waiting time is the shortest again."""
        clock = ManualClock()
        reflector = reflector_of(clock, retry_first=1, retry_most=64, healthy_after=5)
        begin(reflector)
        longest = 0.0
        for _ in range(6):
            clock.advance(4.9)
            reflector.fail(LOST)
            longest = waits(reflector)
            assert isinstance(reflector.next_step(), Get)
            reflector.receive_page(page())
            follow(reflector)
        assert longest >= 16
        reflector.receive_data(b"")
        clock.advance(5)
        reflector.fail(LOST)

        assert 0.5 <= waits(reflector) <= 1

    def test_short_watches(self) -> None:
        """A server that ends every watch at once is not asked more often than one that fails."""
        reflector = reflector_of(retry_first=1, retry_most=8)
        begin(reflector)
        reflector.end_stream()
        follow(reflector)
        for number in range(8):
            reflector.end_stream()
            assert min(2**number, 8) <= waits(reflector) * 2
            assert {"resourceVersion": "10"} == follow(reflector)
        assert reflector.problem is None

    @pytest.mark.parametrize(
        "line",
        [
            b"<html>\n",
            b"{\n",
            b"[]\n",
            b"5\n",
            b"{}\n",
            b'{"type":"ADDED"}\n',
            b'{"type":"DELETED","object":{}}\n',
            b'{"type":"ERROR","object":5}\n',
            b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}\n',
            b"[" * 100_000 + b"\n",
        ],
    )
    def test_line_that_cannot_be_read(self, line: bytes) -> None:
        """What came before it counts; then a list follows, since nobody knows what the line said."""
        reflector = reflector_of()
        begin(reflector, item("a"))
        deltas = reflector.receive_data(event("ADDED", item("b")) + line + event("ADDED", item("c")))
        assert ["+b=None"] == told(deltas)
        assert not reflector.listening
        assert reflector.problem is not None
        assert reflector.problem.reason.startswith("the watch cannot be read: ")
        assert waits(reflector) > 0

        assert isinstance(reflector.next_step(), Get)

    def test_line_that_does_not_end(self) -> None:
        """A line that is longer than any object is given up."""
        reflector = reflector_of(max_line=1000)
        begin(reflector)
        reflector.receive_data(b"x" * 1001)

        assert not reflector.listening

    def test_rest_of_a_line(self) -> None:
        """Half a line at the end of a watch is forgotten: the next watch tells it again."""
        reflector = reflector_of()
        begin(reflector)
        line = event("ADDED", item("b", version="11"))
        reflector.receive_data(line[:20])
        reflector.end_stream()
        assert {"resourceVersion": "10"} == follow(reflector)

        assert ["+b=None"] == told(reflector.receive_data(line))

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (error(429, "later", details={"retryAfterSeconds": 7}), Failure("later", 429, 7.0)),
            (error(500, ""), Failure("the server ended the watch with an error", 500)),
            (event("ERROR", {}), Failure("the server ended the watch with an error")),
            (
                event("ERROR", {"code": "1", "message": 2, "details": 3}),
                Failure("the server ended the watch with an error"),
            ),
            (error(500, details={"retryAfterSeconds": "7"}), Failure("no", 500)),
        ],
    )
    def test_errors_in_events(self, line: bytes, expected: Failure) -> None:
        """What the server says of the error counts, as far as it can be read."""
        reflector = reflector_of()
        begin(reflector)
        reflector.receive_data(line)
        assert expected == reflector.problem

        assert waits(reflector) >= (expected.retry_after or 0)

    def test_connect_that_hangs(self) -> None:
        """A watch that is never answered is a failure like any other, however long it took: the waiting time grows."""
        clock = ManualClock()
        reflector = reflector_of(clock, retry_first=1, retry_most=64)
        begin(reflector)
        seconds = []
        for _ in range(2):
            clock.advance(10)
            reflector.fail(LOST)
            seconds.append(waits(reflector))
            confirm(reflector)
            follow(reflector)

        assert 0.5 <= seconds[0] <= 1 <= seconds[1] <= 2

    def test_age(self) -> None:
        """It tells for how long the server was not heard; what it says ends that."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector, item("a"))
        for _ in range(3):
            clock.advance(100)
            reflector.fail(LOST)
            waits(reflector)
        assert isinstance(reflector.next_step(), Get)
        assert 300 == reflector.age
        assert reflector.synced
        reflector.receive_page(page())

        assert 0 == reflector.age

    def test_document_keeps_its_fields(self) -> None:
        """The parts of a page and of an event that nobody asked for do no harm."""
        reflector = reflector_of()
        reflector.next_step()
        body = json.loads(page(item("a")))
        body["metadata"]["remainingItemCount"] = 5

        assert [{"a"}] == told(reflector.receive_page(json.dumps(body).encode()))


class TestServersThatWentBack:
    @pytest.mark.parametrize("version", ["9", "0", "x", "9.5", "-1", "²"])
    def test_one_broken_watch(self, version: str) -> None:
        """A server that is behind where the watch was, or cannot say how far it is, has another past: it must list."""
        reflector = reflector_of()
        begin(reflector, item("a"), item("b"))
        reflector.fail(LOST)
        waits(reflector)
        assert Get(PATH, {"limit": "1"}) == reflector.next_step()
        assert [] == reflector.receive_page(page(item("a"), version=version))
        assert Get(PATH, {"limit": "2"}) == reflector.next_step()

        assert [{"b"}] == told(reflector.receive_page(page(item("b"), version="9")))

    @pytest.mark.parametrize("version", ["10", "11", "99999999999999999999999"])
    def test_one_that_has_come_as_far(self, version: str) -> None:
        """The watch goes on where it was, though the server is ahead; what was said along with that is no news."""
        reflector = reflector_of()
        begin(reflector, item("a"))
        reflector.fail(LOST)
        waits(reflector)
        confirm(reflector, item("b"), version=version)
        assert {"resourceVersion": "10"} == follow(reflector)

        assert ["+c=None"] == told(reflector.receive_data(event("ADDED", item("c", version="11"))))

    def test_versions_that_are_no_numbers(self) -> None:
        """Versions that cannot be compared cost a list for each broken watch, and nothing is ever missed."""
        reflector = reflector_of()
        begin(reflector, version="abc")
        reflector.fail(LOST)
        waits(reflector)
        confirm(reflector, version="abc")

        assert Get(PATH, {"limit": "2"}) == reflector.next_step()

    def test_watch_that_ended_in_order(self) -> None:
        """Nobody is asked how far the server is: that would be a request for each minute."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector)
        for _ in range(3):
            clock.advance(60)
            reflector.end_stream()
            assert {"resourceVersion": "10"} == follow(reflector)

    def test_selectors_are_asked_with(self) -> None:
        """The question is for no more than the list is, so that it needs no other right."""
        reflector = Reflector(RESOURCE, "default", read, name="a", label_selector="app=x", clock=ManualClock())
        follow(reflector)
        reflector.receive_data(bookmark("10", ends=True))
        reflector.fail(LOST)
        waits(reflector)
        expected = {"labelSelector": "app=x", "fieldSelector": "metadata.name=a", "limit": "1"}

        assert Get(PATH, expected) == reflector.next_step()

    @pytest.mark.parametrize("body", [b"", b"{}", b"[]", page(version="")])
    def test_answer_that_cannot_be_read(self, body: bytes) -> None:
        """It is a failure like any other: asked again after a while, and after three in a row there is a list."""
        reflector = reflector_of()
        begin(reflector)
        reflector.fail(LOST)
        seconds = []
        while waits(reflector) and Get(PATH, {"limit": "1"}) == (step := reflector.next_step()):
            assert 60 == reflector.patience
            assert [] == reflector.receive_page(body)
            seconds.append(step)
        assert 2 == len(seconds)

        assert Get(PATH, {"limit": "2"}) == step

    def test_question_that_fails_after_a_long_watch(self) -> None:
        """How long the watch lasted counts once: waiting times grow though it was healthy."""
        clock = ManualClock()
        reflector = reflector_of(clock, retry_first=1, retry_most=64)
        begin(reflector)
        reflector.receive_data(b"")
        clock.advance(60)
        reflector.fail(LOST)
        assert waits(reflector) <= 1
        reflector.next_step()
        reflector.fail(LOST)

        assert 1 <= waits(reflector) <= 2


@pytest.mark.parametrize(("status", "most"), [(400, 1), (500, 3)])
def test_a_token_that_the_server_does_not_know(status: int, most: int) -> None:
    """The list begins anew, though the server does not say 410: at once, or after a few tries."""
    reflector = reflector_of()
    reflector.next_step()
    reflector.receive_page(page(item("a"), rest="t1"))
    asked: list[object] = []
    while "limit" not in asked:
        step = reflector.next_step()
        if isinstance(step, Get):
            asked.append(step.params.get("continue", "limit"))
            reflector.fail(Failure("the token makes no sense", status))
    assert ["t1"] * most == asked[:-1]


def test_a_watch_that_is_refused_again_and_again() -> None:
    """Once is nothing; what needs a pause is a problem that is told."""
    reflector = reflector_of()
    problems = []
    for _ in range(3):
        step = reflector.next_step()
        while isinstance(step, Wait):
            step = reflector.next_step()
        reflector.receive_page(page(version="1"))
        assert isinstance(reflector.next_step(), Stream)
        reflector.fail(GONE)
        problems.append(reflector.problem)
    assert [None, GONE, GONE] == problems
