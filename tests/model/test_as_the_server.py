"""Metadata and documents are judged as the API server judges them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import InferencePool, LabelSelector, Pod, parse_object, validate

V1, OLD = "inference.networking.k8s.io/v1", "inference.networking.x-k8s.io/v1alpha2"
SPEC: dict[str, Any] = {"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 8000}]}
OLD_SPEC: dict[str, Any] = {"selector": {"app": "x"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}}
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "1"}


def _pool(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": V1, "kind": "InferencePool", "metadata": {"name": "x", **metadata}, "spec": SPEC}


def _pod(**metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", **metadata}}


def _fields(document: dict[str, Any]) -> list[str]:
    return [issue.field for issue in validate(document)]


@pytest.mark.parametrize("make", [_pool, _pod])
@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {"Acme.COM/Key": "v"}},
        {"annotations": {"a": "x" * (256 * 1024 - 1)}},
        {"annotations": {"a": None}, "labels": {"b": None}},
        {"finalizers": ["example.com/hold", "orphan"]},
        {"ownerReferences": [OWNER | {"controller": True}, OWNER | {"blockOwnerDeletion": False}]},
        {"generateName": "x-"},
        {"generation": 0, "selfLink": "/x", "resourceVersion": "", "deletionGracePeriodSeconds": 0},
        {"creationTimestamp": None},
        {"creationTimestamp": "2026-01-31T12:00:00+24:60"},
    ],
)
def test_accepted(make: Any, metadata: dict[str, Any]) -> None:
    """What the API server takes in metadata is valid, in objects of its own and in custom ones."""
    assert [] == _fields(make(**metadata))


@pytest.mark.parametrize("make", [_pool, _pod])
@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ({"labels": {"Acme.COM/Key": "v"}}, "labels['Acme.COM/Key']"),
        ({"annotations": {"a": "x" * (256 * 1024)}}, "annotations"),
        ({"annotations": {"a": "é" * (128 * 1024)}}, "annotations"),
        ({"finalizers": ["a/b/c"]}, "finalizers[0]"),
        ({"finalizers": "a/b"}, "finalizers"),
        ({"finalizers": ["example.com/a", 7]}, "finalizers[1]"),
        ({"finalizers": ["orphan", "foregroundDeletion"]}, "finalizers"),
        ({"ownerReferences": [{**OWNER, "uid": ""}]}, "ownerReferences[0].uid"),
        ({"ownerReferences": [{**OWNER, "apiVersion": "a/b/c"}]}, "ownerReferences[0].apiVersion"),
        ({"ownerReferences": [{**OWNER, "apiVersion": "v1", "kind": "Event"}]}, "ownerReferences[0]"),
        ({"ownerReferences": [{**OWNER, "controller": "yes"}]}, "ownerReferences[0].controller"),
        ({"ownerReferences": [{**OWNER, "controller": True}] * 2}, "ownerReferences[1].controller"),
        ({"generateName": "-"}, "generateName"),
        ({"generateName": "Ab"}, "generateName"),
        ({"generation": -1}, "generation"),
        ({"selfLink": 7}, "selfLink"),
        ({"resourceVersion": 7}, "resourceVersion"),
        ({"creationTimestamp": "2026-01-31T12:00:00+25:00"}, "creationTimestamp"),
        ({"creationTimestamp": "2026-01-31T12:00:00+01:61"}, "creationTimestamp"),
        ({"creationTimestamp": "2026-01-31t12:00:00z"}, "creationTimestamp"),
    ],
)
def test_refused(make: Any, metadata: dict[str, Any], field: str) -> None:
    """What the API server refuses in metadata is one error that names the field."""
    assert [f"metadata.{field}"] == _fields(make(**metadata))


def test_plain_finalizers() -> None:
    """A finalizer without a domain is one of Kubernetes' own, unless the object is custom."""
    assert ["metadata.finalizers[0]"] == _fields(_pod(finalizers=["hold"]))
    assert [] == _fields(_pool(finalizers=["hold"]))


@pytest.mark.parametrize("kind", ["InferencePool", "InferenceObjective", "InferenceModelRewrite"])
def test_without_a_spec(kind: str) -> None:
    """v1alpha2 demands no spec; but nothing can be made of an object without one."""
    document = {"apiVersion": OLD, "kind": kind, "metadata": {"name": "x"}}

    assert () == validate(document)
    with pytest.raises(InvalidDocumentError, match="spec: is required"):
        parse_object(document)


