from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st

from inferencepool.cli import main
from inferencepool.cli._conversion import convert_document
from inferencepool.errors import InvalidDocumentError
from inferencepool.model import validate
from tests.strategies.documents import garbage, mutated, old_models, valid

V1, OLD = "inference.networking.k8s.io/v1", "inference.networking.x-k8s.io/v1alpha2"
SPEC: dict[str, Any] = {
    "selector": {"matchLabels": {"app": "x"}},
    "targetPorts": [{"number": 8000}, {"number": 8001}],
    "appProtocol": "kubernetes.io/h2c",
    "endpointPickerRef": {"name": "epp", "port": {"number": 9002}},
}
OLD_SPEC: dict[str, Any] = {"selector": {"app": "x"}, "targetPortNumber": 8000, "extensionRef": {"name": "epp"}}


def _pool(version: Any, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": "InferencePool", "metadata": {"name": "x", **metadata}, "spec": spec}


def _model(**spec: Any) -> dict[str, Any]:
    spec = {"modelName": "chat", "poolRef": {"name": "x"}, **spec}
    return {"apiVersion": OLD, "kind": "InferenceModel", "metadata": {"name": "m"}, "spec": spec}


class Convert:
    """Runs the command on documents."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.file = folder / "pool.json"
        self._capsys = capsys
        self.notes: list[str] = []

    def __call__(self, *documents: dict[str, Any], to: str = "v1") -> Any:
        """Convert, and give what is printed; None where that fails."""
        self.file.write_text("\n".join(map(json.dumps, documents)))
        status = main(["convert", str(self.file), "--to", to])
        captured = self._capsys.readouterr()
        lead = f"inferencepool: note: {self.file}: "
        self.notes = [line.removeprefix(lead) for line in captured.err.splitlines()]
        return None if status else json.loads(captured.out)


@pytest.fixture(name="convert")
def _convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Convert:
    return Convert(tmp_path, capsys)


@pytest.mark.parametrize("version", [OLD, V1, "inference.x-k8s.io/v1alpha1"])
def test_to_v1(convert: Convert, version: str) -> None:
    """A pool that is written as in v1alpha2 becomes one of v1, whatever it says; the implied port is written out."""
    made = convert(_pool(version, OLD_SPEC))

    assert () == validate(made)
    assert (V1, {"matchLabels": {"app": "x"}}) == (made["apiVersion"], made["spec"]["selector"])
    assert 9002 == made["spec"]["endpointPickerRef"]["port"]["number"]
    assert ["document 1: spec.extensionRef.portNumber: is absent, and v1 demands a port: 9002 is set, as implied"] == (
        convert.notes
    )


def test_to_v1alpha2(convert: Convert) -> None:
    """What v1alpha2 has no words for is noted, each with what is lost."""
    made = convert(_pool(V1, SPEC), to="v1alpha2")

    assert () == validate(made)
    assert (OLD, 8000, 9002) == (
        made["apiVersion"],
        made["spec"]["targetPortNumber"],
        made["spec"]["extensionRef"]["portNumber"],
    )
    assert [
        "document 1: spec.targetPorts: only the first, 8000, is kept; lost are 8001",
        "document 1: spec.appProtocol: 'kubernetes.io/h2c' is lost",
    ] == convert.notes


def test_what_cannot_be_converted(convert: Convert) -> None:
    """A pool without a picker cannot be one of v1alpha2: nothing is printed, and the error names the field."""
    spec = {name: value for name, value in SPEC.items() if name != "endpointPickerRef"}

    assert convert(_pool(V1, spec), to="v1alpha2") is None
    assert "document 1: spec.endpointPickerRef: is required in v1alpha2, as extensionRef" in convert.notes[0]


def test_metadata_of_the_server(convert: Convert) -> None:
    """What the server wrote about the former object is left out, so that the new one can be created."""
    made = convert(_pool(OLD, OLD_SPEC, uid="1", resourceVersion="7", labels={"a": "b"}))

    assert {"name": "x", "namespace": "default", "labels": {"a": "b"}} == made["metadata"]
    assert "document 1: metadata: uid, resourceVersion of the former object left out" == convert.notes[0]


def test_other_documents(convert: Convert) -> None:
    """References follow their pool; documents of other kinds stay, with a note where they name the other group."""
    route = {"kind": "HTTPRoute", "spec": {"rules": [{"backendRefs": [{"group": "inference.networking.x-k8s.io"}]}]}}
    objective = {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": "o"},
        "spec": {"poolRef": {"name": "x", "group": "inference.networking.x-k8s.io"}},
    }
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    made = convert(_pool(OLD, OLD_SPEC), objective, route, service)

    assert ("List", 4) == (made["kind"], len(made["items"]))
    assert "inference.networking.k8s.io" == made["items"][1]["spec"]["poolRef"]["group"]
    assert [route, service] == made["items"][2:]
    assert [1, 2, 3] == [int(note.split(":")[0].removeprefix("document ")) for note in convert.notes]


def test_inference_model(convert: Convert) -> None:
    """An InferenceModel becomes an objective with a priority, and a rewrite if it has targets."""
    made = convert(_model(criticality="Sheddable", targetModels=[{"name": "chat-1", "weight": 10}]))
    objective, rewrite = made["items"]

    assert [(), ()] == [validate(objective), validate(rewrite)]
    assert -1 == objective["spec"]["priority"]
    assert [{"modelRewrite": "chat-1", "weight": 10}] == rewrite["spec"]["rules"][0]["targets"]


def test_unknown_fields(convert: Convert) -> None:
    """A field that the API does not have is left out with a note."""
    made = convert(_pool(OLD, OLD_SPEC | {"replicas": 3}))

    assert "replicas" not in made["spec"]
    assert "document 1: spec.replicas: is no field of this object, it is left out" in convert.notes


def test_yaml_from_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """YAML is answered with YAML, document by document; that comments are lost is said."""
    text = f"# two\n{yaml.safe_dump(_pool(OLD, OLD_SPEC))}---\n{yaml.safe_dump(_pool(V1, SPEC))}"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))

    assert 0 == main(["convert", "-", "--to", "v1"])
    captured = capsys.readouterr()
    assert [V1, V1] == [document["apiVersion"] for document in yaml.safe_load_all(captured.out)]
    assert "standard input: comments are not kept" in captured.err


@given(mutated(valid() | old_models(), spare=("kind",)) | garbage(), st.sampled_from(["v1", "v1alpha2"]))
@example(_model(criticality=["Critical"]), "v1")
@example(_model(criticality={"Critical": 1}), "v1")
@example(_pool([V1], SPEC), "v1")
def test_any_document_is_converted_or_refused(document: Any, to: Literal["v1", "v1alpha2"]) -> None:
    """Whatever its fields hold, a document becomes others, or the error says what is wrong with it."""
    assume(isinstance(document, dict))
    with contextlib.suppress(InvalidDocumentError):
        assert convert_document(document, to).documents


def test_both_versions_at_once(convert: Convert) -> None:
    """A spec with ports of both versions says two things, so it is an error."""
    assert convert(_pool(V1, SPEC | OLD_SPEC)) is None
    assert "has fields of both versions" in convert.notes[0]
