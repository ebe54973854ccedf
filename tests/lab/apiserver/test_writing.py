from __future__ import annotations

from typing import Any

import pytest

from inferencepool.lab.apiserver import ApiServer, Document, RefusedError
from inferencepool.testing import ManualClock, make_pod
from tests.lab.apiserver.client import LEASES, MERGE, PODS, POOLS, Client, briefly

SERVICES = "/api/v1/namespaces/default/services"
POD = {"metadata": {"name": "a"}, "spec": {"containers": [{"name": "main", "image": "server"}]}}
POOL = {
    "metadata": {"name": "llama"},
    "spec": {
        "selector": {"matchLabels": {"app": "llama"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
    },
}


def test_create(client: Client, server: ApiServer) -> None:
    """What is created gets kind, namespace, uid, revision and time, and is answered with 201."""
    reply = client.send("POST", PODS, POD)
    made = reply.document

    assert 201 == reply.status
    assert ("Pod", "v1", "default") == (made["kind"], made["apiVersion"], made["metadata"]["namespace"])
    assert str(server.revision) == made["metadata"]["resourceVersion"]
    assert made["metadata"]["uid"]
    assert made == server.pods.get("a")


def test_creation_has_the_clock_of_the_server() -> None:
    """Timestamps are those of the server's clock, in whole seconds."""
    with ApiServer(initializing=0, clock=ManualClock(1_700_000_000.9)) as server:
        made = server.pods.add(make_pod("a"))

    assert "2023-11-14T22:13:20Z" == made["metadata"]["creationTimestamp"]


def test_one_revision_for_all_resources(client: Client) -> None:
    """Every write of any resource makes the one revision grow, by one."""
    first = client.send("POST", PODS, POD).document
    second = client.send("POST", LEASES, {"metadata": {"name": "lock"}}).document
    third = client.send("POST", POOLS, POOL).document
    revisions = [int(made["metadata"]["resourceVersion"]) for made in (first, second, third)]

    assert [revisions[0], revisions[0] + 1, revisions[0] + 2] == revisions


def test_revisions_are_no_texts_to_compare(server: ApiServer) -> None:
    """The first revisions go over a hundred, so that a client that orders them as texts goes wrong."""
    revisions = [server.pods.add(make_pod(f"p{n}"))["metadata"]["resourceVersion"] for n in range(10)]

    assert sorted(revisions) != revisions


def test_create_again(client: Client) -> None:
    """Creating what is there is a conflict of its own kind."""
    client.send("POST", PODS, POD)
    reply = client.send("POST", PODS, POD)

    assert (409, "AlreadyExists") == (reply.status, reply.document["reason"])
    assert {"name": "a", "kind": "pods"} == reply.document["details"]


def test_generated_names(client: Client) -> None:
    """A name is generated where only its beginning is given."""
    names = {
        client.send("POST", PODS, POD | {"metadata": {"generateName": "a-"}}).document["metadata"]["name"] for _ in "12"
    }

    assert 2 == len(names)
    assert all(name.startswith("a-") and len(name) == 7 for name in names)


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        (PODS, b"{", 400, "must be of type JSON"),
        (PODS, [], 400, "must be an object"),
        (PODS, {"metadata": 1}, 400, "cannot unmarshal int64 into metadata"),
        (PODS, POD | {"kind": "Service"}, 400, "does not match the expected kind"),
        (PODS, POD | {"apiVersion": "v2"}, 400, "does not match the expected API version"),
        (PODS, POD | {"metadata": {"name": "a", "namespace": "b"}}, 400, "the namespace of the provided object"),
        ("/api/v1/namespaces/nowhere/pods", POD, 404, 'namespaces "nowhere" not found'),
        (PODS, POD | {"metadata": {"name": "a", "resourceVersion": "5"}}, 500, "should not be set"),
        (PODS, POD | {"metadata": {}}, 422, "name or generateName is required"),
        (PODS, POD | {"metadata": {"name": "A"}}, 422, "metadata.name"),
        (PODS, POD | {"metadata": {"name": "a", "labels": {"x": "no spaces"}}}, 422, "metadata.labels"),
        (PODS, POD | {"spec": {}}, 422, "spec.containers: Required value"),
        (PODS, POD | {"spec": {"containers": [{"name": "x"}]}}, 422, "spec.containers[0].image: Required value"),
        (SERVICES, {"metadata": {"name": "s"}, "spec": {}}, 422, "spec.ports: Required value"),
        (LEASES, {"metadata": {"name": "l"}, "spec": {"leaseDurationSeconds": 0}}, 422, "must be greater than 0"),
        (LEASES, {"metadata": {"name": "l"}, "spec": {"leaseTransitions": -1}}, 422, "greater than or equal to 0"),
        (LEASES, {"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-01T00:00:00Z"}}, 400, "parsing time"),
        (POOLS, POOL | {"spec": POOL["spec"] | {"targetPorts": []}}, 422, "spec.targetPorts"),  # type: ignore[operator]  # its spec is a mapping
    ],
)
def test_what_cannot_be_created(client: Client, path: str, body: Any, status: int, told: str) -> None:
    """An object that is malformed, misplaced or against its rules is refused, and the answer says why."""
    reply = client.send("POST", path, body)

    assert status == reply.status
    assert told in reply.document["message"]


