"""A client that hides nothing: requests and responses as they are on the wire."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from itertools import takewhile
from typing import Any
from urllib.parse import urlencode

import attrs

from inferencepool.lab.apiserver import Account, ApiServer

PODS = "/api/v1/namespaces/default/pods"
POOLS = "/apis/inference.networking.k8s.io/v1/namespaces/default/inferencepools"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
TIMEOUT = 30.0


@attrs.frozen
class Reply:
    """A response that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def names(self) -> list[str]:
        """The names of the objects in a list."""
        return [item["metadata"]["name"] for item in self.document["items"]]


def target(path: str, params: Mapping[str, object]) -> str:
    """Join path and query."""
    return f"{path}?{urlencode(params)}" if params else path


class Client:
    """Sends requests of one account, each on a connection of its own."""

    def __init__(self, server: ApiServer, account: Account | None = None) -> None:
        self.server = server
        self.account = account or server.admin

    def send(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", **params: Any
    ) -> Reply:
        """Send a request and read the response to its end."""
        with self.open(method, path, body, kind=kind, **params) as response:
            return Reply(response.status, dict(response.headers.items()), response.read())

    def get(self, path: str, **params: Any) -> Reply:
        """Get a path."""
        return self.send("GET", path, **params)

    @contextmanager
    def open(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", **params: Any
    ) -> Iterator[HTTPResponse]:
        """Send a request and leave the response to be read."""
        with closing(self.connect()) as connection:
            content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            headers = {**self.account.headers, "content-type": kind, "user-agent": "tester/1.0"}
            connection.request(method, target(path, params), content, headers)
            with closing(connection.getresponse()) as response:
                yield response

    def connect(self) -> HTTPConnection:
        """Connect."""
        host, port = "127.0.0.1", self.server.port
        if self.server.authority is None:
            return HTTPConnection(host, port, timeout=TIMEOUT)
        context = ssl.create_default_context(cadata=self.server.authority.decode())
        return HTTPSConnection(host, port, timeout=TIMEOUT, context=context)

    @contextmanager
    def watch(self, path: str = PODS, **params: Any) -> Iterator[Iterator[Any]]:
        """Watch; gives the events as they come."""
        with self.open("GET", path, watch=1, **params) as response:
            assert response.status == 200, response.read()
            yield (json.loads(line) for line in response)

    def events(self, path: str = PODS, **params: Any) -> list[Any]:
        """Watch to the end, and give all events."""
        with self.watch(path, **params) as events:
            return list(events)

    def told(self, path: str = PODS, **params: Any) -> list[Any]:
        """Watch, and give what the watch tells up to now."""
        with self.watch(path, allowWatchBookmarks="true", **params) as events:
            self.server.send_bookmarks()
            return list(takewhile(lambda event: not _is_plain_bookmark(event), events))

    @contextmanager
    def raw(self, path: str, **params: Any) -> Iterator[socket.socket]:
        """Send a GET request and leave all of the response to be read from the socket."""
        with socket.create_connection(("127.0.0.1", self.server.port), TIMEOUT) as sock:
            lines = [
                f"GET {target(path, params)} HTTP/1.1",
                "host: test",
                f"authorization: Bearer {self.account.token}",
            ]
            sock.sendall("\r\n".join([*lines, "", ""]).encode())
            yield sock


def _is_plain_bookmark(event: Any) -> bool:
    return event["type"] == "BOOKMARK" and "annotations" not in event["object"]["metadata"]


def briefly(events: list[Any]) -> list[tuple[str, str]]:
    """Give type and name of each event."""
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]
