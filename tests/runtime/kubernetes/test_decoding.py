"""Reading the JSON of pods, held to the standard library."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given

from inferencepool.adapters.bodies import loads_json
from inferencepool.adapters.kubernetes import read_pod
from inferencepool.errors import InvalidDocumentError
from inferencepool.model import Pod
from inferencepool.runtime.kubernetes import fastest_pod_loads
from tests.strategies import documents

LOADS = fastest_pod_loads()


def outcome(document: Any) -> Pod | InvalidDocumentError:
    """The pod, or what is wrong with it."""
    try:
        return read_pod(document)
    except InvalidDocumentError as error:
        return error


def check(expected: Any, found: Any) -> None:
    """The same comes out of both; what is wrong in parts of the metadata that nobody needs may pass."""
    right, fast = outcome(expected), outcome(found)
    if isinstance(right, InvalidDocumentError):
        noticed = {*map(str, fast.issues)} if isinstance(fast, InvalidDocumentError) else set()
        assert noticed <= {*map(str, right.issues)}
        assert all(issue.field.startswith("metadata.") for issue in right.issues if str(issue) not in noticed)
    else:
        assert str(right) == str(fast)


@given(pod=documents.pods() | documents.mutated(documents.pods()) | documents.garbage())
def test_events(pod: Any) -> None:
    """Whatever the object of an event is, the same pod comes out of it, or the same complaint."""
    line = json.dumps({"type": "ADDED", "object": pod}).encode()
    expected, found = json.loads(line), LOADS(line)

    assert expected["type"] == found["type"]
    check(expected["object"], found["object"])


@given(pod=documents.pods() | documents.mutated(documents.pods()) | documents.garbage())
def test_pages(pod: Any) -> None:
    """The same holds for the items of a page, however it is arranged."""
    metadata = {"resourceVersion": "1", "continue": "x", "remainingItemCount": 5}
    for page in ({"kind": "PodList", "metadata": metadata, "items": [pod]}, {"items": [pod], "metadata": metadata}):
        body = json.dumps(page).encode()
        expected, found = json.loads(body), LOADS(body)

        assert metadata["continue"] == found["metadata"]["continue"]
        check(expected["items"][0], found["items"][0])


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"ERROR","object":{"kind":"Status","status":"Failure","code":410,"details":{"retryAfterSeconds":1}}}',
        '{"object":{"metadata":{"name":"a"}},"type":"ADDED"}',
        '{"type":5,"object":{}}',
        '{"type":"ADDED"}',
        '{"metadata":{"resourceVersion":"1"},"items":null}',
        '{"metadata":{"resourceVersion":"1"}}',
        "[]",
    ],
)
def test_others(text: str) -> None:
    """What is neither an event of a pod nor a page of pods is read whole."""
    assert json.loads(text) == LOADS(text.encode())


@pytest.mark.parametrize("text", [b"", b"{", b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}', b"<html>"])
def test_no_json(text: bytes) -> None:
    """What is no JSON is refused."""
    with pytest.raises(ValueError, match=r".*"):
        LOADS(text)


def test_without_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fast reader, the standard library reads."""
    monkeypatch.setitem(sys.modules, "msgspec", None)

    assert loads_json is fastest_pod_loads()