def test_all_that_is_wrong_is_told(client: Client) -> None:
    """A refusal lists every field that is wrong, as causes."""
    body = POOL | {"spec": {"selector": {"matchLabels": {}}, "targetPorts": [{"number": 0}]}}
    reply = client.send("POST", POOLS, body)
    fields = [cause["field"] for cause in reply.document["details"]["causes"]]

    assert 422 == reply.status
    assert ["spec.selector.matchLabels", "spec.targetPorts[0].number"] == fields


def test_post_without_a_namespace(client: Client) -> None:
    """Objects are created in a namespace."""
    assert 405 == client.send("POST", "/api/v1/pods", POD).status


@pytest.mark.parametrize(
    ("version", "kind", "spec", "expected"),
    [
        (
            "inference.networking.k8s.io/v1",
            "InferencePool",
            POOL["spec"],
            {
                "appProtocol": "http",
                "endpointPickerRef": {
                    "group": "",
                    "kind": "Service",
                    "name": "epp",
                    "port": {"number": 9002},
                    "failureMode": "FailClose",
                },
            },
        ),
        (
            "inference.networking.x-k8s.io/v1alpha2",
            "InferencePool",
            {"selector": {"app": "x"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}},
            {"extensionRef": {"group": "", "kind": "Service", "name": "epp", "failureMode": "FailClose"}},
        ),
        (
            "llm-d.ai/v1alpha2",
            "InferenceObjective",
            {"poolRef": {"name": "llama"}},
            {"poolRef": {"name": "llama", "group": "inference.networking.k8s.io", "kind": "InferencePool"}},
        ),
        (
            "llm-d.ai/v1alpha2",
            "InferenceModelRewrite",
            {
                "poolRef": {"name": "llama"},
                "rules": [{"matches": [{"model": {"value": "a"}}], "targets": [{"modelRewrite": "b"}]}],
            },
            {"rules": [{"matches": [{"model": {"value": "a", "type": "Exact"}}], "targets": [{"modelRewrite": "b"}]}]},
        ),
    ],
)
def test_defaults_are_filled_in(server: ApiServer, version: str, kind: str, spec: Any, expected: Document) -> None:
    """Inference objects get the defaults of their definitions."""
    (made,) = server.apply({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec})

    assert expected == {name: made["spec"][name] for name in expected}


def test_status_of_old_objects_has_placeholders(server: ApiServer) -> None:
    """A v1alpha2 pool begins with the status that no controller came yet; an objective has that in a status only."""
    spec = {"selector": {"app": "x"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}}
    version = "inference.networking.x-k8s.io/v1alpha2"
    (pool,) = server.apply({"apiVersion": version, "kind": "InferencePool", "metadata": {"name": "x"}, "spec": spec})
    objective = server.objectives.add({"metadata": {"name": "x"}, "spec": {"poolRef": {"name": "x"}}})

    (parent,) = pool["status"]["parent"]
    assert ("Status", "default") == (parent["parentRef"]["kind"], parent["parentRef"]["name"])
    assert ["Accepted"] == [condition["type"] for condition in parent["conditions"]]
    assert "status" not in objective
    written = server.objectives.update("x", {"status": {}})
    assert [("Ready", "Unknown")] == [(each["type"], each["status"]) for each in written["status"]["conditions"]]


def test_update(client: Client, server: ApiServer) -> None:
    """An update with the version that was read replaces the object."""
    made = client.send("POST", PODS, POD).document
    made["metadata"]["labels"] = {"app": "x"}
    reply = client.send("PUT", f"{PODS}/a", made)

    assert 200 == reply.status
    assert {"app": "x"} == server.pods.get("a")["metadata"]["labels"]
    assert made["metadata"]["uid"] == reply.document["metadata"]["uid"]
    assert made["metadata"]["resourceVersion"] != reply.document["metadata"]["resourceVersion"]


