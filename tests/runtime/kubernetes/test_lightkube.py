"""The client of an API server that lightkube's parts make."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from inferencepool.errors import ApiServerError
from inferencepool.lab.apiserver import ApiServer, Fault
from inferencepool.runtime.kubernetes import LightkubeTransport, load_cluster
from inferencepool.testing import make_pod
from tests.patience import PATIENCE

PODS = "/api/v1/namespaces/default/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
WATCH = {"watch": "true", "resourceVersion": "0"}


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run a test that is a coroutine."""

    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(bounded())


@asynccontextmanager
async def connected(kubeconfig: Path | str) -> AsyncGenerator[LightkubeTransport, None]:
    """Connect as *kubeconfig* says."""
    transport = LightkubeTransport(load_cluster(str(kubeconfig)))
    try:
        yield transport
    finally:
        await transport.close()


def kubeconfig_of(server: ApiServer, path: Path, user: Mapping[str, Any]) -> Path:
    """Write a kubeconfig for a user of one's own making."""
    document = json.loads(server.kubeconfig(path).read_text())
    document["users"][0]["user"] = user
    path.write_text(json.dumps(document))
    return path


def names(body: bytes) -> list[str]:
    """The names in a list."""
    return [item["metadata"]["name"] for item in json.loads(body)["items"]]


class TestRequests:
    @pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
    def test_get(self, tls: bool, tmp_path: Path) -> None:
        """The body of an answer is given, whatever it is packed in; the query is quoted."""

        async def scenario() -> None:
            with ApiServer(initializing=0, tls=tls) as server:
                for number in range(300):
                    server.pods.add(make_pod(f"p{number:03}", labels={"app": "a"}))
                async with connected(server.kubeconfig(tmp_path / "config")) as transport:
                    body = await transport.get(PODS, {"labelSelector": "app in (a,b),!c", "limit": "2"})
                    assert ["p000", "p001"] == names(body)
                    assert 300 == len(names(await transport.get(PODS, {})))
                (*_, packed) = server.requests.matching(verb="list")
                assert "gzip" in packed.request.headers.get("accept-encoding", "")

        run(scenario)

    def test_stream(self, tmp_path: Path) -> None:
        """A watch comes as it is told, an empty piece first; it ends when it is not wanted any more."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                async with connected(server.kubeconfig(tmp_path / "config")) as transport:
                    async with aclosing(transport.stream_lines(PODS, WATCH)) as pieces:
                        assert b"" == await anext(pieces)
                        server.pods.add(make_pod("a"))
                        event = json.loads(await anext(pieces))
                        assert ("ADDED", "a") == (event["type"], event["object"]["metadata"]["name"])
                    async with aclosing(transport.stream_lines(PODS, WATCH | {"timeoutSeconds": "1"})) as pieces:
                        assert 2 == len([piece async for piece in pieces])

        run(scenario)

    def test_dead_connections_are_looked_after(self, tmp_path: Path) -> None:
        """The system probes a connection on which nothing comes."""

        async def scenario() -> None:
            with ApiServer(initializing=0, tls=True) as server:
                async with (
                    connected(server.kubeconfig(tmp_path / "config")) as transport,
                    aclosing(transport.stream_lines(PODS, WATCH)) as pieces,
                ):
                    await anext(pieces)
                    (connection,) = transport._client._transport._pool.connections  # type: ignore[attr-defined]  # internals of the client
                    stream = connection._connection._network_stream
                    probed = stream.get_extra_info("socket")
                    assert probed.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                    assert 15 == probed.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

        run(scenario)

    def test_writing(self, tmp_path: Path) -> None:
        """Objects are created and replaced; what the server refuses is told with its status."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                async with connected(server.kubeconfig(tmp_path / "config")) as transport:
                    lease = {
                        "apiVersion": "coordination.k8s.io/v1",
                        "kind": "Lease",
                        "metadata": {"name": "a", "namespace": "default"},
                        "spec": {"holderIdentity": "x"},
                    }
                    made = json.loads(await transport.create(LEASES, lease))
                    made["spec"]["holderIdentity"] = "y"
                    replaced = json.loads(await transport.replace(f"{LEASES}/a", made))
                    assert "y" == replaced["spec"]["holderIdentity"]
                    with pytest.raises(ApiServerError, match="409 Conflict: ") as caught:
                        await transport.create(LEASES, lease)
                    assert 409 == caught.value.status
                    with pytest.raises(ApiServerError, match="409 Conflict: "):
                        await transport.replace(f"{LEASES}/a", made)

        run(scenario)


