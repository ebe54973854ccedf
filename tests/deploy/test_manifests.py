from __future__ import annotations

import argparse
from typing import Any

import lightkube.resources.apps_v1
import lightkube.resources.core_v1
import lightkube.resources.rbac_authorization_v1  # noqa: F401 - looked up by its name
import msgspec
import pytest
from lightkube.core.resource_registry import resource_registry

from inferencepool.adapters.kubernetes import LeaseName
from inferencepool.cli import _main
from inferencepool.cli._serve import _check
from inferencepool.lab.apiserver import RESOURCES, ApiServer
from inferencepool.model import validate
from tests.deploy.manifests import FILES, FOLDER, NAMESPACE, load, only
from tests.lab.apiserver.client import Client

ALL = sorted(path.name for path in FOLDER.glob("*.yaml"))


def _typed(document: dict[str, Any]) -> dict[str, Any]:
    """Read a document as its type, and give what the type knows of it."""
    kind: Any = resource_registry.load(document["apiVersion"], document["kind"])
    written: dict[str, Any] = msgspec.convert(document, kind).to_dict()
    return written


def test_files_are_used() -> None:
    """Every file belongs to one of the two ways to deploy."""
    assert sorted({name for names in FILES.values() for name in names}) == ALL


@pytest.mark.parametrize("file", ALL)
def test_documents_are_of_their_types(file: str) -> None:
    """Every field of every document is one of its type in Kubernetes' OpenAPI, and of the right type."""
    for document in load(file):
        if document["kind"] == "InferencePool":
            assert () == validate(document)
        else:
            assert document == _typed(document)


def test_check_of_types_finds_mistakes() -> None:
    """The check above notices a value of the wrong type and a field that does not exist."""
    document = only(load("one-replica.yaml"), "Deployment")

    for wrong in (document | {"specs": {}}, document | {"spec": document["spec"] | {"replica": 3}}):
        assert wrong != _typed(wrong)
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int.*spec\.replicas"):
        _typed(document | {"spec": document["spec"] | {"replicas": "three"}})


@pytest.mark.parametrize("way", FILES)
def test_server_takes_them(way: str) -> None:
    """The API server takes all of them."""
    with ApiServer(initializing=0) as server:
        client = Client(server)
        namespace = {"metadata": {"name": NAMESPACE}}
        assert 201 == client.send("POST", "/api/v1/namespaces", namespace).status
        for document in load(*FILES[way]):
            kind = (document["apiVersion"], document["kind"])
            (resource,) = [known for known in RESOURCES if (known.api_version, known.kind) == kind]
            root = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
            path = f"{root}/namespaces/{document['metadata']['namespace']}/{resource.plural}"
            reply = client.send("POST", path, document)

            assert 201 == reply.status, reply.document


@pytest.mark.parametrize("way", FILES)
def test_they_fit_together(way: str) -> None:
    """Names, labels and ports of one document are those that the others refer to."""
    documents = load(*FILES[way])
    pool, service, deployment = (only(documents, kind) for kind in ("InferencePool", "Service", "Deployment"))
    template = deployment["spec"]["template"]
    (container,) = template["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    reference = pool["spec"]["endpointPickerRef"]

    assert {NAMESPACE} == {document["metadata"]["namespace"] for document in documents}
    assert service["metadata"]["name"] == reference["name"]
    assert reference["port"]["number"] in [port["port"] for port in service["spec"]["ports"]]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports.keys()
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    assert only(documents, "ServiceAccount")["metadata"]["name"] == template["spec"]["serviceAccountName"]
    for binding in documents:
        if binding["kind"] == "RoleBinding":
            assert [("llama-epp", NAMESPACE)] == [(each["name"], each["namespace"]) for each in binding["subjects"]]
            roles = [each["metadata"]["name"] for each in documents if each["kind"] == "Role"]
            assert binding["roleRef"]["name"] in roles
    for probe in ("livenessProbe", "readinessProbe"):
        assert ports["health"] == container[probe]["grpc"]["port"]


@pytest.mark.parametrize("way", FILES)
def test_arguments_are_those_of_the_command(way: str) -> None:
    """The arguments of the container are taken by `inferencepool serve`, and name the pool and the ports."""
    documents = load(*FILES[way])
    (container,) = only(documents, "Deployment")["spec"]["template"]["spec"]["containers"]
    arguments = _parse(container["args"])
    metadata = only(documents, "InferencePool")["metadata"]

    _check(arguments)
    assert (metadata["name"], metadata["namespace"]) == (arguments.pool_name, arguments.pool_namespace)
    given = [arguments.grpc_port, arguments.grpc_health_port, arguments.metrics_port]
    assert given == [port["containerPort"] for port in container["ports"]]
    assert arguments.ha_enable_leader_election is (way == "three")


def test_times_leave_room() -> None:
    """A replica that ends has time for its hook and its drain, and leads long enough for new ones to stand by."""
    for way in FILES:
        spec = only(load(*FILES[way]), "Deployment")["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)

        assert spec["terminationGracePeriodSeconds"] > hook + _parse(container["args"]).drain_timeout


def test_lease_is_that_of_the_pool() -> None:
    """The role names the lease that the command competes for."""
    documents = load(*FILES["three"])
    names = [name for rule in _lease_rules(documents) for name in rule.get("resourceNames", [])]
    pool = only(documents, "InferencePool")["metadata"]

    assert [LeaseName.of_pool(pool["name"], pool["namespace"]).name] == names


def _lease_rules(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        rule
        for document in documents
        if document["kind"] == "Role"
        for rule in document["rules"]
        if rule["resources"] == ["leases"]
    ]


def _parse(arguments: list[str]) -> argparse.Namespace:
    return _main._parser(["serve"]).parse_args(["serve", *arguments])
