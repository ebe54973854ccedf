from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inferencepool import __version__
from inferencepool.cli import main
from inferencepool.errors import InferencePoolError
from tests.patience import PATIENCE

POOL: dict[str, Any] = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "llama"},
    "spec": {
        "selector": {"matchLabels": {"app": "llama"}},
        "targetPorts": [{"number": 8000}],
        "endpointPickerRef": {"name": "llama-epp", "port": {"number": 9002}},
    },
}
READY_POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "llama-0", "labels": {"app": "llama"}},
    "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
}


def _write(folder: Path, name: str, *documents: dict[str, Any]) -> str:
    file = folder / name
    file.write_text("\n".join(json.dumps(document) for document in documents), encoding="utf-8")
    return str(file)


class TestValid:
    def test_documents_are_counted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Files without errors get a line each, with the number of their documents."""
        one = _write(tmp_path, "one.json", POOL)
        two = _write(tmp_path, "two.json", POOL, READY_POD)

        assert 0 == main(["validate", one, two])
        captured = capsys.readouterr()
        assert f"{one}: 1 document valid\n{two}: 2 documents valid\n" == captured.out
        assert not captured.err

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """`-` is standard input."""
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(POOL).encode())))

        assert 0 == main(["validate", "-"])
        assert "standard input: 1 document valid\n" == capsys.readouterr().out

    def test_examples_of_the_documentation(self, root: Path) -> None:
        """The sample manifests of this repository are valid."""
        assert 0 == main(["validate", *(str(root / "docs" / "examples" / name) for name in ("pool.yaml", "pods.yaml"))])

    def test_pod_that_is_still_pending_needs_no_address(self, tmp_path: Path) -> None:
        """A pod without an IP address is valid as long as it does not claim to be ready."""
        pending = READY_POD | {"status": {"phase": "Pending"}}

        assert 0 == main(["validate", _write(tmp_path, "pod.json", pending)])


class TestInvalid:
    @pytest.mark.parametrize(
        ("document", "expected"),
        [
            (
                POOL | {"spec": POOL["spec"] | {"targetPorts": [{"number": 70000}]}},
                "document 1: spec.targetPorts[0].number: 70000 is not in 1 to 65535",
            ),
            (POOL | {"extra": 1}, "document 1: extra: "),
            (
                POOL | {"apiVersion": "inference.networking.k8s.io/v2"},
                "document 1: apiVersion: 'inference.networking.k8s.io/v2' is not one of inference.networking.k8s.io/",
            ),
            ({"kind": "InferencePool"}, "document 1: apiVersion: is required"),
            (READY_POD | {"status": {"podIP": "10.0.0.300"}}, "document 1: status.podIP: "),
            (
                READY_POD | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}},
                "document 1: status.podIP: is missing, though the pod is Ready",
            ),
        ],
    )
    def test_error_names_file_document_and_field(
        self, document: dict[str, Any], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Every error is a line with file, document, field and reason."""
        file = _write(tmp_path, "wrong.json", document)

        assert 1 == main(["validate", file])
        captured = capsys.readouterr()
        assert not captured.out
        assert captured.err.startswith(f"{file}: {expected}")
        assert "Traceback" not in captured.err

    def test_all_errors_of_all_files_are_reported(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Neither the first error of a document nor the first bad file ends the check."""
        twice = POOL | {"spec": POOL["spec"] | {"targetPorts": [{"number": 0}, {"number": 70000}]}}
        wrong = _write(tmp_path, "wrong.json", POOL, twice)
        good = _write(tmp_path, "good.json", POOL)
        missing = str(tmp_path / "missing.yaml")

        assert 1 == main(["validate", missing, wrong, good])
        captured = capsys.readouterr()
        assert f"{good}: 1 document valid\n" == captured.out
        lines = captured.err.splitlines()
        assert f"{missing}: no such file" == lines[0]
        assert lines[1].startswith(f"{wrong}: document 2: spec.targetPorts[0].number: ")
        assert lines[2].startswith(f"{wrong}: document 2: spec.targetPorts[1].number: ")
        assert 3 == len(lines)

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "is empty"),
            (b"\x00\x01\x02\xff\xfe", "not UTF-8 text"),
            (b"kind: [unclosed", "line "),
            (b"just a text", "must be a mapping"),
            (b"# nothing\n---\n", "holds no document"),
        ],
    )
    def test_file_that_is_no_manifest(
        self, content: bytes, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An empty file, binary garbage and broken YAML are errors that name the file."""
        file = tmp_path / "wrong.yaml"
        file.write_bytes(content)

        assert 1 == main(["validate", str(file)])
        error = capsys.readouterr().err
        assert error.startswith(f"{file}: ")
        assert expected in error
        assert 1 == error.count("\n")

    def test_name_with_a_line_break_stays_on_its_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A field whose name holds a line break cannot fake a second line."""
        file = _write(tmp_path, "wrong.json", POOL | {"a\nb": 1})

        assert 1 == main(["validate", file])
        error = capsys.readouterr().err
        assert f"{file}: document 1: a\\nb: " in error
        assert 1 == error.count("\n")

    def test_reason_of_several_lines_names_the_file_in_each(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An error that does not name the file gets its name, on every line."""

        def refuse(_: str) -> None:
            message = "one\ntwo"
            raise InferencePoolError(message)

        monkeypatch.setattr("inferencepool.cli._validate.read_documents", refuse)

        assert 1 == main(["validate", "x.yaml"])
        assert "x.yaml: one\nx.yaml: two\n" == capsys.readouterr().err


class TestUsage:
    @pytest.mark.parametrize("arguments", [[], ["validate"], ["validate", "-", "-"], ["unknown"], ["--unknown"]])
    def test_wrong_usage_is_status_2(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        """Arguments that make no sense end with status 2, and two lines say what is wrong and where to read more."""
        with pytest.raises(SystemExit) as raised:
            main(arguments)

        assert 2 == raised.value.code
        what, where = capsys.readouterr().err.splitlines()
        assert "error: " in what
        assert where.endswith("--help tells what there is")

    def test_version(self, capsys: pytest.CaptureFixture[str]) -> None:
        """`--version` prints the version of the package."""
        with pytest.raises(SystemExit) as raised:
            main(["--version"])

        assert not raised.value.code
        assert f"inferencepool {__version__}\n" == capsys.readouterr().out


class TestEnding:
    def test_interrupt_is_status_130(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Ctrl-C ends the command quietly with the status that shells expect."""

        def interrupt(_: str) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("inferencepool.cli._validate.read_documents", interrupt)

        assert 130 == main(["validate", "x.yaml"])

    def test_error_of_the_system_is_one_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What the operating system refuses is a line on standard error, not a traceback."""

        def fail(_: str) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("inferencepool.cli._validate.read_documents", fail)

        assert 1 == main(["validate", "x.yaml"])
        assert "inferencepool: [Errno 28] No space left on device\n" == capsys.readouterr().err

    def test_reader_that_goes_away_is_no_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """When the reader of a pipe ends first, nothing is complained about."""
        file = _write(tmp_path, "pool.json", POOL)
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "w", encoding="utf-8") as closed_pipe:
            monkeypatch.setattr(sys, "stdout", closed_pipe)

            assert 141 == main(["validate", file])
        assert not capsys.readouterr().err

    def test_output_without_an_encoding_for_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A file name that the terminal cannot show is escaped."""
        file = _write(tmp_path, "pööl.json", POOL)
        output = io.BytesIO()
        terminal = io.TextIOWrapper(output, encoding="ascii")
        monkeypatch.setattr(sys, "stdout", terminal)

        assert 0 == main(["validate", file])
        assert b"p\\xf6\\xf6l.json: 1 document valid\n" in output.getvalue()
        assert not capsys.readouterr().err

    def test_output_that_is_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The command also prints into what only looks like a file."""
        output = io.StringIO()
        monkeypatch.setattr(sys, "stdout", output)

        assert 0 == main(["validate", _write(tmp_path, "pool.json", POOL)])
        assert output.getvalue().endswith("pool.json: 1 document valid\n")

    def test_module_runs_and_gives_its_status(self, root: Path, tmp_path: Path) -> None:
        """`python -m inferencepool` checks files and ends with the status of the check."""
        wrong = tmp_path / "wrong.json"
        wrong.write_text('{"kind": ', encoding="utf-8")
        completed = subprocess.run(
            [sys.executable, "-m", "inferencepool", "validate", str(wrong)],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )

        assert (1, "") == (completed.returncode, completed.stdout)
        assert completed.stderr.startswith(f"{wrong}: not JSON: line 1")
        assert "Traceback" not in completed.stderr


@pytest.mark.skipif(os.name != "posix", reason="the shell of this system closes no standard streams")
@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        ("--version >&-", 1, "inferencepool: standard output: Bad file descriptor\n"),
        ("serve --help >&-", 1, "inferencepool: standard output: Bad file descriptor\n"),
        ("validate docs/examples/pool.yaml >&-", 1, "inferencepool: standard output: Bad file descriptor\n"),
        ("serve --help > /dev/full", 1, "inferencepool: [Errno 28] No space left on device\n"),
        ("serve --max-stream 3 --grp-port=1", 2, "inferencepool serve: error: unrecognized arguments: --max-stream 3"),
        ("validate - <&-", 1, "standard input: is closed\n"),
        ("validate ''", 1, "''"),
    ],
)
def test_closed_streams(root: Path, arguments: str, status: int, error: str) -> None:
    """A standard stream that was closed before the start, or a file without a name, ends in no traceback."""
    command = f"exec {shlex.quote(sys.executable)} -m inferencepool {arguments}"
    completed = subprocess.run(
        ["/bin/sh", "-c", command], cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    said = completed.stdout + completed.stderr
    assert (status, True) == (completed.returncode, said.startswith(error))
    assert "Traceback" not in said


class TestOtherKinds:
    def test_passed_over(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Documents of other kinds are passed over with one note."""
        others = [{"apiVersion": "v1", "kind": kind} for kind in ("Service", "Deployment", "Service")]
        file = _write(tmp_path, "all.json", others[0], POOL, *others[1:])

        assert 0 == main(["validate", file])
        captured = capsys.readouterr()
        assert f"{file}: 1 document valid\n" == captured.out
        assert f"note: {file}: 3 documents of other kinds passed over: Deployment, 2 x Service\n" == captured.err

    def test_strict(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """With `--strict` each of them is an error."""
        file = _write(tmp_path, "all.json", POOL, {"apiVersion": "v1", "kind": "Service"})

        assert 1 == main(["validate", "--strict", file])
        assert capsys.readouterr().err.startswith(f"{file}: document 2: kind: 'Service' is not one of InferencePool, ")

    @pytest.mark.parametrize("command", ["pick", "envoy-config"])
    def test_in_other_commands(self, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`pick` and `envoy-config` pass over what they do not use, once for each file, and `--strict` refuses it."""
        service = {"apiVersion": "v1", "kind": "Service"}
        pool, pods = _write(tmp_path, "pool.json", service, POOL), _write(tmp_path, "pods.json", READY_POD, service)

        assert 0 == main([command, "--pool", pool, "--pods", pods])
        lines = [line for line in capsys.readouterr().err.splitlines() if "passed over" in line]
        assert [
            f"inferencepool: note: {file}: 1 document of other kinds passed over: Service" for file in (pool, pods)
        ] == lines
        assert 1 == main([command, "--strict", "--pool", pool, "--pods", pods])
        assert "document 1: kind: 'Service' is not one of InferencePool" in capsys.readouterr().err

    @pytest.mark.parametrize("command", ["pick", "envoy-config"])
    def test_unknown_fields(self, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A misspelt field has no effect, which is said; `--strict` refuses it."""
        spec = {**POOL["spec"], "endpointPickerRef": {**POOL["spec"]["endpointPickerRef"], "failuremode": "FailOpen"}}
        pool, pods = _write(tmp_path, "pool.json", {**POOL, "spec": spec}), _write(tmp_path, "pods.json", READY_POD)
        text = f"{pool}: document 1: spec.endpointPickerRef.failuremode: is no field of this object"

        assert 0 == main([command, "--pool", pool, "--pods", pods])
        assert f"inferencepool: note: {text}" in capsys.readouterr().err.splitlines()
        assert 1 == main([command, "--strict", "--pool", pool, "--pods", pods])
        assert f"inferencepool: {text}\n" == capsys.readouterr().err
