"""Responses, byte by byte."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.runtime.scraping._response import Response

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\n"
WHOLE = {
    "with a length": OK + b"Content-Length: 4\r\nContent-Type: text/plain\r\n\r\na 1\n",
    "in chunks": OK + b"transfer-encoding: chunked\r\n\r\n3\r\na 1\r\n1\r\n\n\r\n0\r\nx-after: 1\r\n\r\n",
    "after others": b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n"
    + OK
    + b"Content-Length: 4\r\n\r\na 1\n",
}


def fed(*pieces: bytes, limit: int = LIMIT) -> Response:
    """A response that arrived in *pieces*."""
    response = Response(limit)
    for piece in pieces:
        response.feed(memoryview(piece))
    return response


@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_any_pieces_give_the_same_answer(name: str, data: st.DataObject) -> None:
    """However a response is cut on its way, it is whole at its last byte and not before."""
    text = WHOLE[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(text) - 1), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    response = fed(*pieces[:-1])
    assert not response.is_whole
    response.feed(memoryview(pieces[-1]))

    assert (True, True, "") == (response.is_whole, response.keeps_alive, response.problem)
    assert len(text) == response.received
    answer = response.answer()
    assert (200, b"a 1\n") == (answer.status, answer.body)
    assert b"x-after" not in answer.headers


@given(st.lists(st.sampled_from(sorted(WHOLE)), min_size=2, max_size=4), st.data())
def test_responses_of_a_connection_follow_each_other(names: list[str], data: st.DataObject) -> None:
    """Each is read as if it were the first, with limits of its own, however it is cut on its way."""
    response = Response(LIMIT)
    for name in names:
        text = WHOLE[name]
        cut = data.draw(st.integers(0, len(text) - 1))
        for piece in (text[:cut], text[cut:]):
            assert not response.is_whole
            response.feed(memoryview(piece))

        assert (True, True, "") == (response.is_whole, response.keeps_alive, response.problem)
        assert len(text) == response.received
        alone = fed(text).answer()
        assert alone == response.answer()
        assert (0, False, "") == (response.received, response.is_whole, response.problem)


def test_limits_count_for_each_response() -> None:
    """A connection that lives long comes to no limit that holds for one response."""
    response = Response(LIMIT)
    for _ in range(20):
        response.feed(memoryview(OK + b"x: y\r\n" * 200 + b"content-length: 800\r\n\r\n" + b"z" * 800))

        assert (True, "") == (response.is_whole, response.problem)
        assert 800 == len(response.answer().body)


def test_nothing_is_held_behind_an_answer() -> None:
    """A page is gone as soon as whoever asked for it lets go of it; no garbage has to be collected first."""
    text = OK + b"content-length: 500000\r\n\r\n" + b"z" * 500_000
    gc.disable()
    tracemalloc.start()
    try:
        response = Response(1 << 20)
        for _ in range(5):
            response.feed(memoryview(text))
            assert 500_000 == len(response.answer().body)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert held < 50_000


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_body_without_a_length(version: bytes) -> None:
    """It ends with the connection, which is of no use afterwards."""
    response = fed(version + b" 200 OK\r\n\r\na 1\n", b"b 2\n")
    assert not response.is_whole
    response.end()

    assert (True, False) == (response.is_whole, response.keeps_alive)
    assert b"a 1\nb 2\n" == response.answer().body


@pytest.mark.parametrize(
    "text", [b"", OK, OK + b"content-length: 9\r\n\r\na 1\n", OK + b"transfer-encoding: chunked\r\n\r\n4\r\na 1\n\r\n"]
)
def test_cut(text: bytes) -> None:
    """A response that ends early is not whole."""
    response = fed(text)
    response.end()

    assert not response.is_whole


def test_another_response_behind_it() -> None:
    """What was not asked for is no part of the answer, and ends the connection."""
    response = fed(WHOLE["with a length"] + OK + b"content-length: 3\r\nx: y\r\n\r\nbad")

    assert (True, False) == (response.is_whole, response.keeps_alive)
    answer = response.answer()
    assert b"a 1\n" == answer.body
    assert b"x" not in answer.headers


def test_connection_that_the_server_closes() -> None:
    """The server says whether the connection lives on."""
    assert not fed(OK + b"content-length: 1\r\nconnection: close\r\n\r\nx").keeps_alive


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x16", "no HTTP/1 response"),
        (b"<html>", "no HTTP/1 response"),
        (b"HTTP/2 200 OK\r\n\r\n", "no HTTP/1 response"),
        (OK + b"content-length: -1\r\n\r\n", "no HTTP/1 response"),
        (OK + b"content-length: 99999999999999999999999\r\n\r\n", "no HTTP/1 response"),
        (OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n", "no HTTP/1 response"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "101 Switching Protocols"),
        (OK + b"content-length: 1001\r\n\r\n", "the page is longer than 1000 bytes"),
        (OK + b"transfer-encoding: chunked\r\n\r\n" + b"400\r\n%s\r\n" % (b"x" * 1024) * 70, "longer than 1000"),
        (OK + b"x: y\r\n" * 258, "more than 256 headers"),
        (OK + b"x: %s\r\n" % (b"y" * 70_000), "more than 65536 bytes of headers"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9, "more than 8 informational responses"),
        (
            OK + b"transfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 900 + b"1;%s\r\n" % (b"e" * 70_000),
            "chunks that",
        ),
    ],
)
def test_problems(text: bytes, problem: str) -> None:
    """What is no response, or one that is too long, is refused with the reason."""
    response = fed(text)

    assert not response.is_whole
    assert problem in response.problem


def test_chunks_are_kept_as_one_body() -> None:
    """A page in tiny chunks takes the memory of its bytes, not of its chunks."""
    chunks = b"5\r\nab 1\n\r\n" * 40_000
    text = OK + b"transfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    tracemalloc.start()
    try:
        response = fed(*(text[at : at + 4096] for at in range(0, len(text), 4096)), limit=1 << 20)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (True, 200_000) == (response.is_whole, len(response.answer().body))
    assert held < 2 * 200_000


@pytest.mark.parametrize(
    "flood",
    [
        b"x: y\r\n" * 50_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        OK + b"content-length: 0\r\n\r\n" + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" * 20_000,
    ],
)
def test_parser_stops_early(flood: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is too much is not read to its end: no more than a few hundred events come of one buffer."""
    events: list[str] = []

    def counting(name: str, call: Callable[..., None]) -> Callable[..., None]:
        def counted(self: Response, *given: bytes) -> None:
            events.append(name)
            call(self, *given)

        return counted

    for name in ("on_header", "on_message_begin", "on_headers_complete"):
        monkeypatch.setattr(Response, name, counting(name, getattr(Response, name)))
    response = fed(flood if flood.startswith(b"HTTP") else OK + flood)

    assert len(events) < 300
    assert response.problem or not response.keeps_alive
