"""Each way in which a server may misbehave: its endpoint becomes stale with the reason, and others are untouched."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
import tracemalloc
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from inferencepool.runtime.scraping import ScrapingOptions, ScrapingTls
from tests.bombs import gzip_bomb
from tests.patience import PATIENCE
from tests.runtime.scraping.servers import (
    PageServer,
    Play,
    answer_with,
    endpoint_of,
    on_loop,
    page_of,
    read_request,
    response_of,
    scraped,
    until,
)
from tests.runtime.tls.authority import Authority, Pair

_MEBIBYTE = 1024 * 1024
HTML = b"<!DOCTYPE html><html><body>Not here</body></html>\n"


async def endless(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a page of 200 MB, as far as the client lets it."""
    while await read_request(server, reader):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        piece = page_of() * 100
        for _ in range(200_000_000 // len(piece)):
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            server.sent += len(piece)


async def one_byte_a_second(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send a page byte by byte, one a second."""
    await read_request(server, reader)
    for byte in response_of(page_of()):
        writer.write(bytes([byte]))
        await asyncio.sleep(1)


async def silent(server: PageServer, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take requests and say nothing."""
    while await read_request(server, reader):
        pass


async def reset(server: PageServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send half a page, and reset the connection."""
    await read_request(server, reader)
    writer.write(response_of(page_of())[:100])
    await writer.drain()
    sock = writer.get_extra_info("socket")
    assert isinstance(sock, socket.socket) or hasattr(sock, "setsockopt")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(server: PageServer, reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Take a request and hang up."""
    await read_request(server, reader)


BAD: Mapping[str, tuple[Play, str]] = {
    "404": (answer_with(response_of(b"", "404 Not Found")), "it answers 404 Not Found"),
    "html": (answer_with(response_of(HTML, content_type="text/html")), "it answers with HTML"),
    "html without a type": (answer_with(response_of(HTML)), "metrics page, line 1: "),
    "200 MB": (endless, "the page is longer than 1048576 bytes"),
    "200 MB announced": (
        answer_with(b"HTTP/1.1 200 OK\r\ncontent-length: 200000000\r\n\r\n"),
        "the page is longer than 1048576 bytes",
    ),
    "one byte a second": (one_byte_a_second, "the response was not whole, with 1 bytes, within 0.3 s"),
    "redirect": (
        answer_with(response_of(b"", "307 Temporary Redirect", location="http://127.0.0.1:1/x")),
        "it answers 307 Temporary Redirect to 'http://127.0.0.1:1/x': redirects are not followed",
    ),
    "bad gzip": (answer_with(response_of(b"no gzip", content_encoding="gzip")), "bad gzip: "),
    "gzip bomb": (
        answer_with(response_of(gzip_bomb(200), content_encoding="gzip")),
        "longer than 1048576 bytes when decompressed",
    ),
    "reset": (reset, "the connection was reset after 100 bytes of the response"),
    "hangs up": (hang_up, "the connection was closed without a response"),
    "silence": (silent, "no response within 0.3 s"),
    "no http": (answer_with(b"\x00\x01\x02"), "no HTTP/1 response"),
    "wrong engine": (
        answer_with(response_of(b"sglang:num_queue_reqs 1\n")),
        "holds no metrics of engine 'vllm'; looked for vllm:num_requests_waiting",
    ),
    "no number": (answer_with(response_of(b"vllm:kv_cache_usage_perc much\n")), "much"),
    "cut page": (answer_with(response_of(b"vllm:num_requests_waiting 1")), "the page is cut"),
}


@pytest.mark.parametrize("name", BAD)
@on_loop
async def test_bad_server(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The endpoint becomes stale, the log and the statistics say why, and a good one beside it stays fresh."""
    caplog.set_level(logging.WARNING, logger="inferencepool")
    play, reason = BAD[name]
    async with PageServer(play) as bad, PageServer() as good:
        good.page = page_of(3)
        # Where nothing but time ends a scrape, a good one may be late, too.
        is_slow = "within 0.3 s" in reason
        options = ScrapingOptions(interval=0.01, timeout=0.3 if is_slow else PATIENCE)
        endpoints = [endpoint_of("bad", bad.port), endpoint_of("good", good.port)]
        async with scraped(endpoints, options, threshold=0.5) as running:
            await running.next_page("good")
            await until(lambda: reason in running.scrapes("bad").reason)
            await until(lambda: any(record.getMessage() == "metrics stale" for record in caplog.records))
            scrapes = running.scrapes("bad")

            assert running.is_stale("bad")
            assert (True, None) == (scrapes.stale, scrapes.age)
            assert scrapes.failures == scrapes.fetch_errors + scrapes.read_errors > 0
            assert 3 == (await running.next_page("good")).waiting_queue_size
            await until(lambda: not running.is_stale("good"))
            assert running.is_stale("bad")
            assert is_slow or 0 == running.scrapes("good").fetch_errors
            told = [record.fields for record in caplog.records if record.getMessage() == "metrics stale"]  # type: ignore[attr-defined]  # set by log_event
            assert [True] == [reason in each["reason"] for each in told if each["endpoint"] == "default/bad"]
            assert is_slow or 1 == len(told)

            # As soon as it behaves it is fresh again.
            bad.behave(page_of(4))
            await until(lambda: running.metrics("bad").waiting_queue_size == 4)
            await until(lambda: not running.is_stale("bad"))
            await until(lambda: running.scrapes("bad").failures == 0)
            assert "" == running.scrapes("bad").reason


@on_loop
async def test_endless_page_costs_little_memory() -> None:
    """No more is read of a page than it may have, however fast it comes."""
    async with PageServer(endless) as server:
        options = ScrapingOptions(interval=0.01, timeout=PATIENCE, max_page_size=256 * 1024)
        tracemalloc.start()
        try:
            async with scraped([endpoint_of("a", server.port)], options) as running:
                await until(lambda: running.scrapes("a").failures >= 4)
                assert "longer than 262144 bytes" in running.scrapes("a").reason
                _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 8 * _MEBIBYTE
        # What the sockets hold is beside what was read.
        assert server.sent < 100 * _MEBIBYTE


@on_loop
async def test_nobody_listens() -> None:
    """A port at which nobody listens is named, and tried less and less often."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with scraped([endpoint_of("a", port)]) as running:
        await until(lambda: running.scrapes("a").failures >= 5)
        assert "no connection: Connection refused" == running.scrapes("a").reason
        target = running.scraper._targets["default/a"]
        assert target.due - target.began > 0.1


@on_loop
async def test_connection_that_is_never_made() -> None:
    """A server that does not even accept is given up in time."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        port = sock.getsockname()[1]
        with ExitStack() as stack:
            # Whoever connects after these waits in vain.
            for _ in range(4):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            async with scraped([endpoint_of("a", port)], ScrapingOptions(interval=0.01, timeout=0.3)) as running:
                await until(lambda: "within 0.3 s" in running.scrapes("a").reason)
                assert "no connection within 0.3 s" == running.scrapes("a").reason


def write_pair(directory: Path, pair: Pair) -> tuple[str, str]:
    """Write a certificate and its key; give the names of the files."""
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(pair.chain)
    key.write_bytes(pair.key)
    return str(chain), str(key)


class TestTls:
    @staticmethod
    def server_tls(directory: Path, pair: Pair, authority: Authority | None = None) -> ssl.SSLContext:
        """The server's side; with an authority, clients must show a certificate of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*write_pair(directory, pair))
        if authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=authority.pem.decode())
        return context

    @on_loop
    async def test_verification(self, tmp_path: Path) -> None:
        """Any certificate will do unless verification is on; then it must be of the authority, and for the name."""
        ours, other = Authority(), Authority()
        context = self.server_tls(tmp_path, ours.issue("server"))
        for name, authority in (("ours.pem", ours), ("other.pem", other)):
            (tmp_path / name).write_bytes(authority.pem)
        trusted, untrusted = str(tmp_path / "ours.pem"), str(tmp_path / "other.pem")
        async with PageServer(tls=context) as server:
            for tls, reason in (
                (ScrapingTls(), ""),
                (ScrapingTls(verify=True, ca_path=trusted), ""),
                (ScrapingTls(verify=True, ca_path=trusted, server_name="localhost"), ""),
                (ScrapingTls(verify=True, ca_path=trusted, server_name="else.example"), "certificate is not accepted"),
                (ScrapingTls(verify=True, ca_path=untrusted), "certificate is not accepted: "),
                (ScrapingTls(verify=True), "TLS: the certificate is not accepted: "),
            ):
                options = ScrapingOptions(interval=0.01, timeout=PATIENCE, scheme="https", tls=tls)
                async with scraped([endpoint_of("a", server.port)], options) as running:
                    if reason:
                        await until(lambda: running.scrapes("a").reason)
                        assert reason in running.scrapes("a").reason
                    else:
                        await running.next_page("a")

    @on_loop
    async def test_client_certificate(self, tmp_path: Path) -> None:
        """A server that wants a certificate gets one, if there is one."""
        authority = Authority()
        (tmp_path / "client").mkdir()
        chain, key = write_pair(tmp_path / "client", authority.issue("picker"))
        async with PageServer(tls=self.server_tls(tmp_path, authority.issue("server"), authority)) as server:
            options = ScrapingOptions(timeout=PATIENCE, scheme="https", tls=ScrapingTls(cert_path=chain, key_path=key))
            async with scraped([endpoint_of("a", server.port)], options) as running:
                await running.next_page("a")
            options = ScrapingOptions(timeout=PATIENCE, scheme="https")
            async with scraped([endpoint_of("a", server.port)], options) as running:
                await until(lambda: running.scrapes("a").reason)
                # The alert and the end of the connection may overtake each other.
                assert running.scrapes("a").reason.startswith(("TLS: ", "the connection was "))
                assert running.scrapes("a").age is None

    @on_loop
    async def test_one_side_without_tls(self, tmp_path: Path) -> None:
        """TLS where there is none, and none where there is, are named."""
        async with (
            PageServer() as plain,
            PageServer(tls=self.server_tls(tmp_path, Authority().issue("server"))) as secure,
        ):
            async with scraped([endpoint_of("a", plain.port)], ScrapingOptions(scheme="https")) as running:
                await until(lambda: running.scrapes("a").reason)
                assert "TLS: " in running.scrapes("a").reason or "within 1 s" in running.scrapes("a").reason
            async with scraped([endpoint_of("a", secure.port)]) as running:
                await until(lambda: running.scrapes("a").reason)
                assert running.scrapes("a").age is None
