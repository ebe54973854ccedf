from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from http.client import IncompleteRead
from itertools import pairwise
from threading import Thread
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.lab.apiserver import Answer, ApiServer, Cut, Fault, Gate
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import PODS, Client, Reply

NAME = "日本語のポッド🫛"


def chunks(response: bytes) -> list[bytes]:
    """Give the HTTP chunks of a response."""
    rest, found = response.partition(b"\r\n\r\n")[2], []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        found.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return [chunk for chunk in found if chunk]


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (Fault.unauthorized(), 401, "Unauthorized"),
        (Fault.forbidden(), 403, "Forbidden"),
        (Fault.conflict(), 409, "Conflict"),
        (Fault.expired(), 410, "Expired"),
        (Fault.too_many_requests(7), 429, "TooManyRequests"),
        (Fault.internal_error(), 500, "InternalError"),
        (Fault.status(504, "Timeout", "slow", retry_after=2), 504, "Timeout"),
    ],
)
def test_refusals(client: Client, server: ApiServer, fault: Fault, status: int, reason: str) -> None:
    """A fault refuses one request with its Status, and the next goes through."""
    server.inject(fault)
    refused, fine = client.get(PODS), client.get(PODS)

    assert (status, reason, status) == (refused.status, refused.document["reason"], refused.document["code"])
    assert 200 == fine.status


def test_retry_after(client: Client, server: ApiServer) -> None:
    """Too many requests are told when to come back, in a header and in the Status."""
    server.inject(Fault.too_many_requests(7))
    reply = client.get(PODS)

    assert "7" == reply.headers["retry-after"]
    assert {"retryAfterSeconds": 7} == reply.document["details"]


def test_request_that_a_fault_answers_is_not_done(client: Client, server: ApiServer) -> None:
    """A write that meets an answer of a fault writes nothing."""
    server.pods.add(make_pod("a"))
    server.inject(Fault.internal_error(), verb="delete")

    assert 500 == client.send("DELETE", f"{PODS}/a").status
    assert server.pods.find("a")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault.garbage(), 200, "application/json"),
        (Fault.web_page(), 200, "text/html"),
        (Fault.unavailable(), 503, "text/plain"),
        (Fault(answer=Answer(status=302, headers={"location": "/elsewhere"})), 302, "application/json"),
    ],
)
def test_answers_of_others(client: Client, server: ApiServer, fault: Fault, status: int, kind: str) -> None:
    """What stands between client and server may answer anything: broken JSON, pages, errors of a proxy, redirects."""
    server.inject(fault)
    reply = client.get(PODS)

    assert (status, kind) == (reply.status, reply.headers["content-type"])
    with pytest.raises(ValueError, match=r"."):
        json.loads(reply.body)


def test_errors_in_a_watch(client: Client, server: ApiServer) -> None:
    """A watch may begin with an error event, of expiry or any other, and end."""
    server.inject(Fault.expired_event())
    server.inject(Fault.error_event({"kind": "Status", "code": 500}))

    assert [410, 500] == [event["object"]["code"] for _ in range(2) for event in client.events()]


def test_lines_that_come_first(client: Client, server: ApiServer) -> None:
    """A watch may begin with lines that are none of its own."""
    server.pods.add(make_pod("a"))
    server.inject(Fault(first=[b"nonsense", b""]))
    with client.open("GET", PODS, watch=1) as response:
        assert 1 == server.end_watches()
        lines = response.read().splitlines()

    assert [b"nonsense", b""] == lines[:2]
    assert "ADDED" == json.loads(lines[2])["type"]


def read_chunks(client: Client, path: str = PODS, **params: object) -> list[bytes]:
    """Give the HTTP chunks of the response, as they are on the wire."""
    with client.raw(path, **params) as sock:
        received = b""
        # What the watch has to tell comes before its end.
        while not client.server.end_watches():
            client.server.requests.wait(verb="watch")
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += sock.recv(65536)
    return chunks(received)


@pytest.mark.parametrize("sizes", [(1,), (2,), (7, 1, 300), (65536,)])
def test_bodies_in_pieces(client: Client, server: ApiServer, sizes: tuple[int, ...]) -> None:
    """A watch in chunks of any sizes says the same, wherever lines and characters are cut."""
    for name in ("a", "b"):
        server.pods.add({"metadata": {"name": name, "annotations": {"example.com/name": NAME}}})
    server.inject(Fault.split(*sizes), times=2)
    found = read_chunks(client, watch=1)
    events = client.told()

    assert {len(chunk) for chunk in found} <= {*range(1, max(sizes) + 1)}
    assert NAME.encode() in b"".join(found)
    assert [json.loads(line) for line in b"".join(found).splitlines()] == events
    assert NAME == events[0]["object"]["metadata"]["annotations"]["example.com/name"]