class TestActingAsAnother:
    def test_rights_are_those_of_the_other(self, tmp_path: Path) -> None:
        """A kubeconfig with ``as`` may do what the one whom it names may, and tells the groups with each request."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}
                epp = server.service_account("epp", rules=[rule])
                user = {"token": server.admin.token, "as": epp.user, "as-groups": ["system:masters", "b"]}
                server.pods.add(make_pod("a"))
                async with connected(kubeconfig_of(server, tmp_path / "config", user)) as transport:
                    assert ["a"] == names(await transport.get(PODS, {}))
                    with pytest.raises(ApiServerError, match=f'User "{epp.user}" cannot list resource "leases"'):
                        await transport.get(LEASES, {})
                    async with aclosing(transport.stream_lines(PODS, WATCH)) as pieces:
                        await anext(pieces)
                told = {each.request.headers["impersonate-group"] for each in server.requests.matching()}
                assert {"system:masters, b"} == told

        run(scenario)

    def test_right_to_do_so(self, tmp_path: Path) -> None:
        """Who may not act as another one is refused, and is not taken for himself."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
                epp = server.service_account("epp", rules=[rule])
                user = {"token": epp.token, "as": "somebody"}
                async with connected(kubeconfig_of(server, tmp_path / "config", user)) as transport:
                    with pytest.raises(ApiServerError, match='cannot impersonate resource "users"') as caught:
                        await transport.get(PODS, {})
                assert 403 == caught.value.status

        run(scenario)


