"""Finding out which kinds of objects a server has."""

from __future__ import annotations

import json
from random import Random

import pytest

from inferencepool.adapters.kubernetes import (
    OBJECTIVES,
    PODS,
    REWRITES,
    Failure,
    Get,
    ReflectorOptions,
    Served,
    ServedResources,
    Wait,
)

NEW, OLD = "/apis/llm-d.ai/v1alpha2", "/apis/inference.networking.x-k8s.io/v1alpha2"
NOT_FOUND = Failure("not found", 404)


def served_of() -> ServedResources:
    """Ask for objectives and rewrites."""
    options = ReflectorOptions(retry_refused=60)
    return ServedResources((*OBJECTIVES, *REWRITES), options=options, rng=Random(0))


def answer(*plurals: str) -> bytes:
    """The kinds of one version of a group."""
    return json.dumps({"kind": "APIResourceList", "resources": [{"name": name} for name in plurals]}).encode()


def test_round() -> None:
    """Each version of a group is asked once; then what is served is told, and asked again after a while."""
    served = served_of()
    assert Get(NEW, {}) == served.next_step()
    assert [] == served.receive_page(answer("inferenceobjectives", "inferenceobjectives/status"))
    assert Get(OLD, {}) == served.next_step()
    before = served.synced
    told = served.receive_page(answer("inferenceobjectives", "inferencemodelrewrites", "inferencepools"))
    assert [Served(frozenset({*OBJECTIVES, REWRITES[1]}))] == told
    assert (False, True) == (before, served.synced)
    step = served.next_step()
    assert isinstance(step, Wait)
    assert 30 <= step.seconds <= 60

    assert Get(NEW, {}) == served.next_step()


def test_no_news() -> None:
    """What was told is not told again; a change is, also one to nothing."""
    served = served_of()

    def play(*answers: bytes | None) -> list[Served]:
        told: list[Served] = []
        for body in answers:
            assert isinstance(served.next_step(), Get)
            told += served.fail(NOT_FOUND) if body is None else served.receive_page(body)
        assert isinstance(served.next_step(), Wait)
        return told

    both = ("inferenceobjectives", "inferencemodelrewrites")
    assert [Served(frozenset())] == play(None, None)
    assert [] == play(None, answer())
    assert [Served(frozenset({OBJECTIVES[1], REWRITES[1]}))] == play(None, answer(*both))
    assert [Served(frozenset({*OBJECTIVES, *REWRITES}))] == play(answer(*both), answer(*both))
    assert [] == play(answer(*both), answer(*both))
    assert [Served(frozenset())] == play(answer("pods"), None)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"resources":5}', b'{"resources":[{}]}', b'{"resources":["a"]}'])
def test_answer_that_cannot_be_read(body: bytes) -> None:
    """An answer that makes no sense is no answer; the round begins anew."""
    served = served_of()
    served.next_step()
    served.receive_page(answer())
    served.next_step()
    assert [] == served.receive_page(body)
    assert served.problem is not None
    assert isinstance(served.next_step(), Wait)
    assert Get(NEW, {}) == served.next_step()
    served.receive_page(answer())
    served.next_step()

    assert [Served(frozenset())] == served.receive_page(answer())
    assert served.problem is None


def test_failure() -> None:
    """A server that fails is asked again after a while, and nothing is told of it."""
    served = served_of()
    served.next_step()
    assert [] == served.fail(Failure("internal error", 500))
    assert Failure("internal error", 500) == served.problem
    assert isinstance(served.next_step(), Wait)

    assert Get(NEW, {}) == served.next_step()


def test_as_a_feed() -> None:
    """It has no streams, and says what it asks for."""
    served = served_of()
    assert not served.listening
    assert [] == served.receive_data(b"x")
    served.end_stream()
    assert 60 == served.patience

    assert "llm-d.ai/v1alpha2, inference.networking.x-k8s.io/v1alpha2" == served.subject
    assert f"<ServedResources of {NEW}, {OLD}>" == repr(served)
    assert "/api/v1" == PODS.root
