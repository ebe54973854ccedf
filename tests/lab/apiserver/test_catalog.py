from __future__ import annotations

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.lab.apiserver import RESOURCES, ApiServer, Resource
from tests.lab.apiserver.client import PODS, POOLS, Client, briefly

WIDGETS = Resource(group="example.com", plural="widgets", kind="Widget", custom=True, namespaced=False)


def test_every_resource_is_served_where_discovery_says(client: Client) -> None:
    """All that discovery lists can be listed at the path it gives, and is all there is."""
    found = set()
    versions = [f"/api/{version}" for version in client.get("/api").document["versions"]]
    for group in client.get("/apis").document["groups"]:
        versions += [f"/apis/{version['groupVersion']}" for version in group["versions"]]
        assert group["versions"] == client.get(f"/apis/{group['name']}").document["versions"]
    for path in versions:
        for entry in client.get(path).document["resources"]:
            if "/" not in entry["name"]:
                expected = 200 if "list" in entry["verbs"] else 405
                assert expected == client.get(f"{path}/{entry['name']}").status
                found.add((path.rpartition("/apis/")[2].removeprefix("/api/"), entry["name"], entry["kind"]))

    assert {(known.api_version, known.plural, known.kind) for known in RESOURCES} == found


def test_subresources_are_listed(client: Client) -> None:
    """Discovery lists the status where it is a subresource."""
    entries = client.get("/apis/inference.networking.k8s.io/v1").document["resources"]

    assert ["inferencepools", "inferencepools/status"] == [entry["name"] for entry in entries]
    assert ["infpool"] == entries[0]["shortNames"]


def test_version_and_health(client: Client) -> None:
    """The server tells its version, and that it is well."""
    assert client.get("/version").document["gitVersion"].startswith("v1.")
    assert [b"ok"] * 3 == [client.get(path).body for path in ("/healthz", "/livez", "/readyz")]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/apis/none.example", 404),
        ("GET", "/apis/apps/v9", 404),
        ("GET", "/apis/none.example/v1/things", 404),
        ("GET", "/apis/apps/v1/deployments/x/y/z", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", f"{PODS}/a/log", 404),
        ("GET", "/api/v1/namespaces/default/namespaces", 404),
        ("POST", f"{PODS}/a", 405),
        ("PUT", PODS, 405),
        ("DELETE", f"{POOLS}/x/status", 405),
        ("OPTIONS", PODS, 405),
    ],
)
def test_what_is_not_served(client: Client, method: str, path: str, status: int) -> None:
    """A path of nothing is not found, and a path has its verbs only."""
    assert status == client.send(method, path).status


def test_withdrawn_group(client: Client, server: ApiServer) -> None:
    """A group that is withdrawn takes its objects along and ends its watches; others stay."""
    spec = {"poolRef": {"name": "llama"}}
    server.objectives.add({"metadata": {"name": "a"}, "spec": spec})
    objectives = "/apis/llm-d.ai/v1alpha2/namespaces/default/inferenceobjectives"
    with client.watch(objectives) as events:
        assert [("ADDED", "a")] == briefly([next(events)])
        server.withdraw("llm-d.ai")
        assert [] == list(events)

    assert (404, 404) == (client.get(objectives).status, client.get("/apis/llm-d.ai/v1alpha2").status)
    assert "llm-d.ai" not in [group["name"] for group in client.get("/apis").document["groups"]]
    assert 200 == client.get(objectives.replace("llm-d.ai", "inference.networking.x-k8s.io")).status

    server.serve("llm-d.ai")
    assert [] == client.get(objectives).names


def test_revision_goes_on_over_a_withdrawal(client: Client, server: ApiServer) -> None:
    """A resource that comes back does not know revisions of its earlier life."""
    revision = server.revision
    server.withdraw("llm-d.ai")
    server.serve("llm-d.ai")

    (event,) = client.events("/apis/llm-d.ai/v1alpha2/inferenceobjectives", resourceVersion=revision)
    assert 410 == event["object"]["code"]


def test_resources_of_ones_own(client: Client, server: ApiServer) -> None:
    """Any resource can be served; one that lives outside of namespaces has none in its path."""
    server.serve(WIDGETS)
    server.collection("widgets").add({"metadata": {"name": "a"}, "spec": {"size": 1}})
    found = client.get("/apis/example.com/v1/widgets/a").document

    assert {"size": 1} == found["spec"]
    assert "namespace" not in found["metadata"]


def test_server_with_few_resources() -> None:
    """A server serves what it is given and nothing else."""
    with ApiServer(initializing=0, resources=[WIDGETS]) as server:
        client = Client(server)

        assert 201 == client.send("POST", "/apis/example.com/v1/widgets", {"metadata": {"name": "a"}}).status
        assert 404 == client.get(PODS).status
        assert 403 == Client(server, server.service_account("x")).get("/apis/example.com/v1/widgets").status


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda server: server.collection("things"), "'things' is not served; there are pods"),
        (lambda server: server.collection("inferencepools"), "'inferencepools' is ambiguous: give the group of one of"),
        (lambda server: server.serve("none.example"), "no resource of the group 'none.example' is known"),
        (lambda server: server.apply({"kind": "Thing", "apiVersion": "v1"}), "kind 'Thing' is not served"),
    ],
)
def test_unknown_resources(server: ApiServer, call: object, told: str) -> None:
    """A resource that is not known is an error that says what is."""
    assert callable(call)
    with pytest.raises(ConfigurationError, match=told):
        call(server)
