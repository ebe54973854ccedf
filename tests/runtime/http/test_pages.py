"""What the page server answers."""

from __future__ import annotations

import asyncio
import http.client
import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.runtime.http import Page, PageLimits, PageRequest, PageServer
from tests.patience import PATIENCE
from tests.runtime.http.clients import LOOPBACK, Client, client_of, echo, serving


def with_client(do: Callable[[Client], Awaitable[None]], **pages: Callable[[PageRequest], Page]) -> None:
    """Run *do* with a client of a server whose *pages* are named without their slash."""

    async def scenario() -> None:
        named = {f"/{name}": page for name, page in pages.items()}
        async with serving(named or None) as server, client_of(server) as client:
            await do(client)

    asyncio.run(scenario())


class TestPages:
    def test_a_page(self) -> None:
        """Status, type, length and date, as HTTP wants them."""

        async def ask(client: Client) -> None:
            status, headers, body = await client.ask("/")
            assert ("HTTP/1.1 200 OK", b"/ {}") == (status, body)
            assert "text/plain; charset=utf-8" == headers["content-type"]
            assert parsedate_to_datetime(headers["date"]).tzinfo is not None

        with_client(ask)

    def test_the_standard_library_reads_it(self) -> None:
        """A client of another make gets the page, its type and its headers."""

        def page(_: PageRequest) -> Page:
            return Page("{}é".encode(), "application/json", 418, (("x-more", "1"),))

        async def scenario() -> None:
            async with serving({"/page": page}) as server:

                def fetch() -> tuple[int, str | None, str | None, bytes]:
                    connection = http.client.HTTPConnection(LOOPBACK, server.port)
                    connection.request("GET", "/page")
                    response = connection.getresponse()
                    body = response.read()
                    connection.close()
                    return response.status, response.getheader("content-type"), response.getheader("x-more"), body

                assert (418, "application/json", "1", "{}é".encode()) == await asyncio.to_thread(fetch)

        asyncio.run(scenario())

    def test_path_and_query_are_decoded(self) -> None:
        """Handlers see what was meant; the last of equal names counts, and a name without a value is empty."""

        async def ask(client: Client) -> None:
            assert b"/a b {'x': '2', 'y': '&', 'z': ''}" == (await client.ask("/a%20b?x=1&x=2&y=%26&z="))[2]
            assert b"/a {}" == (await client.ask("http://test/a"))[2]

        with_client(ask)

    def test_headers_and_address(self) -> None:
        """Handlers see the headers in lower case, and where the connection came in."""
        seen: list[PageRequest] = []

        def page(request: PageRequest) -> Page:
            seen.append(request)
            return Page(b"")

        async def ask(client: Client) -> None:
            await client.ask("/page", "GET", "X-Name: Value")

        with_client(ask, page=page)
        assert ("Value", "test", LOOPBACK) == (
            seen[0].headers["x-name"],
            seen[0].headers["host"],
            seen[0].local_address,
        )

    def test_the_longest_path_above_answers(self) -> None:
        """A path with a slash at its end stands for all below it; others stand for themselves."""

        def named(name: str) -> Callable[[PageRequest], Page]:
            return lambda request: Page(f"{name} {request.path}".encode())

        async def scenario() -> None:
            pages = {"/debug/": named("debug"), "/debug/deep/": named("deep"), "/metrics": named("metrics")}
            async with serving(pages) as server, client_of(server) as client:
                for path, expected in {
                    "/metrics": b"metrics /metrics",
                    "/debug/": b"debug /debug/",
                    "/debug/a": b"debug /debug/a",
                    "/debug/deep/b": b"deep /debug/deep/b",
                }.items():
                    assert expected == (await client.ask(path))[2]
                for path in ("/", "/metrics/", "/metricsx", "*"):
                    assert "HTTP/1.1 404 Not Found" == (await client.ask(path))[0]
                status, headers, _ = await client.ask("/debug?x=1")
                assert ("HTTP/1.1 308 Permanent Redirect", "/debug/") == (status, headers["location"])

        asyncio.run(scenario())

    def test_head(self) -> None:
        """The same headers without the page; the connection stays."""

        async def ask(client: Client) -> None:
            status, headers, _ = await client.ask("/", "HEAD")
            assert ("HTTP/1.1 200 OK", "4") == (status, headers["content-length"])
            assert b"/ {}" == (await client.ask("/"))[2]

        with_client(ask)

    def test_several_requests_at_once(self) -> None:
        """Requests that come before the answers to earlier ones are answered in order."""

        async def ask(client: Client) -> None:
            await client.say(b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % number for number in range(5)))
            assert [b"/%d {}" % number for number in range(5)] == [(await client.hear())[2] for _ in range(5)]

        with_client(ask)

    def test_http_1_0(self) -> None:
        """An old client gets its page and the end of the connection."""

        async def ask(client: Client) -> None:
            await client.say(b"GET / HTTP/1.0\r\n\r\n")
            assert (await client.rest()).endswith(b"\r\n\r\n/ {}")

        with_client(ask)

    def test_a_client_that_wants_no_more(self) -> None:
        """The server hangs up where the client says so, and when it is gone."""

        async def ask(client: Client) -> None:
            assert b"/ {}" == (await client.ask("/", "GET", "Connection: close"))[2]
            assert b"" == await client.rest()

        with_client(ask)

    def test_a_large_page(self) -> None:
        """A page of many megabytes arrives whole."""
        body = bytes(range(256)) * 40_000

        async def ask(client: Client) -> None:
            assert body == (await client.ask("/large"))[2]

        with_client(ask, large=lambda _: Page(body))


