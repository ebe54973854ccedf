"""Answers that were compared with those of a real API server."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest

from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import MERGE, PODS, POOLS, Client

META = ";g=meta.k8s.io"
ACCOUNTS = "/api/v1/namespaces/default/serviceaccounts"


def _get(client: Client, path: str, accept: str) -> tuple[int, Any]:
    with closing(client.connect()) as connection:
        connection.request("GET", path, headers={**client.account.headers, "accept": accept})
        with closing(connection.getresponse()) as response:
            return response.status, json.loads(response.read())


def test_limit_of_a_cached_list(client: Client, server: ApiServer) -> None:
    """A list of what is cached has no pages."""
    for name in "abc":
        server.pods.add(make_pod(name))

    assert ["a", "b", "c"] == client.get(PODS, limit=1, resourceVersion="0").names
    assert ["a"] == client.get(PODS, limit=1).names


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"nodeName": "other"}, 422),
        ({"containers": [{"name": "server", "image": "other:2"}]}, 200),
        ({"containers": [{"name": "other", "image": "server:1"}]}, 422),
        ({"containers": []}, 422),
        ({"containers": [{"name": "server", "image": ""}]}, 422),
        ({"initContainers": [{"name": "init", "image": "other:2"}]}, 200),
        ({"initContainers": []}, 422),
        ({"hostNetwork": True}, 422),
        ({"activeDeadlineSeconds": 5}, 200),
        ({"activeDeadlineSeconds": 60}, 200),
        ({"activeDeadlineSeconds": 61}, 422),
        ({"activeDeadlineSeconds": -1}, 422),
        ({"activeDeadlineSeconds": None}, 422),
        ({"tolerations": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "Exists"}]}, 200),
        ({"tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]}, 200),
        ({"tolerations": [{"key": "a", "operator": "Equal"}]}, 422),
        ({"tolerations": []}, 422),
        ({"terminationGracePeriodSeconds": 1}, 200),
        ({"terminationGracePeriodSeconds": 2}, 422),
    ],
)
def test_spec_of_a_pod_stays(client: Client, server: ApiServer, change: Any, status: int) -> None:
    """A client may change images of a pod's containers and little else of its spec; a test may change all of it."""
    server.pods.add(make_pod("a"))
    given = {
        "initContainers": [{"name": "init", "image": "init:1"}],
        "activeDeadlineSeconds": 60,
        "tolerations": [{"key": "a", "operator": "Exists"}],
        "terminationGracePeriodSeconds": -1,
    }
    before = server.pods.update("a", {"spec": given})["spec"]
    reply = client.send("PATCH", f"{PODS}/a", {"spec": change}, kind=MERGE)

    assert status == reply.status, reply.document
    assert (before | change if status == 200 else before) == server.pods.get("a")["spec"]
    server.pods.update("a", {"spec": {"nodeName": "node"}})


@pytest.mark.parametrize(
    ("status", "field"),
    [
        ({"podIP": "10.0.0.300"}, "status.podIP"),
        ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}, "status.podIPs[0].ip"),
        ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}, "status.podIPs"),
    ],
)
def test_addresses_of_a_pod(client: Client, server: ApiServer, status: Any, field: str) -> None:
    """What is no address of a pod is refused: no IP address, or one that contradicts another."""
    server.pods.add(make_pod("a"))
    reply = client.send("PATCH", f"{PODS}/a/status", {"status": status}, kind=MERGE)

    assert 422 == reply.status
    assert field in [cause["field"] for cause in reply.document["details"]["causes"]]


def test_binding(client: Client, server: ApiServer) -> None:
    """A pod is assigned to a node once, by creating its binding."""
    server.pods.add(make_pod("a"))
    binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "node"}}

    assert 422 == client.send("POST", f"{PODS}/a/binding", {"target": {"kind": "Pod"}}).status
    assert 404 == client.send("POST", f"{PODS}/b/binding", binding).status
    made = client.send("POST", f"{PODS}/a/binding", binding)
    assert (201, "Success") == (made.status, made.document["status"])
    assert "node" == server.pods.get("a")["spec"]["nodeName"]
    again = client.send("POST", f"{PODS}/a/binding", binding)
    assert (409, True) == (again.status, 'already assigned to node "node"' in again.document["message"])


