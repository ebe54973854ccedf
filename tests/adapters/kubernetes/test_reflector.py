"""Listing and watching as long as all goes well."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.kubernetes import PODS, Failure, Get, Reflector, ReflectorOptions, Stream
from inferencepool.testing import ManualClock
from tests.adapters.kubernetes.talking import (
    Told,
    begin,
    bookmark,
    confirm,
    event,
    follow,
    item,
    page,
    read,
    reflector_of,
    told,
    waits,
)

PATH = "/api/v1/namespaces/default/pods"


class TestPages:
    def test_one_page(self) -> None:
        """A list that fits in one page tells what exists, and the watch begins at its version."""
        reflector = reflector_of()
        assert Get(PATH, {"limit": "2"}) == reflector.next_step()
        before = reflector.synced
        assert [{"a", "b"}] == told(reflector.receive_page(page(item("a"), item("b"), version="7")))

        assert (False, True) == (before, reflector.synced)
        assert {"resourceVersion": "7"} == follow(reflector)

    def test_several_pages(self) -> None:
        """Nothing is told before the last page is there; a name on two pages counts once, as it came last."""
        reflector = reflector_of()
        reflector.next_step()
        assert [] == reflector.receive_page(page(item("a"), item("b", 1), rest="t1"))
        assert Get(PATH, {"limit": "2", "continue": "t1"}) == reflector.next_step()
        assert [] == reflector.receive_page(page(item("b", 2), rest="t2"))
        assert Get(PATH, {"limit": "2", "continue": "t2"}) == reflector.next_step()
        (listed,) = reflector.receive_page(page(item("c"), version="9"))

        assert (("a", None), ("b", 2), ("c", None)) == listed.objects  # type: ignore[union-attr]  # it is a list
        assert {"resourceVersion": "9"} == follow(reflector)

    def test_empty(self) -> None:
        """A list without items may be null."""
        reflector = reflector_of()
        reflector.next_step()
        body = json.dumps({"metadata": {"resourceVersion": "1"}, "items": None}).encode()

        assert [set()] == told(reflector.receive_page(body))

    def test_selectors(self) -> None:
        """Selectors go along with every request."""
        reflector = Reflector(
            PODS,
            "team-a",
            read,
            label_selector="app in (a,b)",
            name="x",
            options=ReflectorOptions(streaming_lists=False),
        )
        step = reflector.next_step()
        selectors = {"labelSelector": "app in (a,b)", "fieldSelector": "metadata.name=x"}
        assert Get("/api/v1/namespaces/team-a/pods", {**selectors, "limit": "500"}) == step
        reflector.receive_page(page())

        assert selectors.items() <= follow(reflector).items()

    def test_object_that_cannot_be_read(self) -> None:
        """It is told apart from the others, with what is wrong, and nothing else is lost."""
        reflector = reflector_of()
        reflector.next_step()
        (listed,) = reflector.receive_page(page(item("a"), item("b", bad=1), 5, {"metadata": 5, "bad": 2}, item("c")))

        assert [{"a", "c", "?b", "?"}] == told([listed])
        assert "bad: 1" in [each.reason for each in listed.unreadable]  # type: ignore[union-attr]  # it is a list


class TestStreams:
    def test_list_as_a_stream(self) -> None:
        """What comes before the mark is the list, what comes after it are events, all in one request."""
        reflector = reflector_of(streaming_lists=True)
        assert {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"} == follow(reflector)
        assert [] == reflector.receive_data(event("ADDED", item("a", 1)) + event("ADDED", item("b")))
        assert [] == reflector.receive_data(bookmark("5") + event("MODIFIED", item("a", 2)))
        assert [] == reflector.receive_data(event("DELETED", item("b")) + event("ADDED", item("c", bad=1)))
        assert not reflector.synced
        deltas = reflector.receive_data(bookmark("9", ends=True) + event("ADDED", item("d", version="11")))
        assert [{"a", "?c"}, "+d=None"] == told(deltas)
        reflector.end_stream()

        assert {"resourceVersion": "11"} == follow(reflector)

    def test_object_becomes_readable_before_the_mark(self) -> None:
        """Of an object that comes twice the last state counts, whether it can be read or not."""
        reflector = reflector_of(streaming_lists=True)
        follow(reflector)
        reflector.receive_data(event("ADDED", item("a", bad=1)) + event("MODIFIED", item("a")))
        reflector.receive_data(event("ADDED", item("b")) + event("MODIFIED", item("b", bad=1)))

        assert [{"a", "?b"}] == told(reflector.receive_data(bookmark("9", ends=True)))

    def test_patience(self) -> None:
        """A list as a stream may not pause for long, a watch may until the server should have ended it."""
        reflector = reflector_of(streaming_lists=True, watch_timeout=30, grace=5, page_timeout=60)
        step = reflector.next_step()
        assert isinstance(step, Stream)
        assert 5 == reflector.patience
        reflector.receive_data(bookmark("9", ends=True))
        assert int(step.params["timeoutSeconds"]) + 5 == reflector.patience
        assert 30 <= int(step.params["timeoutSeconds"]) <= 60
        pages = reflector_of(page_timeout=60)
        pages.next_step()

        assert 60 == pages.patience


class TestWatch:
    def test_events(self) -> None:
        """Events come out as they came in, and the next watch begins at the last version."""
        reflector = reflector_of()
        begin(reflector, item("a"))
        deltas = reflector.receive_data(
            event("ADDED", item("b", 1, version="11"))
            + event("MODIFIED", item("b", 2, version="12"))
            + event("DELETED", item("a", version="13"))
        )
        assert ["+b=1", "+b=2", "-a"] == told(deltas)
        reflector.end_stream()

        assert {"resourceVersion": "13"} == follow(reflector)

    def test_bookmarks(self) -> None:
        """A bookmark is no object, and moves the version on."""
        reflector = reflector_of()
        begin(reflector)
        assert [] == reflector.receive_data(bookmark("99"))
        reflector.end_stream()

        assert {"resourceVersion": "99"} == follow(reflector)

    def test_versions_are_opaque(self) -> None:
        """A version that looks smaller, or like no number, is the one that counts when it came last."""
        reflector = reflector_of()
        begin(reflector, version="zzz")
        reflector.receive_data(event("ADDED", item("a", version="9")) + event("ADDED", item("b", version="8a")))
        reflector.end_stream()

        assert {"resourceVersion": "8a"} == follow(reflector)

    def test_clean_end(self) -> None:
        """A watch that the server ends in order goes on at once where it was, without a list."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector)
        for _ in range(10):
            clock.advance(60)
            reflector.end_stream()
            assert {"resourceVersion": "10"} == follow(reflector)

    def test_object_that_cannot_be_read(self) -> None:
        """It is told, the watch goes on, and the version moves on with it where it has one."""
        reflector = reflector_of()
        begin(reflector)
        deltas = reflector.receive_data(
            event("ADDED", item("a", bad=1, version="11"))
            + event("ADDED", {"bad": 2})
            + event("ADDED", 5)
            + event("ADDED", {"metadata": 3, "bad": 3})
            + event("ADDED", {"metadata": {"name": 4}, "bad": 4})
            + event("ADDED", item("b", version="12"))
        )
        assert ["?a", "?", "?", "?", "?", "+b=None"] == told(deltas)
        assert reflector.listening
        reflector.end_stream()

        assert {"resourceVersion": "12"} == follow(reflector)

    def test_unknown_kinds_of_events(self) -> None:
        """A kind of event that is not invented yet changes nothing."""
        reflector = reflector_of()
        begin(reflector)

        assert [] == reflector.receive_data(event("RENAMED", item("a")))
        assert reflector.listening

    def test_empty_piece(self) -> None:
        """An empty piece shows that the server answers."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector)
        clock.advance(5)
        assert 5 == reflector.age
        assert [] == reflector.receive_data(b"")

        assert 0 == reflector.age

    @given(data=st.data())
    def test_the_cut_makes_no_difference(self, data: st.DataObject) -> None:
        """However the bytes are cut, inside characters too, the same is told."""
        lines = b"".join(event("ADDED", item(name, "é漢😀", version=name)) for name in "abc").decode("unicode_escape")
        whole = lines.encode("utf-16", "surrogatepass").decode("utf-16").encode()
        cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=20)))
        reflector = reflector_of()
        begin(reflector)
        deltas = [
            delta
            for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)
            for delta in reflector.receive_data(whole[start:end])
        ]

        assert [f"+{name}=é漢😀" for name in "abc"] == told(deltas)

    def test_shows_itself(self) -> None:
        """It says what it follows."""
        reflector = reflector_of()

        assert "<Reflector of pods in default>" == repr(reflector)
        assert "pods" == reflector.subject


class TestClock:
    @pytest.mark.parametrize("step", [-3600.0, 3600.0])
    def test_steps(self, step: float) -> None:
        """A clock that steps stops nothing, and no waiting time comes out of it."""
        now = [1000.0]
        options = ReflectorOptions(streaming_lists=False, retry_most=2, retry_first=1)
        reflector: Reflector[Told] = Reflector(PODS, "default", read, options=options, clock=lambda: now[0])
        begin(reflector, item("a"))
        now[0] += step
        assert ["+b=None"] == told(reflector.receive_data(event("ADDED", item("b", version="11"))))
        assert 0 <= reflector.age
        now[0] += step
        reflector.end_stream()
        assert {"resourceVersion": "11"} == follow(reflector)
        now[0] += step
        reflector.fail(Failure("no"))
        now[0] += step

        assert 0 < waits(reflector) <= 2
        confirm(reflector, version="11")
        assert {"resourceVersion": "11"} == follow(reflector)
