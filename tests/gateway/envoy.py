"""A real Envoy for tests: checking a configuration, and running one in front of small HTTP servers."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
import pytest

from inferencepool.errors import MissingExtraError
from inferencepool.gateway import HostPort
from inferencepool.lab.envoy import EnvoyProcess, find_envoy, validate
from tests.patience import PATIENCE

__all__ = [
    "Reply",
    "RunningEnvoy",
    "Upstream",
    "check",
    "dead_address",
    "require_envoy",
    "running_envoy",
    "silent_address",
    "upstream",
]


def require_envoy() -> None:
    """Skip the test on a machine without Envoy."""
    try:
        find_envoy()
    except MissingExtraError as error:
        pytest.skip(str(error))


def check(document: Mapping[str, Any]) -> None:
    """Let Envoy check a bootstrap; an error tells what it objects to."""
    require_envoy()
    asyncio.run(validate(document, timeout=PATIENCE))


@attrs.frozen
class Reply:
    """What a client got: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body, which an `Upstream` wrote."""
        return json.loads(self.body)


@attrs.frozen
class RunningEnvoy:
    """A running Envoy and where it listens."""

    address: HostPort

    def request(
        self, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request on a connection of its own."""
        connection = http.client.HTTPConnection(self.address.host, self.address.port, timeout=PATIENCE)
        try:
            connection.request(method, "/v1/completions", body, dict(headers or {}))
            response = connection.getresponse()
            lowered = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, lowered, response.read())
        finally:
            connection.close()


@contextmanager
def running_envoy(document: Mapping[str, Any]) -> Iterator[RunningEnvoy]:
    """Run Envoy on a bootstrap whose one listener has port 0; end it afterwards."""
    require_envoy()
    with asyncio.Runner() as runner:
        process = EnvoyProcess(document, log_level="error")
        runner.run(process.start(PATIENCE))
        try:
            (address,) = process.listeners.values()
            yield RunningEnvoy(HostPort.parse(address))
        finally:
            runner.run(process.stop())


class Upstream(ThreadingHTTPServer):
    """A server that answers with what it got: its own port, the request's headers, and size and hash of its body."""

    daemon_threads = True
    # Envoy keeps its connections; their threads end with the test process.
    block_on_close = False

    def __init__(self, status: int = 200) -> None:
        super().__init__(("127.0.0.1", 0), _Echo)
        self.status = status
        self.port: int = self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that Envoy resets when it ends; other errors reach the test as a wrong answer."""


class _Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        told = {
            "port": self.server.port,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "size": len(body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        content = json.dumps(told).encode()
        self.send_response(self.server.status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET  # noqa: N815 - the name that http.server looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""


@contextmanager
def upstream(status: int = 200) -> Iterator[Upstream]:
    """Run an `Upstream`."""
    server = Upstream(status)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


@contextmanager
def dead_address() -> Iterator[HostPort]:
    """Give an address that refuses connections; it is bound, so that nobody else gets it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield HostPort(*bound.getsockname())


@contextmanager
def silent_address() -> Iterator[HostPort]:
    """Give an address that takes connections and then says nothing, as a process that hangs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        bound.listen(128)
        yield HostPort(*bound.getsockname())
