from __future__ import annotations

import base64
import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from inferencepool.lab.apiserver import ApiServer, Document
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import LEASES, MERGE, PODS, POOLS, Client

READ_PODS = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}


def test_request_without_a_token(client: Client, server: ApiServer) -> None:
    """Who shows no token, or not as a bearer, is anonymous and may not; a token that is not valid is not taken."""
    for headers, status, reason in (
        ({}, 403, "Forbidden"),
        ({"authorization": f"Basic {server.admin.token}"}, 403, "Forbidden"),
        ({"authorization": "Bearer x"}, 401, "Unauthorized"),
    ):
        connection = client.connect()
        connection.request("GET", PODS, headers=headers)
        response = connection.getresponse()
        assert (status, reason) == (response.status, json.loads(response.read())["reason"])
        connection.close()


@pytest.mark.parametrize(("path", "status"), [("/healthz", 200), ("/version", 200), ("/api", 403), ("/apis", 403)])
def test_anonymous_paths(client: Client, path: str, status: int) -> None:
    """Who shows no token may ask for health and version, and for nothing else."""
    with closing(client.connect()) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()

        assert status == response.status


def test_renewed_token(client: Client, server: ApiServer, tmp_path: Path) -> None:
    """After a renewal the old token is refused, and the files have the new one when they are written again."""
    config = server.kubeconfig(tmp_path / "kubeconfig")
    folder = server.admin.write_files(tmp_path / "files")
    old = server.admin.token
    server.admin.renew(write=False)

    assert old == (folder / "token").read_text()
    assert server.admin.token != old
    server.admin.rewrite()
    assert server.admin.token == (folder / "token").read_text()
    assert server.admin.token == json.loads(config.read_text())["users"][0]["user"]["token"]
    assert 200 == client.get(PODS).status
    assert server.admin.renew() == (folder / "token").read_text()


def test_kubeconfig(server: ApiServer, tmp_path: Path) -> None:
    """A kubeconfig names the server, the token and the namespace."""
    document = json.loads(server.kubeconfig(tmp_path / "kubeconfig").read_text())

    assert {"server": server.url} == document["clusters"][0]["cluster"]
    assert {"token": server.admin.token} == document["users"][0]["user"]
    assert "default" == document["contexts"][0]["context"]["namespace"]
    assert document["current-context"] == document["contexts"][0]["name"]


def test_files_of_a_pod(tmp_path: Path) -> None:
    """A pod finds a token, its namespace and the authority's certificate, and variables that name the server."""
    with ApiServer(initializing=0, tls=True) as server:
        account = server.service_account("epp", "inference")
        folder = account.write_files(tmp_path / "serviceaccount")
        authority = base64.b64decode(
            json.loads(account.write_kubeconfig(tmp_path / "config").read_text())["clusters"][0]["cluster"][
                "certificate-authority-data"
            ]
        )

        assert (account.token, "inference") == ((folder / "token").read_text(), (folder / "namespace").read_text())
        assert server.authority == (folder / "ca.crt").read_bytes() == authority
        assert server.url == "https://{KUBERNETES_SERVICE_HOST}:{KUBERNETES_SERVICE_PORT}".format(**server.environment)