class TestHandlers:
    def test_a_page_that_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        """It is told to the log, not to the client, and the connection stays."""

        def fail(_: PageRequest) -> Page:
            message = "a secret"
            raise LookupError(message)

        async def ask(client: Client) -> None:
            status, _, body = await client.ask("/fail")
            assert "HTTP/1.1 500 Internal Server Error" == status
            assert b"secret" not in body
            assert "HTTP/1.1 500 Internal Server Error" == (await client.ask("/fail"))[0]

        with caplog.at_level(logging.ERROR):
            with_client(ask, fail=fail)
        assert ["page failed"] * 2 == caplog.messages

    def test_a_slow_page_keeps_nobody_else(self) -> None:
        """The event loop goes on while a page is made."""
        goes_on = threading.Event()

        def slow(_: PageRequest) -> Page:
            assert goes_on.wait(PATIENCE)
            return Page(b"done")

        async def ask(client: Client) -> None:
            asked = asyncio.create_task(client.ask("/slow"))
            await asyncio.sleep(0)
            goes_on.set()
            assert b"done" == (await asked)[2]

        with_client(ask, slow=slow)


class TestRefusals:
    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "get"])
    def test_other_methods(self, method: str) -> None:
        """They are refused, and the connection ends."""

        async def ask(client: Client) -> None:
            status, headers, body = await client.ask("/", method)
            assert ("HTTP/1.1 405 Method Not Allowed", b"pages can only be read\n") == (status, body)
            assert ("GET, HEAD", "close") == (headers["allow"], headers["connection"])
            assert b"" == await client.rest()

        with_client(ask)

    @pytest.mark.parametrize("framing", ["Content-Length: 1", "Transfer-Encoding: chunked"])
    def test_a_body(self, framing: str) -> None:
        """A request for a page has none."""

        async def ask(client: Client) -> None:
            assert (await client.ask("/", "GET", framing))[0].startswith("HTTP/1.1 413 ")

        with_client(ask)

    @pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
    def test_a_head_with_a_body(self, framing: str) -> None:
        """It is refused as others are, without a body in the answer, as HEAD has none."""

        async def ask(client: Client) -> None:
            client.writer.write(f"HEAD / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\nhello".encode())
            head, _, body = (await client.rest()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ")
            assert b"" == body

        with_client(ask)

    def test_a_client_that_goes_on_sending(self) -> None:
        """It can read why it was refused, though it has not stopped."""

        async def ask(client: Client) -> None:
            await client.say(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 500000\r\n\r\n" + b"x" * 500_000)
            assert "HTTP/1.1 405 Method Not Allowed" == (await client.hear())[0]

        with_client(ask)

    @pytest.mark.parametrize(
        ("sent", "status"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
            (b"GET / HTTP/1.1\r\n\r\n", 400),  # no host
            (b"GET  HTTP/1.1\r\nHost: t\r\n\r\n", 400),
            (b"GET //[ HTTP/1.1\r\nHost: t\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            (b"GET / HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 20_000, 431),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 405),
        ],
        ids=["tls", "no host", "no path", "bad target", "coding", "long", "http2"],
    )
    def test_what_is_no_request(self, sent: bytes, status: int) -> None:
        """It is refused in a word, and the connection ends."""

        async def ask(client: Client) -> None:
            await client.say(sent)
            assert str(status) in (await client.hear())[0]
            assert b"" == await client.rest()

        with_client(ask)

    @given(sent=st.binary(max_size=200) | st.text(alphabet="GET /HTP1.\r\nHost: x", max_size=200).map(str.encode))
    def test_any_bytes(self, sent: bytes) -> None:
        """Whatever a client says, the next one is served."""

        async def scenario() -> None:
            async with serving() as server:
                async with client_of(server) as rude:
                    await rude.say(sent)
                    rude.writer.write_eof()
                    await rude.rest()
                async with client_of(server) as client:
                    assert b"/ {}" == (await client.ask())[2]

        asyncio.run(scenario())


class TestConfiguration:
    def test_a_path_without_a_slash(self) -> None:
        """It could never be asked for."""
        with pytest.raises(ConfigurationError, match="pages: 'metrics' is not a path"):
            PageServer({"metrics": echo})

    def test_the_port_of_a_server_that_does_not_run(self) -> None:
        """There is none."""
        with pytest.raises(ConfigurationError, match="not started"):
            _ = PageServer({}).port

    def test_without_h11(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error says which extra to install."""
        monkeypatch.setitem(sys.modules, "h11", None)
        monkeypatch.delitem(sys.modules, "inferencepool.runtime.http._conversation", raising=False)
        with pytest.raises(MissingExtraError, match=r"inferencepool\[epp\]"):
            asyncio.run(PageServer({}).start())

    @pytest.mark.parametrize("name", ["connections", "head_bytes", "head_seconds", "idle_seconds", "send_seconds"])
    @pytest.mark.parametrize("value", [0, -1, "1", True, float("nan")])
    def test_limits(self, name: str, value: object) -> None:
        """A limit that cannot be is refused with its name."""
        with pytest.raises(ConfigurationError, match=f"page server: {name}: {value!r}"):
            PageLimits(**{name: value})  # type: ignore[arg-type]  # on purpose
