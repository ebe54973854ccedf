"""What is asked and told where the pool that is meant is not there."""

from __future__ import annotations

import json
from random import Random

import pytest

from inferencepool.adapters.kubernetes import Failure, Get, NamedPool, PoolMissing, ReflectorOptions, Wait
from inferencepool.adapters.kubernetes._pool_search import PoolSearch

V1 = "/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools"
LEGACY = "/apis/inference.networking.x-k8s.io/v1alpha2/namespaces/default/inferencepools"


def search_of() -> PoolSearch:
    """Look for what there is in place of a pool."""
    return PoolSearch(NamedPool("llama"), ReflectorOptions(), Random(0))


def page(*names: str, rest: str = "") -> bytes:
    """A page of pools."""
    return json.dumps(
        {"metadata": {"continue": rest}, "items": [{"metadata": {"name": name}} for name in names]}
    ).encode()


def test_round() -> None:
    """The namespace's pools of both groups are told at once, and again after a minute."""
    search = search_of()
    assert Get(V1, {"limit": "20"}) == search.next_step()
    assert [] == search.receive_page(page("lama", "qwen", rest="more"))
    assert Get(LEGACY, {"limit": "20"}) == search.next_step()
    told = search.fail(Failure("not found", 404))
    assert [
        PoolMissing(
            "pools in this namespace: lama, qwen, and more; "
            "pools in this namespace of group inference.networking.x-k8s.io: not served"
        )
    ] == told
    assert Wait(60.0) == search.next_step()

    assert Get(V1, {"limit": "20"}) == search.next_step()


def test_without_the_right() -> None:
    """Who may see the one pool alone is told that, and not left without a word."""
    search = search_of()
    search.fail(Failure("forbidden", 403))
    (told,) = search.receive_page(page())

    assert told.found.startswith("pools in this namespace: not to be listed by this account; ")
    assert told.found.endswith(": none")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"items":5}', b" " * (5 << 20)])
def test_answer_that_cannot_be_read(body: bytes) -> None:
    """An answer that makes no sense, or is too long, is asked for again."""
    search = search_of()
    search.next_step()
    assert [] == search.receive_page(body)
    assert search.problem is not None
    assert isinstance(search.next_step(), Wait)

    assert Get(V1, {"limit": "20"}) == search.next_step()


def test_as_a_feed() -> None:
    """It has no streams, and says what it asks for."""
    search = search_of()
    search.end_stream()
    assert [] == [*search.receive_data(b"x"), *search.read()]
    assert (False, False, False) == (search.listening, search.unread, search.refused)

    assert 60 == search.patience
    assert ("pools of namespace default", "<PoolSearch in place of default/llama>") == (search.subject, repr(search))