class TestReviews:
    @pytest.fixture(name="epp")
    def _epp(self, server: ApiServer) -> Client:
        """Give a client that may read pods."""
        return Client(server, server.service_account("epp", rules=[READ_PODS]))

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ({"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "default"}}, True),
            ({"resourceAttributes": {"verb": "list", "resource": "pods"}}, False),
            ({"resourceAttributes": {"verb": "get", "resource": "pods", "subresource": "status"}}, False),
            ({"nonResourceAttributes": {"verb": "get", "path": "/version"}}, True),
            ({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}, False),
        ],
    )
    def test_access(self, client: Client, epp: Client, spec: Document, expected: bool) -> None:
        """An account asks what it may do, and others may ask about it if they have the right to."""
        reviews = "/apis/authorization.k8s.io/v1"
        own = epp.send("POST", f"{reviews}/selfsubjectaccessreviews", {"spec": spec})
        about = spec | {"user": epp.account.user}

        assert (201, "SelfSubjectAccessReview") == (own.status, own.document["kind"])
        assert expected is own.document["status"]["allowed"]
        assert 403 == epp.send("POST", f"{reviews}/subjectaccessreviews", {"spec": about}).status
        others = client.send("POST", f"{reviews}/subjectaccessreviews", {"spec": about})
        assert expected is others.document["status"]["allowed"]

    def test_token(self, client: Client, epp: Client) -> None:
        """Whoever has the right to learns whose token it is that somebody shows."""
        path = "/apis/authentication.k8s.io/v1/tokenreviews"
        known = client.send("POST", path, {"spec": {"token": epp.account.token}}).document["status"]
        unknown = client.send("POST", path, {"spec": {"token": "x"}}).document["status"]

        assert (True, epp.account.user) == (known["authenticated"], known["user"]["username"])
        assert "authenticated" not in unknown

    def test_oneself(self, epp: Client) -> None:
        """An account learns who it is."""
        reply = epp.send("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {})

        assert epp.account.user == reply.document["status"]["userInfo"]["username"]


class TestRoles:
    def test_account_may_do_nothing_at_first(self, server: ApiServer) -> None:
        """A service account without a role may ask what is served, and nothing else."""
        client = Client(server, server.service_account("epp"))
        reply = client.get(PODS)

        assert (403, "Forbidden") == (reply.status, reply.document["reason"])
        assert (
            'pods is forbidden: User "system:serviceaccount:default:epp" cannot list resource "pods" '
            'in API group "" in the namespace "default"' == reply.document["message"]
        )
        assert [200, 200, 403] == [client.get(path).status for path in ("/apis", "/version", "/metrics")]

    @pytest.mark.parametrize(
        ("method", "path", "params", "expected"),
        [
            ("GET", PODS, {}, 200),
            ("GET", f"{PODS}/a", {}, 200),
            ("GET", PODS, {"watch": 1, "timeoutSeconds": 1}, 200),
            ("GET", "/api/v1/pods", {}, 403),
            ("GET", "/api/v1/namespaces/other/pods", {}, 403),
            ("DELETE", f"{PODS}/a", {}, 403),
            ("GET", LEASES, {}, 403),
        ],
    )
    def test_role_allows_what_it_names(
        self, server: ApiServer, method: str, path: str, params: dict[str, Any], expected: int
    ) -> None:
        """A role allows its verbs on its resources in its namespace, and nothing else."""
        server.pods.add(make_pod("a"))
        client = Client(server, server.service_account("epp", rules=[READ_PODS]))

        assert expected == client.send(method, path, **params).status

    def test_names(self, server: ApiServer) -> None:
        """A rule with names allows those objects, and lists and watches that are about one of them."""
        rule = {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": ["lock"],
            "verbs": ["get", "list", "update"],
        }
        server.leases.add({"metadata": {"name": "lock"}})
        client = Client(server, server.service_account("epp", rules=[rule]))

        assert [200, 403] == [client.get(f"{LEASES}/{name}").status for name in ("lock", "other")]
        assert 200 == client.get(LEASES, fieldSelector="metadata.name=lock").status
        assert 403 == client.get(LEASES).status

    def test_subresource_is_a_right_of_its_own(self, server: ApiServer) -> None:
        """The right to an object is none to its status, and the reverse."""
        rule = {
            "apiGroups": ["inference.networking.k8s.io"],
            "resources": ["inferencepools/status"],
            "verbs": ["patch"],
        }
        spec = {"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 1}]}
        server.pools.add({"metadata": {"name": "p"}, "spec": spec})
        client = Client(server, server.service_account("gateway", rules=[rule]))

        assert 200 == client.send("PATCH", f"{POOLS}/p/status", {"status": {}}, kind=MERGE).status
        reply = client.send("PATCH", f"{POOLS}/p", {"spec": {}}, kind=MERGE)
        assert 403 == reply.status

    @pytest.mark.parametrize(
        ("binding", "role", "expected"),
        [
            ("clusterrolebindings", "ClusterRole", [200, 200]),
            ("rolebindings", "ClusterRole", [200, 403]),
            ("rolebindings", "Missing", [403, 403]),
        ],
    )
    def test_cluster_roles(self, server: ApiServer, binding: str, role: str, expected: list[int]) -> None:
        """A cluster role holds everywhere, or in the namespace whose binding names it; a missing one holds nowhere."""
        account = server.service_account("epp")
        server.collection("clusterroles").add({"metadata": {"name": "reader"}, "rules": [READ_PODS]})
        body: Document = {
            "metadata": {"name": "reader"},
            "roleRef": {"kind": "ClusterRole", "name": "reader" if role == "ClusterRole" else "missing"},
            "subjects": [{"kind": "ServiceAccount", "name": "epp", "namespace": "default"}],
        }
        server.collection(binding).add(body)

        assert expected == [Client(server, account).get(path).status for path in (PODS, "/api/v1/pods")]

    def test_users_are_bound_by_name(self, server: ApiServer) -> None:
        """A binding may name the user of an account."""
        account = server.service_account("epp")
        server.service_account("owner", rules=[READ_PODS])
        server.collection("rolebindings").update("owner", {"subjects": [{"kind": "User", "name": account.user}]})

        assert 200 == Client(server, account).get(PODS).status
        assert "<Account of system:serviceaccount:default:epp>" == repr(account)