def test_update_of_an_old_version(client: Client) -> None:
    """An update with a version that is not the latest is a conflict, and changes nothing."""
    made = client.send("POST", PODS, POD).document
    made["metadata"]["labels"] = {"app": "x"}
    client.send("PUT", f"{PODS}/a", made)
    made["metadata"]["labels"] = {"app": "y"}
    reply = client.send("PUT", f"{PODS}/a", made)

    assert (409, "Conflict") == (reply.status, reply.document["reason"])
    assert "please apply your changes to the latest version" in reply.document["message"]
    assert {"app": "x"} == client.get(f"{PODS}/a").document["metadata"]["labels"]


@pytest.mark.parametrize(("path", "status"), [(PODS, 200), (POOLS, 422), (LEASES, 422)])
def test_update_without_a_version(client: Client, path: str, status: int) -> None:
    """Built-in objects may be updated whatever their version is; custom resources and leases may not."""
    body: Any = {PODS: POD, POOLS: POOL, LEASES: {"metadata": {"name": "lock"}}}[path]
    made = client.send("POST", path, body).document
    del made["metadata"]["resourceVersion"]
    made["metadata"]["labels"] = {"app": "x"}

    assert status == client.send("PUT", f"{path}/{made['metadata']['name']}", made).status


def test_update_of_another_object_of_the_name(client: Client, server: ApiServer) -> None:
    """An update for the uid of an object that was deleted does not touch its successor."""
    made = client.send("POST", PODS, POD).document
    server.pods.delete("a")
    client.send("POST", PODS, POD)
    del made["metadata"]["resourceVersion"]
    reply = client.send("PUT", f"{PODS}/a", made)

    assert 409 == reply.status
    assert "UID in precondition" in reply.document["message"]


def test_update_of_what_is_not_there(client: Client, server: ApiServer) -> None:
    """An update of nothing is not found, but for leases, which it creates."""
    assert 404 == client.send("PUT", f"{PODS}/a", POD).status
    assert 200 == client.send("PUT", f"{LEASES}/lock", {"metadata": {"name": "lock"}}).status
    assert server.leases.get("lock")


def test_update_with_another_name(client: Client) -> None:
    """The name in the body is that of the path."""
    client.send("POST", PODS, POD)

    assert 400 == client.send("PUT", f"{PODS}/a", POD | {"metadata": {"name": "b"}}).status


def test_write_that_changes_nothing(client: Client, server: ApiServer) -> None:
    """A write that changes nothing makes no revision and no event."""
    made = client.send("POST", PODS, POD).document
    revision = server.revision
    again = client.send("PUT", f"{PODS}/a", made)
    patched = client.send("PATCH", f"{PODS}/a", {"metadata": {"labels": {"none": None}}}, kind=MERGE)

    assert (200, 200) == (again.status, patched.status)
    assert made == again.document
    assert revision == server.revision
    assert [] == client.told(resourceVersion=revision)


def test_status_is_a_subresource(client: Client) -> None:
    """A write to the object leaves its status alone, and a write to the status all else."""
    made = client.send("POST", POOLS, POOL | {"status": {"parents": []}}).document
    assert "status" not in made

    parents = [{"parentRef": {"name": "gateway"}, "conditions": []}]
    body = made | {"spec": {**made["spec"], "targetPorts": [{"number": 1}]}, "status": {"parents": parents}}
    written = client.send("PUT", f"{POOLS}/llama/status", body).document
    assert [{"number": 8000}] == written["spec"]["targetPorts"]
    assert {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"} == written["status"]["parents"][
        0
    ]["parentRef"]

    body = written | {"spec": {**made["spec"], "targetPorts": [{"number": 2}]}, "status": {}}
    changed = client.send("PUT", f"{POOLS}/llama", body).document
    assert [{"number": 2}] == changed["spec"]["targetPorts"]
    assert written["status"] == changed["status"]
    assert changed == client.get(f"{POOLS}/llama/status").document


def test_generation_counts_changes_of_the_spec(client: Client, server: ApiServer) -> None:
    """The generation grows with the spec, not with metadata or status."""
    server.pools.add(POOL)
    server.pools.update("llama", {"metadata": {"labels": {"a": "b"}}, "status": {"parents": []}})
    assert 1 == server.pools.get("llama")["metadata"]["generation"]

    client.send("PATCH", f"{POOLS}/llama", {"spec": {"appProtocol": "kubernetes.io/h2c"}}, kind=MERGE)
    assert 2 == server.pools.get("llama")["metadata"]["generation"]


