from __future__ import annotations

import gzip
from contextlib import closing
from typing import Any

import pytest

from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import PODS, POOLS, Client


@pytest.fixture(name="pods", autouse=True)
def _pods(server: ApiServer) -> None:
    server.pods.add(make_pod("a", labels={"app": "llama", "tier": "gold"}))
    server.pods.add(make_pod("b", labels={"app": "llama"}, ready=False))
    server.pods.add(make_pod("c", labels={"app": "other"}, namespace="elsewhere"))


def test_list_has_the_shape_of_the_api(client: Client, server: ApiServer) -> None:
    """A list names its kind and the revision it is of; items of built-in types do not repeat what they are."""
    document = client.get(PODS).document

    assert ("PodList", "v1") == (document["kind"], document["apiVersion"])
    assert {"resourceVersion": str(server.revision)} == document["metadata"]
    assert ["metadata", "spec", "status"] == sorted(document["items"][0])


def test_items_of_custom_resources_say_what_they_are(client: Client, server: ApiServer) -> None:
    """Items of a list of custom resources have kind and version."""
    server.pools.add(_pool("llama"))

    item = client.get(POOLS).document["items"][0]

    assert ("InferencePool", "inference.networking.k8s.io/v1") == (item["kind"], item["apiVersion"])


def test_list_of_all_namespaces(client: Client) -> None:
    """Without a namespace in the path all are listed, ordered by namespace and name."""
    assert ["a", "b", "c"] == client.get("/api/v1/pods").names
    assert ["a", "b"] == client.get(PODS).names


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=llama", ["a", "b"]),
        ("app==llama,tier=gold", ["a"]),
        ("app!=llama", ["c"]),
        ("app in (other,none)", ["c"]),
        ("app notin (other)", ["a", "b"]),
        ("tier", ["a"]),
        ("!tier", ["b", "c"]),
        ("tier!=gold", ["b", "c"]),
    ],
)
def test_label_selectors(client: Client, selector: str, expected: list[str]) -> None:
    """Every operator of label selectors chooses as kubectl's does."""
    assert expected == client.get("/api/v1/pods", labelSelector=selector).names


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=a", ["a"]),
        ("metadata.name==a", ["a"]),
        ("metadata.name!=a", ["b", "c"]),
        ("metadata.namespace=elsewhere", ["c"]),
        ("status.phase=Running,metadata.name!=b", ["a", "c"]),
        ("spec.nodeName=", ["a", "b", "c"]),
        ("status.podIP=10.0.0.1", ["a", "b", "c"]),
    ],
)
def test_field_selectors(client: Client, selector: str, expected: list[str]) -> None:
    """Field selectors choose by the fields that the resource has; a missing field is empty."""
    assert expected == client.get("/api/v1/pods", fieldSelector=selector).names


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"fieldSelector": "spec.priority=1"}, "field label not supported: spec.priority"),
        ({"fieldSelector": "nonsense"}, "invalid selector: 'nonsense'"),
        ({"labelSelector": "a=b=c"}, "unable to parse requirement"),
        ({"limit": "many"}, "strconv.ParseInt"),
        ({"resourceVersion": "new"}, "invalid resource version"),
        ({"continue": "nonsense"}, "continue key is not valid"),
    ],
)
def test_options_that_cannot_be_read(client: Client, params: dict[str, str], told: str) -> None:
    """An option that makes no sense is refused with 400 and a Status that says so."""
    reply = client.get(PODS, **params)

    assert (400, "BadRequest") == (reply.status, reply.document["reason"])
    assert told in reply.document["message"]