def test_name_that_is_still_to_be_made() -> None:
    """`generateName` without a name is valid to create, and no pod that exists."""
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "x-"}}

    assert () == validate(document)
    with pytest.raises(InvalidDocumentError, match="name: is required: what has a generateName alone gets its name"):
        Pod.from_dict(document)
    assert ["metadata.name"] == _fields({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": ""}})


def test_ports_are_integers() -> None:
    """The rule that ports are unique takes no floats; a port of the picker, which no rule looks at, may be one."""
    assert ["spec.targetPorts[0].number"] == _fields(_pool() | {"spec": SPEC | {"targetPorts": [{"number": 8000.0}]}})
    picker = {"name": "epp", "port": {"number": 9002.0}}
    assert [] == _fields(_pool() | {"spec": SPEC | {"endpointPickerRef": picker}})


@pytest.mark.parametrize(
    ("version", "spec", "named"),
    [
        (V1, OLD_SPEC, "is written as in v1alpha2 (targetPortNumber, extensionRef, selector without matchLabels)"),
        (V1, SPEC | {"selector": {"app": "x"}}, "is written as in v1alpha2 (selector without matchLabels)"),
        (OLD, SPEC, "is written as in v1 (targetPorts, selector.matchLabels): `inferencepool convert --to v1alpha2`"),
    ],
)
def test_the_other_version(version: str, spec: dict[str, Any], named: str) -> None:
    """A pool in the words of the other version is one line that says so."""
    (issue,) = validate({"apiVersion": version, "kind": "InferencePool", "metadata": {"name": "x"}, "spec": spec})

    assert "spec" == issue.field
    assert named in issue.reason


@pytest.mark.parametrize(
    ("version", "kind", "field"),
    [
        ("inference.x-k8s.io/v1alpha1", "InferencePool", "apiVersion"),
        (OLD, "InferenceModel", "kind"),
    ],
)
def test_what_is_not_served_any_more(version: str, kind: str, field: str) -> None:
    """A dead group and a dead kind are one line that says what took their place."""
    (issue,) = validate({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": OLD_SPEC})

    assert field == issue.field
    assert "`inferencepool convert --to v1`" in issue.reason


def test_fields_too_many_are_no_other_version() -> None:
    """A pool with all that its version demands is what it says, whatever else is in it: the API server prunes that."""
    document = _pool() | {"spec": SPEC | {"extensionRef": {"name": "x"}}}

    assert 8000 == InferencePool.from_dict(document).target_ports[0].number
    assert ["spec.extensionRef"] == _fields(document)


@pytest.mark.parametrize(
    "document",
    [
        {"api_version": None, "kind": None, "metadata": {"name": "x"}},
        {"metadata": {"name": "x", "creation_timestamp": datetime(2026, 1, 1, tzinfo=UTC)}},
        {"metadata": {"name": "x"}, "status": {"pod_ip": "10.0.0.1"}},
    ],
)
def test_dictionary_of_a_client(document: dict[str, Any]) -> None:
    """The dictionary that a Python client makes is refused with what to call instead, not read as a pod without IP."""
    with pytest.raises(InvalidDocumentError, match=r"sanitize_for_serialization\(pod\)"):
        Pod.from_dict(document)


@pytest.mark.parametrize("name", ["kubernetes", "kubernetes_asyncio"])
def test_objects_of_clients(name: str) -> None:
    """What the official clients serialise is read; what their `to_dict` gives is refused."""
    client = pytest.importorskip(f"{name}.client")
    pod = client.V1Pod(metadata=client.V1ObjectMeta(name="x"), status=client.V1PodStatus(pod_ip="10.0.0.1"))
    # Its constructor wants a running loop, and this method none.
    sanitize = client.ApiClient.sanitize_for_serialization
    api = client.ApiClient.__new__(client.ApiClient)
    api.configuration = client.Configuration()

    assert "10.0.0.1" == Pod.from_dict(sanitize(api, pod)).ip
    with pytest.raises(InvalidDocumentError, match="sanitize_for_serialization"):
        Pod.from_dict(pod.to_dict())


def test_object_of_lightkube() -> None:
    """What lightkube's `to_dict` gives is read."""
    resources = pytest.importorskip("lightkube.resources.core_v1")
    pod = resources.Pod.from_dict(_pod() | {"status": {"podIP": "10.0.0.1"}})

    assert "10.0.0.1" == Pod.from_dict(pod.to_dict()).ip


@pytest.mark.parametrize(
    "fields",
    [
        {"ip": "foo"},
        {"ips": ("10.0.0.1", "foo")},
        {"ips": "10.0.0.1"},
        {"host_ip": "10.0.0.300"},
        {"labels": ["app"]},
        {"labels": {"app": 7}},
        {"annotations": {7: "x"}},
    ],
)
def test_pod_by_hand(fields: dict[str, Any]) -> None:
    """A pod that is made by hand has addresses that are some, and labels of strings."""
    with pytest.raises(InvalidDocumentError, match=r"^Pod: "):
        Pod(name="x", **fields)


def test_address_by_hand_is_canonical() -> None:
    """An address is spelt as everywhere else, however it is given."""
    assert ("fd00::1", ("fd00::1",)) == ((pod := Pod(name="x", ip="FD00:0::1", ips=["fd00:0::1"])).ip, pod.ips)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("gen>3", {"gen": "4"}, True),
        ("gen>3", {"gen": "3"}, False),
        ("gen<3", {"gen": "002"}, True),
        ("gen < 3", {}, False),
        ("gen<3", {"gen": "two"}, False),
        ("gen<3", {"gen": ""}, False),
        ("gen>1,gen<9,app=x", {"gen": "5", "app": "x"}, True),
        ("gen>9223372036854775806", {"gen": "9223372036854775807"}, True),
        ("gen>1", {"gen": "9223372036854775808"}, False),
    ],
)
def test_selectors_that_compare(text: str, labels: dict[str, str], matches: bool) -> None:
    """`>` and `<` compare whole numbers of 64 bits; a label that is none does not match, nor does an absent one."""
    selector = LabelSelector.parse(text)

    assert matches is selector.matches(labels)
    assert selector == LabelSelector.parse(str(selector))


def test_documents_do_not_compare() -> None:
    """The operators of the text are none of the API's objects."""
    with pytest.raises(InvalidDocumentError, match="only selectors written as text compare numbers"):
        LabelSelector.parse("gen>3").to_dict()
    with pytest.raises(InvalidDocumentError, match="'Gt' is not one of In, NotIn, Exists, DoesNotExist"):
        LabelSelector.from_dict({"matchExpressions": [{"key": "gen", "operator": "Gt", "values": ["3"]}]})