def test_delete(client: Client, server: ApiServer) -> None:
    """A deletion answers with a Status, or the pod that went, and the object is gone."""
    server.pods.add(make_pod("a"))
    server.leases.add({"metadata": {"name": "lock"}})
    pod, lease = client.send("DELETE", f"{PODS}/a"), client.send("DELETE", f"{LEASES}/lock")

    assert (200, "Pod") == (pod.status, pod.document["kind"])
    assert (200, "Success") == (lease.status, lease.document["status"])
    assert (404, 404) == (client.send("DELETE", f"{PODS}/a").status, client.get(f"{LEASES}/lock").status)


def test_delete_only_what_was_meant(client: Client, server: ApiServer) -> None:
    """A deletion with another uid or version than the object has is a conflict."""
    metadata = server.pods.add(make_pod("a"))["metadata"]
    for preconditions in ({"uid": "other"}, {"resourceVersion": "1"}):
        assert 409 == client.send("DELETE", f"{PODS}/a", {"preconditions": preconditions}).status

    preconditions = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    assert 200 == client.send("DELETE", f"{PODS}/a", {"preconditions": preconditions}).status


def test_pod_on_a_node_ends_in_its_time(client: Client, server: ApiServer) -> None:
    """A pod on a node is marked first, and goes when it is deleted without a grace period."""
    server.pods.add({"metadata": {"name": "a"}, "spec": {"nodeName": "node"}, "status": {"podIP": "10.0.0.1"}})
    revision = server.revision
    marked = client.send("DELETE", f"{PODS}/a").document
    client.send("DELETE", f"{PODS}/a")
    shorter = client.send("DELETE", f"{PODS}/a", gracePeriodSeconds=5).document
    server.pods.delete("a", grace_period=0)

    assert 30 == marked["metadata"]["deletionGracePeriodSeconds"]
    assert marked["metadata"]["deletionTimestamp"] > shorter["metadata"]["deletionTimestamp"]
    assert server.pods.find("a") is None
    events = client.told(resourceVersion=revision)
    assert [*[("MODIFIED", "a")] * 3, ("DELETED", "a")] == briefly(events)
    assert [30, 5, 0, 0] == [event["object"]["metadata"]["deletionGracePeriodSeconds"] for event in events]


def test_pod_that_ended_goes_at_once(server: ApiServer) -> None:
    """A pod that is done needs no grace period."""
    server.pods.add({"metadata": {"name": "a"}, "spec": {"nodeName": "node"}, "status": {"phase": "Succeeded"}})
    server.pods.delete("a")

    assert 0 == len(server.pods)


def test_bad_grace_period(client: Client, server: ApiServer) -> None:
    """A grace period is a number."""
    server.pods.add(make_pod("a"))

    assert 400 == client.send("DELETE", f"{PODS}/a", gracePeriodSeconds="long").status


def test_finalizers_hold_an_object(client: Client, server: ApiServer) -> None:
    """An object with finalizers is marked, and goes when the last of them does."""
    server.pools.add(POOL | {"metadata": {"name": "llama", "finalizers": ["example.com/a"]}})
    marked = client.send("DELETE", f"{POOLS}/llama").document
    assert marked["metadata"]["deletionTimestamp"]
    assert server.pools.find("llama")

    client.send("PATCH", f"{POOLS}/llama", {"metadata": {"finalizers": None}}, kind=MERGE)
    assert server.pools.find("llama") is None


def test_delete_many(client: Client, server: ApiServer) -> None:
    """A deletion of a collection deletes what the selectors choose."""
    for name, app in (("a", "x"), ("b", "y"), ("c", "x")):
        server.pods.add(make_pod(name, labels={"app": app}))
    reply = client.send("DELETE", PODS, labelSelector="app=x")

    assert ["a", "c"] == reply.names
    assert ["b"] == client.get(PODS).names


def test_namespace_takes_its_objects_along(client: Client, server: ApiServer) -> None:
    """What is in a namespace goes with it."""
    server.pods.add(make_pod("a", namespace="gone"))
    server.pods.add(make_pod("b"))

    assert 200 == client.send("DELETE", "/api/v1/namespaces/gone").status
    assert ["b"] == client.get("/api/v1/pods").names
    assert 404 == client.get("/api/v1/namespaces/gone").status


def test_dry_run_is_refused(client: Client, server: ApiServer) -> None:
    """What cannot be tried without doing it is refused, not done."""
    assert 400 == client.send("POST", PODS, POD, dryRun="All").status
    assert 0 == len(server.pods)