def test_characters_are_cut(client: Client, server: ApiServer) -> None:
    """Chunks of one byte cut every character of more than one."""
    server.pods.add({"metadata": {"name": "a", "annotations": {"example.com/name": NAME}}})
    server.inject(Fault.split())

    assert NAME.encode()[:2] in [bytes(pair) for pair in _pairs(read_chunks(client, watch=1))]


def test_plain_watch_has_a_chunk_for_each_line(client: Client, server: ApiServer) -> None:
    """Without a fault every line is one chunk."""
    for name in ("a", "b"):
        server.pods.add(make_pod(name))

    assert [True, True] == [chunk.endswith(b"}\n") for chunk in read_chunks(client, watch=1)]


def test_lines_share_chunks(client: Client, server: ApiServer) -> None:
    """Several lines come in one chunk, and what is left over comes at the end."""
    for name in ("a", "b", "c"):
        server.pods.add(make_pod(name))
    server.inject(Fault.merge(2))

    assert [2, 1] == [chunk.count(b"\n") for chunk in read_chunks(client, watch=1)]


def test_list_in_pieces(client: Client, server: ApiServer) -> None:
    """A list may come in pieces, too; then it has no length."""
    server.pods.add(make_pod("a"))
    server.inject(Fault.split(5))
    reply = client.get(PODS)

    assert ["a"] == reply.names
    assert "content-length" not in {name.lower() for name in reply.headers}


def test_reset_in_a_line(client: Client, server: ApiServer) -> None:
    """A watch breaks off with a reset in the middle of a line: what came before has arrived."""
    for name in ("a", "b"):
        server.pods.add(make_pod(name))
    server.inject(Fault.break_off(lines=1, bytes=10))
    received = bytearray()
    with client.raw(PODS, watch=1) as sock:
        assert _rest(sock, received) is None

    first, second = chunks(bytes(received))
    assert "a" == json.loads(first)["object"]["metadata"]["name"]
    assert b'{"type":"A' == second


def test_close_in_a_list(client: Client, server: ApiServer) -> None:
    """A list breaks off with a close: the client knows that it is not whole."""
    server.pods.add(make_pod("a"))
    server.inject(Fault.break_off("close", bytes=20))

    with pytest.raises(IncompleteRead) as broken:
        client.get(PODS)
    assert 20 == len(broken.value.partial)


def test_silence(client: Client, server: ApiServer) -> None:
    """A watch falls silent: no byte and no end comes, and the server knows when the client gives up."""
    server.pods.add(make_pod("a"))
    server.inject(Fault.break_off("silence", lines=1))
    with client.raw(PODS, watch=1) as sock:
        received = b""
        while b"}\n\r\n" not in received:
            received += sock.recv(65536)
        server.pods.delete("a")
        sock.settimeout(0.2)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert 1 == server.watches()
    (entry,) = server.requests.matching(verb="watch")
    server.requests.wait_until(lambda: entry.ended)

    assert 0 == server.watches()


@pytest.mark.parametrize("how", ["reset", "close"])
def test_lost_response(client: Client, server: ApiServer, how: Any) -> None:
    """What a request asks for is done, and its response is lost: the client cannot know."""
    server.pods.add(make_pod("a"))
    server.inject(Fault.drop(how), verb="delete")

    with pytest.raises(ConnectionError):
        client.send("DELETE", f"{PODS}/a")
    assert server.pods.find("a") is None


def test_gate_holds_requests(client: Client, server: ApiServer) -> None:
    """A request waits at a gate without being done until the test opens it; no clock decides."""
    server.pods.add(make_pod("a"))
    gate, replies = Gate(), list[Reply]()
    server.inject(Fault(gate=gate), times=2, verb="delete")
    waiting = Thread(target=lambda: replies.append(client.send("DELETE", f"{PODS}/a")))
    waiting.start()
    gate.wait(1)

    assert server.pods.find("a")
    assert 200 == client.get(PODS).status
    gate.open()
    waiting.join()
    assert [200] == [reply.status for reply in replies]
    assert 404 == client.send("DELETE", f"{PODS}/a").status
    with pytest.raises(TimeoutError, match="2 of 3 requests"):
        gate.wait(3, timeout=0.01)


def test_client_that_leaves_the_gate(client: Client, server: ApiServer) -> None:
    """A request whose client went away while it waited is not done."""
    gate = Gate()
    server.inject(Fault(gate=gate))
    with client.raw(PODS):
        gate.wait(1)
    (entry,) = server.requests
    server.requests.wait_until(lambda: entry.ended)
    gate.open()

    assert (None, True) == (entry.status, entry.ended)


def test_partition(client: Client, server: ApiServer) -> None:
    """Clients on the other side of a partition are not heard, and hear nothing; others are served."""
    other = Client(server, server.service_account("epp", rules=[_everything()]))
    with other.watch() as events:
        with server.partition(where=lambda request: request.token == other.account.token):
            server.pods.add(make_pod("a"))
            assert ["a"] == client.get(PODS).names
            with other.raw(PODS) as sock:
                sock.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    sock.recv(1)
        assert ["a"] == other.get(PODS).names
        assert 1 == server.end_watches("close")
        with suppress(IncompleteRead):
            assert [] == list(events)