def test_token(client: Client, server: ApiServer) -> None:
    """A service account gets a token, by which its bearer is known."""
    server.service_account("picker")
    body = {"spec": {"audiences": ["x"], "expirationSeconds": 600}}
    made = client.send("POST", f"{ACCOUNTS}/picker/token", body)
    review = {"spec": {"token": made.document["status"]["token"]}}
    told = client.send("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).document

    assert 201 == made.status
    assert "system:serviceaccount:default:picker" == told["status"]["user"]["username"]
    assert 404 == client.send("POST", f"{ACCOUNTS}/nobody/token", body).status
    assert 422 == client.send("POST", f"{ACCOUNTS}/picker/token", {"spec": {"expirationSeconds": 5}}).status


def test_tables(client: Client, server: ApiServer) -> None:
    """Who asks for a table gets one, with the metadata of each object beside its cells."""
    server.pods.add(make_pod("a", ip="10.0.0.1"))
    status, table = _get(client, PODS, f"application/json;as=Table;v=v1{META},application/json")
    _, one = _get(client, f"{PODS}/a?includeObject=Object", f"application/json;as=Table;v=v1{META}")

    assert (200, "Table") == (status, table["kind"])
    assert ["Name", "Ready", "Status", "Restarts", "Age"] == [
        each["name"] for each in table["columnDefinitions"] if not each["priority"]
    ]
    assert ["a", "0/1", "Running"] == table["rows"][0]["cells"][:3]
    assert "PartialObjectMetadata" == table["rows"][0]["object"]["kind"]
    assert ("Pod", "10.0.0.1") == (one["rows"][0]["object"]["kind"], one["rows"][0]["object"]["status"]["podIP"])


def test_metadata_alone(client: Client, server: ApiServer) -> None:
    """Who asks for metadata gets no spec and no status."""
    server.pods.add(make_pod("a"))
    _, listed = _get(client, PODS, f"application/json;as=PartialObjectMetadataList;v=v1{META}")
    _, one = _get(client, f"{PODS}/a", f"application/json;as=PartialObjectMetadata;v=v1{META}")

    assert "PartialObjectMetadataList" == listed["kind"]
    assert {"kind", "apiVersion", "metadata"} == one.keys() == listed["items"][0].keys()


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("text/html", 406),
        ("application/vnd.kubernetes.protobuf", 406),
        ("application/vnd.kubernetes.protobuf,application/json", 200),
        ("application/json;as=Chart;v=v1;g=meta.k8s.io", 406),
        ("*/*", 200),
        ("", 200),
    ],
)
def test_accepted_types(client: Client, accept: str, status: int) -> None:
    """A client that takes no JSON is told so."""
    assert status == _get(client, PODS, accept)[0]


def test_unknown_type_of_a_body(client: Client) -> None:
    """A body that says it is no JSON is not read."""
    assert 415 == client.send("POST", PODS, {}, kind="text/plain").status


def test_causes_have_their_reasons(client: Client) -> None:
    """Each cause of a refusal says in one word what kind of mistake it is."""
    spec: Any = {
        "targetPorts": [{"number": 70000}],
        "appProtocol": "gopher",
        "endpointPickerRef": {"name": 7, "port": {"number": 1}},
    }
    body = {"metadata": {"name": "x", "finalizers": ["a/b/c"]}, "spec": spec}
    causes = client.send("POST", POOLS, body).document["details"]["causes"]

    assert {
        "metadata.finalizers[0]": "FieldValueInvalid",
        "spec.selector": "FieldValueRequired",
        "spec.targetPorts[0].number": "FieldValueInvalid",
        "spec.appProtocol": "FieldValueNotSupported",
        "spec.endpointPickerRef.name": "FieldValueTypeInvalid",
    } == {cause["field"]: cause["reason"] for cause in causes}


def test_annotations_with_capitals(server: ApiServer) -> None:
    """The prefix of an annotation's key may have capitals; that of a label's may not."""
    server.pods.add({"metadata": {"name": "a", "annotations": {"Acme.COM/x": "y"}}})

    assert {"Acme.COM/x": "y"} == server.pods.get("a")["metadata"]["annotations"]