def test_bodies_are_json(client: Client) -> None:
    """A body in the binary form that Go clients prefer for built-in types is refused; they can send JSON."""
    reply = client.send("POST", PODS, b"k8s\x00", kind="application/vnd.kubernetes.protobuf")

    assert 415 == reply.status
    assert "application/json" in reply.document["message"]


def test_deployment_selects_its_pods(client: Client) -> None:
    """A deployment whose selector does not choose the pods of its template is refused."""
    template = {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}
    path = "/apis/apps/v1/namespaces/default/deployments"
    for selector, status in (({"app": "x"}, 201), ({"app": "y"}, 422), ({}, 422)):
        spec = {"selector": {"matchLabels": selector}, "template": template}
        assert status == client.send("POST", path, {"metadata": {"name": "d"}, "spec": spec}).status


def test_too_large_body(client: Client) -> None:
    """A body of more than three MiB is refused."""
    assert 413 == client.send("POST", PODS, b" " * (3 * 1024 * 1024 + 1)).status


class TestCollection:
    def test_what_is_given_and_taken_is_copied(self, server: ApiServer) -> None:
        """Changing a document that was added or given changes nothing in the server."""
        document: Document = {"metadata": {"name": "a", "labels": {"app": "x"}}}
        given = server.pods.add(document)
        document["metadata"]["labels"]["app"] = given["metadata"]["labels"]["app"] = "y"
        server.pods.get("a")["metadata"]["labels"]["app"] = "z"

        assert {"app": "x"} == server.pods.get("a")["metadata"]["labels"]

    def test_pods_are_complete(self, client: Client, server: ApiServer) -> None:
        """A pod of a builder is one that a client could have created, and runs if it has an address."""
        server.pods.add(make_pod("a"))
        server.pods.add(make_pod("b", ip=None))

        phases = [item["status"]["phase"] for item in client.get(PODS).document["items"]]
        assert ["Running", "Pending"] == phases
        assert client.get(PODS).document["items"][0]["spec"]["containers"]

    def test_readiness(self, server: ApiServer) -> None:
        """Readiness is one condition; others stay."""
        server.pods.add(
            {"metadata": {"name": "a"}, "status": {"conditions": [{"type": "Initialized", "status": "True"}]}}
        )
        server.pods.set_ready("a")
        server.pods.set_ready("a", ready=False)

        conditions = server.pods.get("a")["status"]["conditions"]
        assert {"Initialized": "True", "Ready": "False"} == {each["type"]: each["status"] for each in conditions}

    def test_list(self, server: ApiServer) -> None:
        """Objects are listed by namespace and selector."""
        server.pods.add(make_pod("a", labels={"app": "x"}))
        server.pods.add(make_pod("b"))
        server.pods.add(make_pod("c", labels={"app": "x"}, namespace="other"))

        assert 3 == len(server.pods.list())
        assert ["a"] == [pod["metadata"]["name"] for pod in server.pods.list("default", "app=x")]

    def test_refusals_are_those_of_the_api(self, server: ApiServer) -> None:
        """What the API would refuse is refused with the same Status."""
        server.pods.add(make_pod("a"))
        with pytest.raises(RefusedError, match='pods "a" already exists') as exists:
            server.pods.add(make_pod("a"))
        with pytest.raises(RefusedError, match='pods "b" not found'):
            server.pods.delete("b")
        with pytest.raises(RefusedError, match="not found"):
            server.pods.update("b", {})

        assert (409, "AlreadyExists") == (exists.value.status, exists.value.reason)

    def test_replace(self, server: ApiServer) -> None:
        """An object is replaced whatever its version is, and stays the same object."""
        uid = server.pods.add(make_pod("a", labels={"app": "x"}))["metadata"]["uid"]
        made = server.pods.replace(make_pod("a", labels={"app": "y"}))

        assert ({"app": "y"}, uid) == (made["metadata"]["labels"], made["metadata"]["uid"])

    def test_apply_takes_any_kind(self, server: ApiServer) -> None:
        """Documents of several kinds are created, or replace those of their names."""
        pool = POOL | {"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool"}
        server.apply(pool, make_pod("a"))
        server.apply(
            make_pod("a", labels={"app": "y"}), {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
        )

        assert {"app": "y"} == server.pods.get("a")["metadata"]["labels"]
        assert server.pools.get("llama")
        assert server.collection("namespaces").get("n")

    def test_representation(self, server: ApiServer) -> None:
        """A collection says how many objects of what it has."""
        assert "<Pods of 0 pods>" == repr(server.pods)
        assert "<Collection of 0 leases.coordination.k8s.io>" == repr(server.leases)