@pytest.mark.parametrize(
    "params",
    [
        {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"},
        {"resourceVersionMatch": "Exact"},
        {"resourceVersion": "0", "resourceVersionMatch": "Exact"},
        {"resourceVersion": "1", "resourceVersionMatch": "Newest"},
        {"resourceVersion": "1", "resourceVersionMatch": "Exact", "continue": "x"},
    ],
)
def test_options_that_do_not_go_together(client: Client, params: dict[str, str]) -> None:
    """Options that are each fine and together are not are refused with 422."""
    reply = client.get(PODS, **params)

    assert (422, "Invalid") == (reply.status, reply.document["reason"])
    assert "ListOptions.meta.k8s.io" in reply.document["message"]


def test_pages_show_one_moment(client: Client, server: ApiServer) -> None:
    """All pages of a list are of the revision of the first, whatever is written in between."""
    first = client.get("/api/v1/pods", limit=1).document
    server.pods.delete("b")
    server.pods.add(make_pod("bb"))
    token = first["metadata"]["continue"]
    second = client.get("/api/v1/pods", limit=1, **{"continue": token}).document
    third = client.get("/api/v1/pods", limit=1, **{"continue": second["metadata"]["continue"]}).document

    pages = [first, second, third]
    assert [["a"], ["b"], ["c"]] == [[item["metadata"]["name"] for item in page["items"]] for page in pages]
    assert {first["metadata"]["resourceVersion"]} == {page["metadata"]["resourceVersion"] for page in pages}
    assert [2, 1, None] == [page["metadata"].get("remainingItemCount") for page in pages]
    assert "continue" not in third["metadata"]


def test_pages_of_a_selection_do_not_count_the_rest(client: Client) -> None:
    """A list with a selector does not tell how many items are left."""
    metadata = client.get(PODS, limit=1, labelSelector="app").document["metadata"]

    assert metadata["continue"]
    assert "remainingItemCount" not in metadata


def test_token_of_a_page_expires(client: Client, server: ApiServer) -> None:
    """After compaction a token is answered with 410 and another token, which goes on with what there is."""
    token = client.get("/api/v1/pods", limit=1).document["metadata"]["continue"]
    server.pods.delete("b")
    server.compact()

    refused = client.get("/api/v1/pods", **{"continue": token})
    rest = client.get("/api/v1/pods", **{"continue": refused.document["metadata"]["continue"]})

    assert (410, "Expired") == (refused.status, refused.document["reason"])
    assert ["c"] == rest.names


def test_token_does_not_go_with_a_revision(client: Client) -> None:
    """A token together with a resource version is refused."""
    token = client.get("/api/v1/pods", limit=1).document["metadata"]["continue"]

    assert 400 == client.get("/api/v1/pods", resourceVersion="5", **{"continue": token}).status


def test_exact_revision(client: Client, server: ApiServer) -> None:
    """With `Exact` a list is of that revision; without it a newer one will do."""
    revision = client.get(PODS).document["metadata"]["resourceVersion"]
    server.pods.delete("a")

    exact = client.get(PODS, resourceVersion=revision, resourceVersionMatch="Exact")
    newer = client.get(PODS, resourceVersion=revision, resourceVersionMatch="NotOlderThan")
    paged = client.get(PODS, resourceVersion=revision, limit=5)

    assert (["a", "b"], revision) == (exact.names, exact.document["metadata"]["resourceVersion"])
    assert ["b"] == newer.names
    assert ["a", "b"] == paged.names


def test_exact_revision_that_is_forgotten(client: Client, server: ApiServer) -> None:
    """A list of exactly a forgotten revision is refused with 410, and one that may be newer is not."""
    revision = client.get(PODS).document["metadata"]["resourceVersion"]
    server.compact()

    assert 410 == client.get(PODS, resourceVersion=revision, resourceVersionMatch="Exact").status
    assert 200 == client.get(PODS, resourceVersion=revision).status
    assert 200 == client.get(PODS, resourceVersion=0).status


def test_revision_of_the_future(client: Client, server: ApiServer) -> None:
    """A list that may not be older than a revision to come times out."""
    reply = client.get(PODS, resourceVersion=server.revision + 1)

    assert (504, "Timeout") == (reply.status, reply.document["reason"])
    assert "ResourceVersionTooLarge" == reply.document["details"]["causes"][0]["reason"]


def test_long_lists_are_compressed_for_who_wants_it(client: Client, server: ApiServer) -> None:
    """A list of 128 KiB or more is sent with gzip to a client that takes it, and only to one."""
    server.pods.add({"metadata": {"name": "long", "annotations": {"text": "x" * 200_000}}})
    with closing(client.connect()) as connection:
        connection.request("GET", PODS, headers={**client.account.headers, "accept-encoding": "gzip"})
        response = connection.getresponse()
        body = response.read()

    assert "gzip" == response.headers["content-encoding"]
    assert client.get(PODS).body == gzip.decompress(body)


def test_object_by_name(client: Client) -> None:
    """An object is got by its name, and says what it is; one that is not there is not found."""
    found, missing = client.get(f"{PODS}/a"), client.get(f"{PODS}/z")

    assert ("Pod", "v1", "a") == (found.document["kind"], found.document["apiVersion"], _name(found.document))
    assert (404, "NotFound") == (missing.status, missing.document["reason"])
    assert 'pods "z" not found' == missing.document["message"]


def test_head_has_no_body(client: Client) -> None:
    """HEAD is GET without the body."""
    reply = client.send("HEAD", PODS)

    assert (200, b"") == (reply.status, reply.body)


def _name(document: dict[str, Any]) -> str:
    name: str = document["metadata"]["name"]
    return name


def _pool(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": name}}, "targetPorts": [{"number": 8000}]},
    }
