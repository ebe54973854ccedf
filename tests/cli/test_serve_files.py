"""The files of `serve`, in this process."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inferencepool.cli import _input_file
from inferencepool.cli._serve_files import endpoints_file, pods_file, read_serve_pool_file
from inferencepool.errors import InvalidDocumentError
from inferencepool.registry import EndpointRegistry
from tests.cli.test_serve import entry, objective, pod, pool, rewrite, write


def test_pool_with_objectives_and_rewrites(tmp_path: Path) -> None:
    """Those of the pool are taken; those of others are named; documents of other kinds are left aside."""
    elsewhere = objective("o", "llama") | {"metadata": {"name": "far", "namespace": "other"}}
    documents = (pool(), objective("o", "llama"), rewrite("r", "llama"), objective("p", "qwen"), elsewhere)
    found = read_serve_pool_file(write(tmp_path / "pool.json", *documents, {"kind": "Service", "apiVersion": "v1"}))

    assert ("llama", ["o"], ["r"]) == (
        found.pool.name,
        [each.metadata.name for each in found.objectives],
        [each.metadata.name for each in found.rewrites],
    )
    assert [
        f"note: {tmp_path / 'pool.json'}: 1 document of other kinds passed over: Service",
        "document 4: InferenceObjective default/p is of InferencePool default/qwen and is not used",
        "document 5: InferenceObjective other/far is of InferencePool other/llama and is not used",
    ] == [note.removeprefix(f"{tmp_path / 'pool.json'}: ") for note in found.notes]


class TestPipes:
    def test_without_a_writer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A pool file that is a pipe to which nobody writes is refused after a time, instead of a start without end."""
        monkeypatch.setattr(_input_file, "PIPE_TIMEOUT", 0.1)
        os.mkfifo(tmp_path / "pool.json")

        with pytest.raises(InvalidDocumentError, match=r"is a pipe whose end did not come within 0\.1 s"):
            read_serve_pool_file(str(tmp_path / "pool.json"))

    def test_without_an_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Of one that does not end, no more is read than a file may have."""
        monkeypatch.setattr(_input_file, "MAX_FILE_SIZE", 1 << 20)

        with pytest.raises(InvalidDocumentError, match="/dev/zero: longer than 1 MiB"):
            read_serve_pool_file("/dev/zero")

    def test_of_a_shell(self, tmp_path: Path) -> None:
        """What a shell puts in the place of ``<(command)`` is read to its end, however it comes."""
        content = Path(write(tmp_path / "pool.json", pool())).read_bytes()
        ours, theirs = os.pipe()

        def produce() -> None:
            os.write(theirs, content[:10])
            os.write(theirs, content[10:])
            os.close(theirs)

        with ThreadPoolExecutor() as executor:
            executor.submit(produce)
            found = read_serve_pool_file(f"/dev/fd/{ours}")
        os.close(ours)

        assert "llama" == found.pool.name


def test_every_wrong_document_is_told(tmp_path: Path) -> None:
    """An objective or rewrite that is not valid makes the file useless, and all of them are named."""
    wrong = [objective("o", "llama") | {"spec": {}}, rewrite("r", "llama") | {"spec": 7}]

    with pytest.raises(InvalidDocumentError) as caught:
        read_serve_pool_file(write(tmp_path / "pool.json", pool(), *wrong))

    assert ["document 2: spec.poolRef", "document 3: spec"] == [issue.field for issue in caught.value.issues][:2]


def test_pods(tmp_path: Path) -> None:
    """Pods are taken over as a whole; one that serves and has no address is named."""
    known = read_serve_pool_file(write(tmp_path / "pool.json", pool())).pool
    registry = EndpointRegistry(known, publish_interval=0)
    file = pods_file("pods.json", known, registry)

    listed = [pod("a", "10.0.0.1"), pod("b", None)]
    issues = file.load(json.dumps({"kind": "PodList", "apiVersion": "v1", "items": listed}).encode())
    assert ["status.podIP: Ready pod default/b has no IP address, so it is left out"] == [str(each) for each in issues]
    assert ["default/a-rank-0"] == [endpoint.id for endpoint in registry.endpoints()]

    with pytest.raises(InvalidDocumentError, match=r"pods\.json: document 2: metadata\.name"):
        file.load("\n".join(map(json.dumps, [pod("c", "10.0.0.3"), pod("C", "10.0.0.4")])).encode())
    assert ["default/a-rank-0"] == [endpoint.id for endpoint in registry.endpoints()]


def test_endpoints() -> None:
    """Entries are taken over but for wrong ones; YAML is read as well."""
    registry = EndpointRegistry(publish_interval=0)
    file = endpoints_file("endpoints.yaml", registry)

    issues = file.load(json.dumps({"endpoints": [entry("a", "10.0.0.1"), entry("b", "nowhere")]}).encode())
    assert ["endpoints[1].address"] == [issue.field for issue in issues]
    assert ["default/a"] == [endpoint.id for endpoint in registry.endpoints()]

    assert not file.load(b'endpoints:\n- {name: c, address: "fd00::1", port: "8000"}\n')
    assert ["[fd00::1]:8000"] == [endpoint.destination for endpoint in registry.endpoints()]

    with pytest.raises(InvalidDocumentError, match=r"endpoints\.yaml: not UTF-8 text"):
        file.load(b"\xff")


def test_example_of_the_documentation(root: Path) -> None:
    """The sample file of endpoints is right, and the page shows it as it is."""
    text = (root / "docs" / "examples" / "endpoints.yaml").read_text(encoding="utf-8")
    registry = EndpointRegistry(publish_interval=0)

    assert not endpoints_file("endpoints.yaml", registry).load(text.encode())
    assert ["default/vllm-0", "team-a/vllm-1"] == [endpoint.id for endpoint in registry.endpoints()]
    assert f"```yaml\n{text}```" in (root / "docs" / "how-to" / "serve.md").read_text(encoding="utf-8")
