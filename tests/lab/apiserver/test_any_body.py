"""Whatever is sent, it is answered, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inferencepool.lab.apiserver import RESOURCES, ApiServer
from inferencepool.lab.apiserver._faults import Answer
from inferencepool.lab.apiserver._requests import read_request
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import APPLY, MERGE

JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
FIELDS = """
    $patch conditions containers finalizers from gracePeriodSeconds labels managedFields matchLabels matches
    metadata name op parents path poolRef ports preconditions renewTime resourceAttributes roleRef rules
    selector spec status subjects targetPorts template value
"""
NAMES = st.sampled_from(FIELDS.split())
SCALARS = (
    st.none() | st.booleans() | st.integers(-1, 3) | st.floats(0, 1) | st.sampled_from(["", "a", "/a/0", "replace"])
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))
BODIES = st.dictionaries(NAMES, VALUES, max_size=4)
PATHS = st.sampled_from([known for known in RESOURCES if known.plural != "namespaces"])


@pytest.fixture(name="server", scope="module")
def _server() -> ApiServer:
    return ApiServer(initializing=0, seed=1)


def ask(server: ApiServer, method: str, path: str, kind: str, body: Any) -> Answer:
    """Ask a server that has no connection."""
    headers = {**server.admin.headers, "content-type": kind}
    answer = server._service.answer(read_request(method, path, headers, json.dumps(body).encode()), lambda: None)
    assert isinstance(answer, Answer)
    return answer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    resource=PATHS,
    method=st.sampled_from(["POST", "PUT", "PATCH", "DELETE"]),
    kind=st.sampled_from(["application/json", MERGE, STRATEGIC, APPLY, JSON]),
    status=st.booleans(),
    body=BODIES | st.lists(BODIES, max_size=3) | VALUES,
    named=st.booleans(),
)
def test_any_body_is_answered(
    server: ApiServer, resource: Any, method: str, kind: str, status: bool, body: Any, named: bool
) -> None:
    """A body of any shape, at any path and with any method, is done or refused; it is never a mistake of the server."""
    root = f"/apis/{resource.api_version}" if resource.group else "/api/v1"
    namespace = "/namespaces/default" if resource.namespaced else ""
    name = "" if method == "POST" else "/a/status" if status else "/a"
    if named and isinstance(body, dict) and isinstance(body.get("metadata", {}), dict):
        body = body | {"metadata": body.get("metadata", {}) | {"name": "a"}}
    ask(server, "POST", f"{root}{namespace}/{resource.plural}", "application/json", {"metadata": {"name": "a"}})
    if resource.plural == "pods" and server.pods.find("a") is None:
        server.pods.add(make_pod("a"))
    answer = ask(server, method, f"{root}{namespace}/{resource.plural}{name}?fieldManager=x&force=true", kind, body)

    assert answer.status < 500 or b"resourceVersion should not be set" in answer.body, answer.body
    listed = ask(server, "GET", f"{root}{namespace}/{resource.plural}", "application/json", None)
    assert listed.status in (200, 405)


def test_mistakes_are_answered_and_logged(server: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of the server itself is answered with 500, and its log says which."""

    def fail(*_: object) -> None:
        raise LookupError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server._service._api.catalog, "find", fail)
        answer = ask(server, "GET", "/api/v1/pods", "application/json", None)

    assert 500 == answer.status
    assert ["GET /api/v1/pods"] == [record.getMessage() for record in caplog.records]
