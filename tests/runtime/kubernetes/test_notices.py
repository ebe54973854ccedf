"""What is said of a cluster that is followed: each thing once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import pytest

from inferencepool.adapters.kubernetes import (
    PODS,
    Deleted,
    Delta,
    Failure,
    Listed,
    Reflector,
    Unreadable,
    Upserted,
    Wait,
    read_pod,
)
from inferencepool.model import Pod
from inferencepool.runtime.kubernetes import _notices
from inferencepool.runtime.kubernetes._notices import Notices
from inferencepool.testing import ManualClock, make_pod

BAD = Unreadable("a", "bad")


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Events and their fields since the last time."""
    found = [(record.getMessage(), record.__dict__["fields"]) for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture(name="feed")
def _feed(caplog: pytest.LogCaptureFixture) -> Reflector[Pod]:
    caplog.set_level(logging.INFO, "inferencepool.runtime.kubernetes")
    return Reflector(PODS, "default", read_pod)


@pytest.mark.parametrize(
    "deltas",
    [
        [Upserted(make_pod("a"))],
        [Deleted("a")],
        [Listed(())],
        [Listed((), (Unreadable("b", "bad"),))],
    ],
)
def test_told_again_after_it_was_right(
    deltas: Sequence[Delta[Pod]], feed: Reflector[Pod], caplog: pytest.LogCaptureFixture
) -> None:
    """An object that cannot be read is told once; and again when it could, or was gone, in between."""
    notices = Notices()
    notices.objects(feed, [BAD, BAD, Upserted(make_pod("b")), Deleted("b"), Listed((), (BAD,))])
    assert [("object not read", {"resource": "pods", "name": "a", "reason": "bad"})] == told(caplog)
    notices.objects(feed, deltas)
    told(caplog)
    notices.objects(feed, [BAD])

    assert 1 == len(told(caplog))


def test_told_again_for_another_reason(feed: Reflector[Pod], caplog: pytest.LogCaptureFixture) -> None:
    """Another reason is news."""
    notices = Notices()
    notices.objects(feed, [BAD, Unreadable("a", "worse"), Unreadable("a", "worse")])

    assert ["bad", "worse"] == [fields["reason"] for _, fields in told(caplog)]


def test_names_are_not_remembered_without_end(
    feed: Reflector[Pod], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more objects than can be remembered nothing is told: a server may make any number up."""
    monkeypatch.setattr(_notices, "_REMEMBERED", 1)
    notices = Notices()
    notices.objects(feed, [BAD, Unreadable("b", "bad")])
    notices.objects(feed, [BAD, Unreadable("b", "bad")])

    assert ["a"] == [fields["name"] for _, fields in told(caplog)]


def test_failures(feed: Reflector[Pod], caplog: pytest.LogCaptureFixture) -> None:
    """A failure is told with how long it has lasted, and its end once; what is no longer followed has no end."""
    clock = ManualClock()
    notices = Notices(clock)
    notices.heard(feed)
    notices.failed(feed, Failure("no", 500), 0.5)
    clock.advance(2)
    notices.failed(feed, Failure("no", 401), 1.0)
    clock.advance(3)
    notices.heard(feed)
    notices.heard(feed)
    notices.failed(feed, Failure("no"), 1.0)
    notices.forget(feed)
    notices.heard(feed)
    first, second, third, fourth = told(caplog)

    assert ("cluster not followed", 0.0, 0.5) == (first[0], first[1]["away"], first[1]["retry_in"])
    assert "hint" not in first[1]
    assert (2.0, "the credentials are not accepted") == (second[1]["away"], second[1]["hint"])
    assert ("cluster followed again", {"resource": "pods", "away": 5.0}) == third
    assert 0.0 == fourth[1]["away"]


def test_missing_rights_are_told_when_that_lasts(feed: Reflector[Pod], caplog: pytest.LogCaptureFixture) -> None:
    """A server that has just started forbids everything: the hint about the role comes where it goes on so."""
    notices = Notices(ManualClock())
    for _ in range(5):
        while isinstance(feed.next_step(), Wait):
            pass
        feed.fail(Failure("no", 403))
        notices.failed(feed, Failure("no", 403), 1.0)

    assert [False] * 4 + [True] == ["hint" in fields for _, fields in told(caplog)]
