from __future__ import annotations

from typing import Any

import pytest

from inferencepool.lab.apiserver import ApiServer, Document
from tests.lab.apiserver.client import APPLY, MERGE, PODS, POOLS, Client

JSON = "application/json-patch+json"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
STRATEGIC = "application/strategic-merge-patch+json"
SPEC = {"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 8000}]}
CONTAINERS = [{"name": "main", "image": "server:1"}, {"name": "side", "image": "side:1"}]


@pytest.fixture(name="objects", autouse=True)
def _objects(server: ApiServer) -> None:
    server.pods.add({"metadata": {"name": "a", "labels": {"app": "x"}}, "spec": {"containers": CONTAINERS}})
    server.pools.add({"metadata": {"name": "pool"}, "spec": SPEC})
    labels = {"app": "x"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": CONTAINERS}}
    spec = {"selector": {"matchLabels": labels}, "template": template}
    server.collection("deployments").add({"metadata": {"name": "a", "labels": labels}, "spec": spec})


def _template(spec: Document) -> Document:
    """Give the part of a deployment in which its pods' spec is: that of a pod itself does not change."""
    return {"spec": {"template": {"spec": spec}}}


def _containers(deployment: Document) -> Any:
    return deployment["spec"]["template"]["spec"]["containers"]


def test_merge_patch(client: Client) -> None:
    """A merge patch merges objects, removes with null and replaces lists."""
    patch = {"metadata": {"labels": {"app": None, "tier": "gold"}}, **_template({"containers": CONTAINERS[1:]})}
    made = client.send("PATCH", f"{DEPLOYMENTS}/a", patch, kind=MERGE).document

    assert {"tier": "gold"} == made["metadata"]["labels"]
    assert CONTAINERS[1:] == _containers(made)


@pytest.mark.parametrize(("revision", "status"), [("current", 200), ("1", 409)])
def test_patch_may_name_a_version(client: Client, server: ApiServer, revision: str, status: int) -> None:
    """A patch that names a version applies to that one only."""
    current = server.collection("deployments").get("a")["metadata"]["resourceVersion"]
    wanted = current if revision == "current" else revision
    patch = {"metadata": {"resourceVersion": wanted, "labels": {"tier": "gold"}}}

    assert status == client.send("PATCH", f"{DEPLOYMENTS}/a", patch, kind=MERGE).status


@pytest.mark.parametrize(
    ("patch", "containers"),
    [
        ([{"name": "main", "image": "server:2"}], [CONTAINERS[0] | {"image": "server:2"}, CONTAINERS[1]]),
        ([{"name": "new", "image": "new:1"}], [*CONTAINERS, {"name": "new", "image": "new:1"}]),
        ([{"name": "side", "$patch": "delete"}], CONTAINERS[:1]),
        ([{"$patch": "replace"}, {"name": "only", "image": "only:1"}], [{"name": "only", "image": "only:1"}]),
    ],
)
def test_strategic_merge_of_lists(client: Client, patch: Any, containers: Any) -> None:
    """A strategic merge patch matches the items of lists by their names."""
    made = client.send("PATCH", f"{DEPLOYMENTS}/a", _template({"containers": patch}), kind=STRATEGIC).document

    assert containers == _containers(made)


def test_strategic_merge_of_the_rest(client: Client) -> None:
    """A strategic merge patch joins finalizers, may replace objects, and ignores hints about order."""
    patch: Document = {
        "metadata": {"finalizers": ["example.com/a"], "labels": {"$patch": "replace", "tier": "gold"}},
        **_template({"nodeSelector": {"zone": "a"}, "hostNetwork": None, "$setElementOrder/containers": []}),
    }
    client.send("PATCH", f"{DEPLOYMENTS}/a", {"metadata": {"finalizers": ["example.com/b"]}}, kind=STRATEGIC)
    made = client.send("PATCH", f"{DEPLOYMENTS}/a", patch, kind=STRATEGIC).document
    assert ["example.com/b", "example.com/a"] == made["metadata"]["finalizers"]
    assert {"tier": "gold"} == made["metadata"]["labels"]
    assert {"containers": CONTAINERS, "nodeSelector": {"zone": "a"}} == made["spec"]["template"]["spec"]

    removal = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/b"]}}
    made = client.send("PATCH", f"{DEPLOYMENTS}/a", removal, kind=STRATEGIC).document
    assert ["example.com/a"] == made["metadata"]["finalizers"]


def test_custom_resources_have_no_strategic_merge(client: Client) -> None:
    """A strategic merge patch of a custom resource is refused, and the answer lists what is taken."""
    reply = client.send("PATCH", f"{POOLS}/pool", {}, kind=STRATEGIC)

    assert (415, "UnsupportedMediaType") == (reply.status, reply.document["reason"])
    assert MERGE in reply.document["message"]
    assert STRATEGIC not in reply.document["message"]


def test_json_patch(client: Client) -> None:
    """A JSON patch does its operations in order."""
    operations = [
        {"op": "test", "path": "/metadata/labels/app", "value": "x"},
        {"op": "add", "path": "/metadata/labels/example.com~1tier", "value": "gold"},
        {"op": "copy", "from": "/metadata/labels/app", "path": "/metadata/labels/copy"},
        {"op": "move", "from": "/metadata/labels/app", "path": "/metadata/labels/moved"},
        {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "server:2"},
        {"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "new", "image": "new:1"}},
        {"op": "remove", "path": "/spec/template/spec/containers/1"},
    ]
    made = client.send("PATCH", f"{DEPLOYMENTS}/a", operations, kind=JSON).document

    assert {"example.com/tier": "gold", "copy": "x", "moved": "x"} == made["metadata"]["labels"]
    assert ["server:2", "new:1"] == [container["image"] for container in _containers(made)]


@pytest.mark.parametrize(
    ("operations", "status"),
    [
        ({}, 400),
        ([1], 400),
        ([{"op": "swap", "path": "/a"}], 400),
        ([{"op": "add"}], 400),
        ([{"op": "remove", "path": "/spec/nothing"}], 422),
        ([{"op": "replace", "path": "/spec/containers/9", "value": 1}], 422),
        ([{"op": "test", "path": "/metadata/name", "value": "b"}], 422),
        ([{"op": "add", "path": "/spec/containers"}], 422),
    ],
)
def test_json_patch_that_does_not_apply(client: Client, server: ApiServer, operations: Any, status: int) -> None:
    """A JSON patch with an operation that fails changes nothing."""
    before = server.pods.get("a")

    assert status == client.send("PATCH", f"{PODS}/a", operations, kind=JSON).status
    assert before == server.pods.get("a")


def test_patch_of_the_status(client: Client) -> None:
    """A patch of the status changes the status only."""
    patch = {"metadata": {"labels": {"tier": "gold"}}, "status": {"phase": "Running"}}
    made = client.send("PATCH", f"{PODS}/a/status", patch, kind=MERGE).document

    assert ("Running", {"app": "x"}) == (made["status"]["phase"], made["metadata"]["labels"])


@pytest.mark.parametrize(
    ("kind", "body", "params", "status"),
    [
        (MERGE, b"[", {}, 400),
        (MERGE, [], {}, 400),
        (MERGE, {"spec": {"containers": []}}, {}, 422),
        (MERGE, {}, {"force": "true"}, 422),
        (APPLY, {"metadata": {"name": "a"}}, {}, 422),
        ("text/plain", {}, {}, 415),
    ],
)
def test_what_is_no_patch(client: Client, kind: str, body: Any, params: dict[str, str], status: int) -> None:
    """A patch that is malformed, breaks the object or has options of another kind is refused."""
    assert status == client.send("PATCH", f"{PODS}/a", body, kind=kind, **params).status


def test_patch_of_what_is_not_there(client: Client) -> None:
    """A patch of nothing is not found."""
    assert 404 == client.send("PATCH", f"{PODS}/z", {}, kind=MERGE).status


class TestServerSideApply:
    """Status entries of a pool, as several gateway controllers write them."""

    @staticmethod
    def apply(client: Client, manager: str, status: Document, **params: object) -> Any:
        """Apply *status* as *manager*."""
        body = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "status": status}
        return client.send("PATCH", f"{POOLS}/pool/status", body, kind=APPLY, fieldManager=manager, **params)

    @staticmethod
    def parents(*names: str) -> list[Document]:
        """Give entries of the status for gateways of these names."""
        reference = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
        return [{"parentRef": {**reference, "name": name}} for name in names]

    def test_apply_creates_and_updates(self, client: Client) -> None:
        """Applying an object creates it, and applying it again changes nothing."""
        body = {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "spec": SPEC}
        made = client.send("PATCH", f"{POOLS}/new", body, kind=APPLY, fieldManager="me")
        again = client.send("PATCH", f"{POOLS}/new", body, kind=APPLY, fieldManager="me")

        assert (201, 200) == (made.status, again.status)
        assert made.document == again.document

    def test_status_is_applied(self, client: Client, server: ApiServer) -> None:
        """An applied status is there, the spec untouched, and its manager is noted as the API server notes it."""
        reply = self.apply(client, "one", {"parents": self.parents("g")})

        assert 200 == reply.status
        assert self.parents("g") == server.pools.get("pool")["status"]["parents"]
        assert 1 == reply.document["metadata"]["generation"]
        (entry,) = reply.document["metadata"]["managedFields"]
        assert ("one", "Apply", "status") == (entry["manager"], entry["operation"], entry["subresource"])
        assert {"f:status": {"f:parents": {}}} == entry["fieldsV1"]

    def test_two_managers_conflict(self, client: Client, server: ApiServer) -> None:
        """The list of parents has one owner: another one with another list is told who it is, unless it forces."""
        self.apply(client, "one", {"parents": self.parents("g")})
        refused = self.apply(client, "two", {"parents": self.parents("h")})
        assert (409, "Conflict") == (refused.status, refused.document["reason"])
        assert 'Apply failed with 1 conflict: conflict with "one": .status.parents' == refused.document["message"]
        assert self.parents("g") == server.pools.get("pool")["status"]["parents"]

        forced = self.apply(client, "two", {"parents": self.parents("h")}, force="true")
        assert 200 == forced.status
        assert ["two"] == [entry["manager"] for entry in forced.document["metadata"]["managedFields"]]
        assert 409 == self.apply(client, "one", {"parents": self.parents("g")}).status

    def test_same_value_is_shared(self, client: Client) -> None:
        """Two managers that want the same value own it together, and it stays when one lets go."""
        for manager in ("one", "two"):
            assert 200 == self.apply(client, manager, {"parents": self.parents("g")}).status

        left = self.apply(client, "one", {})
        assert self.parents("g") == left.document["status"]["parents"]
        assert "parents" not in (self.apply(client, "two", {}).document["status"])

    def test_update_takes_what_it_changes(self, client: Client, server: ApiServer) -> None:
        """A manager that updates a field owns it from then on."""
        self.apply(client, "one", {"parents": self.parents("g")})
        pool = server.pools.get("pool")
        pool["status"]["parents"] = self.parents("h")
        client.send("PUT", f"{POOLS}/pool/status", pool)

        refused = self.apply(client, "one", {"parents": self.parents("g")})
        assert 409 == refused.status
        assert 'conflict with "tester"' in refused.document["message"]

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("pool/status", {"metadata": {"managedFields": [{}]}}, 400),
            ("pool", {"metadata": {"name": "other"}}, 400),
            ("pool", {"metadata": {"resourceVersion": "1"}}, 409),
            ("pool", {"spec": {"targetPorts": []}}, 422),
            ("none/status", {}, 404),
            ("pool", b"spec: {}", 400),
        ],
    )
    def test_what_cannot_be_applied(self, client: Client, path: str, body: Any, status: int) -> None:
        """What is malformed, misplaced or against the rules is refused."""
        assert status == client.send("PATCH", f"{POOLS}/{path}", body, kind=APPLY, fieldManager="me").status