class TestRefusals:
    def test_status(self, tmp_path: Path) -> None:
        """What the server says is told, with its status and for how long to wait, for bodies and streams alike."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                async with connected(server.kubeconfig(tmp_path / "config")) as transport:
                    server.inject(Fault.too_many_requests(7), times=2)
                    with pytest.raises(ApiServerError) as caught:
                        await transport.get(PODS, {})
                    assert (429, 7.0) == (caught.value.status, caught.value.retry_after)
                    assert f"GET {server.url}{PODS}: 429 Too Many Requests: " in str(caught.value)
                    with pytest.raises(ApiServerError) as caught:
                        await anext(transport.stream_lines(PODS, WATCH))
                    assert (429, 7.0) == (caught.value.status, caught.value.retry_after)

        run(scenario)

    @pytest.mark.parametrize(
        ("fault", "status", "expected"),
        [
            (Fault.unavailable(), 503, "503 Service Unavailable: upstream connect error"),
            (Fault.status(302, "Found"), 302, "302 Found"),
            (Fault.drop("close"), None, "RemoteProtocolError"),
            (Fault.drop("reset"), None, "ReadError"),
            (Fault.break_off("reset", bytes=5), None, "ReadError"),
        ],
    )
    def test_others(self, fault: Fault, status: int | None, expected: str, tmp_path: Path) -> None:
        """Whatever else goes wrong is told the same way."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server, server.inject(fault, times=None):
                async with connected(server.kubeconfig(tmp_path / "config")) as transport:
                    with pytest.raises(ApiServerError, match=f"GET {server.url}{PODS}: {expected}") as caught:
                        await transport.get(PODS, {})
                    assert status == caught.value.status

        run(scenario)

    def test_nobody_there(self, tmp_path: Path) -> None:
        """A server that does not run is told as an error without status."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                file = server.kubeconfig(tmp_path / "config")
            async with connected(file) as transport:
                with pytest.raises(ApiServerError, match=f"GET {server.url}{PODS}: ConnectError: ") as caught:
                    await transport.get(PODS, {})
                assert caught.value.status is None

        run(scenario)

    def test_foreign_certificate(self, tmp_path: Path) -> None:
        """A server whose certificate another authority signed is not talked to."""

        async def scenario() -> None:
            with ApiServer(initializing=0, tls=True) as server, ApiServer(initializing=0, tls=True) as other:
                document = json.loads(server.kubeconfig(tmp_path / "config").read_text())
                foreign = json.loads(other.kubeconfig(tmp_path / "other").read_text())
                name = "certificate-authority-data"
                document["clusters"][0]["cluster"][name] = foreign["clusters"][0]["cluster"][name]
                (tmp_path / "config").write_text(json.dumps(document))
                async with connected(tmp_path / "config") as transport:
                    with pytest.raises(ApiServerError, match="certificate verify failed"):
                        await transport.get(PODS, {})
                assert 0 == len(server.requests)

        run(scenario)


class TestCredentials:
    def test_token_that_rotates(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a pod, a token that is refused is read again, once for each request."""

        async def scenario() -> None:
            with ApiServer(initializing=0, tls=True) as server:
                account = server.service_account(
                    "epp", rules=[{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
                )
                files = account.write_files(tmp_path / "account")
                for name, value in server.environment.items():
                    monkeypatch.setenv(name, value)
                transport = LightkubeTransport(load_cluster(environ={}, service_account=str(files)))
                await transport.get(PODS, {})
                account.renew()
                server.requests.clear()
                await transport.get(PODS, {})
                assert [401, 200] == [entry.status for entry in server.requests]
                account.renew(write=False)
                server.requests.clear()
                with pytest.raises(ApiServerError) as caught:
                    await transport.get(PODS, {})
                assert 401 == caught.value.status
                assert 2 == len(server.requests)
                account.rewrite()
                await transport.get(PODS, {})
                (files / "token").unlink()
                account.renew(write=False)
                with pytest.raises(
                    ApiServerError, match=r"no credentials: ConfigurationError: token file .*: no such file"
                ):
                    await transport.get(PODS, {})
                await transport.close()

        run(scenario)

    def test_rights(self, tmp_path: Path) -> None:
        """What a role does not allow is refused, with what the server says of it."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                account = server.service_account("epp")
                async with connected(account.write_kubeconfig(tmp_path / "config")) as transport:
                    with pytest.raises(ApiServerError, match='cannot list resource "pods"') as caught:
                        await transport.get(PODS, {})
                    assert 403 == caught.value.status

        run(scenario)

    def test_plugin(self, tmp_path: Path) -> None:
        """A plugin that gives tokens is asked once, and again when its token is refused."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                token, calls = tmp_path / "token", tmp_path / "calls"
                token.write_text(server.admin.token)
                plugin = tmp_path / "login"
                plugin.write_text(
                    f"#!{sys.executable}\n"
                    "import json, os, pathlib\n"
                    f"pathlib.Path({str(calls)!r}).open('a').write('x')\n"
                    "asked = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
                    f"token = pathlib.Path({str(token)!r}).read_text()\n"
                    "print(json.dumps({**asked, 'status': {'token': token}}))\n"
                )
                plugin.chmod(plugin.stat().st_mode | stat.S_IEXEC)
                user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin)}}
                async with connected(kubeconfig_of(server, tmp_path / "config", user)) as transport:
                    await transport.get(PODS, {})
                    await transport.get(PODS, {})
                    assert "x" == calls.read_text()
                    token.write_text(server.admin.renew())
                    await transport.get(PODS, {})
                    assert "xx" == calls.read_text()

        run(scenario)

    @pytest.mark.parametrize(
        ("script", "expected"),
        [
            ("exit 3", "ended with status 3"),
            ("echo Error: no network >&2; exit 3", "ended with status 3: Error: no network"),
            ("echo no", "printed no JSON"),
            ("echo '{}'", "printed no status.token"),
            ("echo '[]'", "printed no status.token"),
            ('echo \'{"status": {"token": 5}}\'', "status.token: is no text"),
            ("yes", "printed more than 1048576 bytes"),
            (None, "cannot be run: FileNotFoundError"),
        ],
    )
    def test_plugin_that_fails(self, script: str | None, expected: str, tmp_path: Path) -> None:
        """A plugin that gives no token is told as the reason."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                plugin = tmp_path / "login"
                if script is not None:
                    plugin.write_text(f"#!/bin/sh\n{script}\n")
                    plugin.chmod(0o755)
                user = {"exec": {"apiVersion": "client.authentication.k8s.io/v1beta1", "command": str(plugin)}}
                async with connected(kubeconfig_of(server, tmp_path / "config", user)) as transport:
                    with pytest.raises(
                        ApiServerError, match=f"no credentials: ConfigurationError: exec plugin .*: {expected}"
                    ):
                        await transport.get(PODS, {})
                assert 0 == len(server.requests)

        run(scenario)

    def test_nobody(self, tmp_path: Path) -> None:
        """A context without a user asks without credentials, as behind ``kubectl proxy``."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                document = json.loads(server.kubeconfig(tmp_path / "config").read_text())
                del document["contexts"][0]["context"]["user"]
                (tmp_path / "config").write_text(json.dumps(document))
                async with connected(tmp_path / "config") as transport:
                    assert f"<LightkubeTransport to {server.url}>" == repr(transport)
                    with pytest.raises(ApiServerError) as caught:
                        await transport.get(PODS, {})
                    assert caught.value.status in (401, 403)

        run(scenario)