@pytest.mark.parametrize(("how", "expected"), [("reset", None), ("close", b"")])
def test_open_watches_break(client: Client, server: ApiServer, how: Any, expected: bytes | None) -> None:
    """Open watches break off without the end of a response, however the test wants it."""
    with client.raw(PODS, watch=1) as sock:
        head = sock.recv(65536)
        assert 1 == server.end_watches(how, resource="pods")

        assert head.endswith(b"\r\n\r\n")
        assert expected == _rest(sock)


class TestChoosing:
    def test_pattern(self, client: Client, server: ApiServer) -> None:
        """A fault strikes the requests that match all that is said of them."""
        server.pods.add(make_pod("a"))
        injection = server.inject(
            Fault.internal_error(), times=None, verb="get", resource="pods", group="", namespace="default", name="a"
        )

        assert [200, 200, 500] == [client.get(path).status for path in (PODS, "/api/v1/pods", f"{PODS}/a")]
        assert 1 == injection.hits
        assert "<Injection for verb='get', resource='pods', group=''" in repr(injection)

    def test_path_and_where(self, client: Client, server: ApiServer) -> None:
        """Paths and any property of the request choose, too."""
        server.inject(Fault.internal_error(), path="/version")
        server.inject(Fault.forbidden(), where=lambda request: request.query.get("limit") == "5")

        assert [500, 200, 200] == [client.get(path).status for path in ("/version", "/version", PODS)]
        assert 403 == client.get(PODS, limit=5).status

    def test_times_and_skip(self, client: Client, server: ApiServer) -> None:
        """A fault lets some pass first, and then strikes so often."""
        server.inject(Fault.internal_error(), times=2, skip=1)

        assert [200, 500, 500, 200] == [client.get(PODS).status for _ in range(4)]

    def test_oldest_first(self, client: Client, server: ApiServer) -> None:
        """Of several faults the one that waits longest strikes; a request meets one."""
        server.inject(Fault.internal_error())
        server.inject(Fault.forbidden())

        assert [500, 403, 200] == [client.get(PODS).status for _ in range(3)]

    def test_end_of_a_fault(self, client: Client, server: ApiServer) -> None:
        """A fault ends with its block, when it is removed, or when all are healed."""
        with server.inject(Fault.internal_error(), times=None) as injection:
            assert 500 == client.get(PODS).status
        injection.remove()
        assert 200 == client.get(PODS).status

        server.inject(Fault.internal_error(), times=None)
        server.heal()
        assert 200 == client.get(PODS).status

    @pytest.mark.parametrize(
        ("make", "told"),
        [
            (lambda _: Fault.split(0), r"chunks \[0\], batch 1: sizes must be 1 or more"),
            (lambda _: Fault.merge(0), "sizes must be 1 or more"),
            (lambda _: Fault.drop("explode"), "'explode' is not one of reset, close, silence"),  # type: ignore[arg-type]  # wrong on purpose
            (lambda server: server.inject(Fault(), times=0), "inject: times: 0 is less than 1"),
            (lambda server: server.inject(Fault(), skip=-1), "inject: skip: -1 is less than 0"),
            (lambda server: server.end_watches("bang"), "'bang' is not one of end, expire, reset, close, silence"),
            (lambda server: server.stop(how="silence"), "'silence' is not one of close, reset"),
            (lambda _: ApiServer(expired="never"), "expired: 'never' is not one of event, status"),  # type: ignore[arg-type]  # wrong on purpose
            (lambda _: ApiServer(history=0), "history: 0 is less than 1"),
            (lambda _: ApiServer(bookmark_interval=0), "bookmark_interval: 0 is less than 0.001"),
        ],
    )
    def test_arguments(self, server: ApiServer, make: Callable[[ApiServer], object], told: str) -> None:
        """Arguments that make no sense are refused, and the error says what is allowed."""
        with pytest.raises(ConfigurationError, match=told):
            make(server)

    def test_parts_combine(self, client: Client, server: ApiServer) -> None:
        """A fault may have several parts: pieces, and a break in one of them."""
        server.pods.add(make_pod("a"))
        server.inject(Fault(chunks=[3], cut=Cut(bytes=8, how="close")))
        with client.raw(PODS, watch=1) as sock:
            received = _rest(sock) or b""

        assert [b'{"t', b"ype", b'":'] == chunks(received)


def _rest(sock: socket.socket, received: bytearray | None = None) -> bytes | None:
    """Read until the other side ends, into *received* if wanted; None where it resets the connection."""
    rest = bytearray() if received is None else received
    try:
        while data := sock.recv(65536):
            rest += data
    except ConnectionResetError:
        return None
    return bytes(rest)


def _pairs(found: list[bytes]) -> list[tuple[int, int]]:
    return [(first[-1], second[0]) for first, second in pairwise(found)]


def _everything() -> dict[str, list[str]]:
    return {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
