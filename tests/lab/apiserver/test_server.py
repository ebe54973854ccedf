from __future__ import annotations

import socket
import ssl
import sys
import threading
from contextlib import closing
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.lab.apiserver import ApiServer, Fault
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import PODS, Client


def test_restart_keeps_everything() -> None:
    """A server that is stopped refuses connections; started again it has its port, objects, tokens and faults."""
    server = ApiServer(initializing=0)
    client = Client(server)
    with server:
        server.pods.add(make_pod("a"))
        server.inject(Fault.internal_error(), skip=1)
        url, revision = server.url, client.get(PODS).document["metadata"]["resourceVersion"]
    with pytest.raises(ConnectionRefusedError):
        client.get(PODS)
    server.pods.add(make_pod("b"))

    with server:
        assert url == server.url
        assert [500, 200] == [client.get(PODS).status for _ in range(2)]
        (event,) = client.told(resourceVersion=revision)
        assert "b" == event["object"]["metadata"]["name"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_stop_ends_connections(how: Any) -> None:
    """A stop ends every connection, watches in the middle included, and the thread."""
    before = threading.active_count()
    server = ApiServer(initializing=0)
    server.start()
    with Client(server).raw(PODS, watch=1) as sock:
        sock.recv(1)
        server.stop(how=how)
        try:
            while sock.recv(65536):
                pass
            ended = "close"
        except ConnectionResetError:
            ended = "reset"

    assert how == ended
    assert before == threading.active_count()
    assert (0, 0) == (server.watches(), server.end_watches())
    server.stop()


def test_start_twice(server: ApiServer) -> None:
    """A server runs once at a time."""
    with pytest.raises(RuntimeError, match="is running already"):
        server.start()


def test_port_that_is_taken(server: ApiServer) -> None:
    """A port that is taken is an error, and the server can be started when it is free."""
    second = ApiServer(initializing=0, port=server.port)
    with pytest.raises(OSError, match="address already in use"):
        second.start()

    server.stop()
    with second:
        assert server.port == second.port


def test_before_the_start() -> None:
    """A server that never ran has no address, but objects."""
    server = ApiServer(initializing=0)
    server.pods.add(make_pod("a"))

    with pytest.raises(RuntimeError, match="never started"):
        _ = server.url
    assert "<ApiServer at 127.0.0.1, not running>" == repr(server)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_addresses(host: str) -> None:
    """It listens at IPv4 and IPv6, and its URL has brackets where they belong."""
    with ApiServer(initializing=0, host=host) as server:
        with socket.create_connection((host, server.port)):
            pass
        expected = f"http://[::1]:{server.port}" if ":" in host else f"http://127.0.0.1:{server.port}"

        assert expected == server.url
        assert f"<ApiServer at {expected}>" == repr(server)


def test_host_name() -> None:
    """It listens at addresses, not names."""
    with pytest.raises(ConfigurationError, match="'localhost' is not an IP address"):
        ApiServer(initializing=0, host="localhost")


class TestTls:
    def test_clients_trust_its_authority(self) -> None:
        """With TLS clients that trust the server's authority can use it, and others cannot; restarts change nothing."""
        server = ApiServer(initializing=0, tls=True)
        for _ in range(2):
            with server:
                assert 200 == Client(server).get(PODS).status
                context = ssl.create_default_context()
                with (
                    socket.create_connection(("127.0.0.1", server.port)) as sock,
                    pytest.raises(ssl.SSLCertVerificationError),
                ):
                    context.wrap_socket(sock, server_hostname="127.0.0.1")

    @pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc"])
    def test_names(self, name: str) -> None:
        """The certificate is for the loopback and for the names that pods use, under the strictest rules."""
        with ApiServer(initializing=0, tls=True) as server:
            context = ssl.create_default_context(cadata=(server.authority or b"").decode())
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            with (
                socket.create_connection(("127.0.0.1", server.port)) as sock,
                context.wrap_socket(sock, server_hostname=name) as secure,
            ):
                assert secure.getpeercert()

    def test_faults_work_over_tls(self) -> None:
        """A reset is a reset under TLS, too."""
        with ApiServer(initializing=0, tls=True) as server:
            server.inject(Fault.drop())
            with pytest.raises((ConnectionResetError, ssl.SSLError)):
                Client(server).get(PODS)


class TestConnections:
    def test_kept_alive(self, client: Client) -> None:
        """Requests share a connection, also when they come before the answer to the first."""
        with client.raw(PODS) as sock:
            sock.sendall(
                b"GET /healthz HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n\r\n" % client.account.token.encode()
            )
            received = b""
            while not received.endswith(b"ok"):
                received += sock.recv(65536)

        assert 2 == received.count(b"HTTP/1.1 200 ")

    def test_close_is_honored(self, client: Client) -> None:
        """A client that asks for the end of the connection gets it."""
        with closing(client.connect()) as connection:
            connection.request("GET", PODS, headers={**client.account.headers, "connection": "close"})
            response = connection.getresponse()
            response.read()

            assert response.will_close

    def test_nonsense(self, server: ApiServer) -> None:
        """What is no HTTP is answered with 400, and the connection closed."""
        with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
            sock.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
            received = b""
            while data := sock.recv(65536):
                received += data

        assert received.startswith(b"HTTP/1.1 400 ")
        assert 0 == len(server.requests)

    def test_body_after_a_nod(self, client: Client, server: ApiServer) -> None:
        """A client that waits with its body is told to send it."""
        body = b'{"metadata": {"name": "lock"}}'
        with socket.create_connection(("127.0.0.1", server.port), 30) as sock:
            head = (
                "POST /apis/coordination.k8s.io/v1/namespaces/default/leases HTTP/1.1\r\nhost: x\r\n"
                f"authorization: Bearer {client.account.token}\r\n"
                f"content-length: {len(body)}\r\nexpect: 100-continue\r\n\r\n"
            )
            sock.sendall(head.encode())
            assert b"HTTP/1.1 100 " in sock.recv(65536)
            sock.sendall(body)
            assert b"HTTP/1.1 201 " in sock.recv(65536)

    def test_slow_reader(self, client: Client, server: ApiServer) -> None:
        """A client that does not read holds nobody up but itself."""
        for number in range(40):
            server.pods.add({"metadata": {"name": f"p{number}", "annotations": {"a": "x" * 250_000}}})
        with client.raw(PODS, watch=1) as slow:
            assert 40 == len(client.get(PODS).names)
            received = 0
            while received < 10_000_000:
                received += len(slow.recv(65536))


class TestLog:
    def test_requests_are_counted(self, client: Client, server: ApiServer) -> None:
        """Requests are in the log in their order, with what they were about and what became of them."""
        client.get(PODS, limit=5)
        client.get(f"{PODS}/a")
        client.send("POST", PODS, {"metadata": {}})
        found = [(each.request.verb, each.request.target.name, each.status) for each in server.requests]

        assert [("list", "", 200), ("get", "a", 404), ("create", "", 422)] == found
        assert 2 == server.requests.count(where=lambda request: request.method == "GET")
        assert {"limit": "5"} == server.requests.matching(verb="list")[0].request.query
        assert "<RequestLog of 3>" == repr(server.requests)
        server.requests.clear()
        assert 0 == len(server.requests)

    def test_wait(self, client: Client, server: ApiServer) -> None:
        """A test waits for requests to come, and is told how many came in vain."""
        thread = threading.Thread(target=lambda: client.get(PODS))
        thread.start()
        assert 1 == len(server.requests.wait(verb="list"))
        thread.join()
        with pytest.raises(TimeoutError, match=r"1 of 2 requests came in 0.01 s: verb='list'"):
            server.requests.wait(2, timeout=0.01, verb="list")
        with pytest.raises(TimeoutError, match="it did not become true"):
            server.requests.wait_until(lambda: False, timeout=0.01)


@pytest.mark.parametrize(
    ("module", "tls", "told"), [("h11", False, "needs h11"), ("cryptography", True, "cryptography")]
)
def test_missing_extra(monkeypatch: pytest.MonkeyPatch, module: str, tls: bool, told: str) -> None:
    """Without the extra the error says which to install."""
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "inferencepool.lab.apiserver._certificates", raising=False)

    with pytest.raises(MissingExtraError, match=rf'{told}.*"inferencepool\[testing\]"'):
        ApiServer(initializing=0, tls=tls).start()
