"""The command `envoy-config`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from inferencepool.cli import main
from inferencepool.gateway import EnvoyOptions
from tests.gateway.envoy import check
from tests.gateway.pools import connection_manager

POOL: dict[str, Any] = {
    "apiVersion": "inference.networking.k8s.io/v1",
    "kind": "InferencePool",
    "metadata": {"name": "llama"},
    "spec": {
        "selector": {"matchLabels": {"app": "llama"}},
        "targetPorts": [{"number": 8000}, {"number": 8001}],
        "endpointPickerRef": {"name": "llama-epp", "port": {"number": 9002}},
    },
}


def _pod(number: int, *, ready: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"llama-{number}", "labels": {"app": "llama"}},
        "status": {"podIP": f"10.0.0.{number}", "conditions": [{"type": "Ready", "status": str(ready)}]},
    }


@attrs.frozen
class Files:
    """The files of a configuration, and the command on them."""

    folder: Path

    def write(self, name: str, *documents: Any) -> str:
        """Write *documents* as JSON, one per line; give the name of the file."""
        file = self.folder / name
        file.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
        return str(file)

    def run(self, *arguments: str, mode: str = "FailClose", pods: bool = True) -> int:
        """Run the command with more *arguments*; give its exit status."""
        spec = POOL["spec"] | {"endpointPickerRef": POOL["spec"]["endpointPickerRef"] | {"failureMode": mode}}
        given = ["envoy-config", "--pool", self.write("pool.json", POOL | {"spec": spec}), *arguments]
        if pods:
            given += ["--pods", self.write("pods.json", _pod(1), _pod(2), _pod(3, ready=False))]
        return main(given)


@pytest.fixture(name="files")
def _files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def _members(document: dict[str, Any]) -> list[tuple[str, int]]:
    assignment = document["static_resources"]["clusters"][0]["load_assignment"]
    addresses = [
        member["endpoint"]["address"]["socket_address"]
        for locality in assignment["endpoints"]
        for member in locality["lb_endpoints"]
    ]
    return [(address["address"], address["port_value"]) for address in addresses]


class TestOutput:
    def test_ready_pods_are_the_endpoints(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Each port of each ready pod is an endpoint, and Envoy takes what is printed."""
        assert 0 == files.run()
        captured = capsys.readouterr()
        document = json.loads(captured.out)

        assert "note: a request is sent again" in captured.err
        assert [(f"10.0.0.{pod}", port) for pod in (1, 2) for port in (8000, 8001)] == _members(document)
        check(document)

    def test_yaml_says_the_same(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Both forms hold the same document, with its parts in the same order."""
        printed = []
        for form in ("json", "yaml"):
            assert 0 == files.run("--output", form, mode="FailOpen")
            printed.append(yaml.safe_load(capsys.readouterr().out))

        assert json.dumps(printed[0]) == json.dumps(printed[1])

    def test_yaml_without_its_extra(
        self, files: Files, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The error names the extra and the other way; JSON needs none."""
        monkeypatch.setitem(sys.modules, "yaml", None)

        assert 0 == files.run()
        capsys.readouterr()
        assert 1 == files.run("--output", "yaml")
        captured = capsys.readouterr()
        assert not captured.out
        assert 'pip install "inferencepool[yaml]"' in captured.err

    def test_pool_alone(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Before there are pods the configuration can be had all the same; a note says what it does."""
        assert 0 == files.run(pods=False)
        captured = capsys.readouterr()

        assert [] == _members(json.loads(captured.out))
        assert "inferencepool: note: the list of endpoints is empty, for there is no --pods" in captured.err

    def test_no_pod_is_ready(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Pods without a ready member among them are pointed out."""
        assert 0 == files.run("--pods", files.write("none.json", _pod(1, ready=False)), pods=False)
        assert "no pod is a ready member of the pool" in capsys.readouterr().err

    @pytest.mark.parametrize("pods", [False, True])
    @pytest.mark.parametrize("arguments", [["--cluster", "original-dst"], ["--eds-file", "/endpoints.json"]])
    def test_cluster_that_lists_no_endpoints(
        self, arguments: list[str], files: Files, capsys: pytest.CaptureFixture[str], *, pods: bool
    ) -> None:
        """Pods that are given for it are not passed over in silence."""
        assert 0 == files.run(*arguments, pods=pods)
        captured = capsys.readouterr()

        assert "load_assignment" not in json.loads(captured.out)["static_resources"]["clusters"][0]
        assert pods == ("note: --pods has no effect" in captured.err)

    def test_file_of_endpoints(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """The endpoints alone are printed as the file that a configuration with --eds-file reads, and fit it."""
        assert 0 == files.run("--print", "endpoints")
        file = files.write("endpoints.json", json.loads(capsys.readouterr().out))

        assert 0 == files.run("--eds-file", file, pods=False)
        check(json.loads(capsys.readouterr().out))

    def test_every_option_reaches_the_document(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """Each option changes what is printed, so none of them is left behind on the way."""
        given = {
            "--body-mode": "none",
            "--buffer-limit": "1024",
            "--cluster": "original-dst",
            "--eds-file": "/endpoints.json",
            "--endpoint-connect-timeout": "3",
            "--endpoint-idle-timeout": "3",
            "--epp-address": "[fd00::1]:9002",
            "--epp-ca-file": "/ca.pem",
            "--epp-connect-timeout": "3",
            "--epp-health-check": "off",
            "--epp-health-port": "9003",
            "--epp-keepalive": "3",
            "--epp-timeout": "3",
            "--epp-tls": "false",
            "--fallback": "round-robin",
            "--idle-timeout": "3",
            "--keep-header": "x-prefiller-host-port",
            "--listen": "127.0.0.1:0",
            "--admin": "127.0.0.1:0",
            "--max-duration": "3",
            "--max-requests": "3",
            "--retries": "1",
            "--retry-resets": "true",
            "--strip-header": "x-tenant",
            "--upgrade": "none",
        }
        lines = [[option, value] for option, value in given.items()]
        lines += [["--usage"], ["--epp-ca-file", "/ca.pem", "--epp-server-name", "name"], []]
        lines.append(["--outlier-detection", "true", "--fallback", "round-robin"])
        documents = set()
        for line in lines:
            assert 0 == files.run(*line)
            documents.add(capsys.readouterr().out)

        assert len(lines) == len(documents)
        # Some options are named in the singular, for they are given once for each value.
        named = {word.removeprefix("--").replace("-", "_") for line in lines for word in line if word[:2] == "--"}
        fields = {field.name for field in attrs.fields(EnvoyOptions)}
        several = {"keep_headers", "strip_headers", "upgrades"}
        assert {field.removesuffix("s") if field in several else field for field in fields} == named

    @pytest.mark.parametrize(
        ("arguments", "mode", "told"),
        [
            ([], "FailClose", "inferencepool serve --fallbacks 3"),
            (["--retries", "1"], "FailClose", "inferencepool serve --fallbacks 1"),
            (["--retries", "0"], "FailClose", ""),
            (["--cluster", "original-dst"], "FailClose", ""),
            (["--fallback", "round-robin"], "FailClose", ""),
            ([], "FailOpen", ""),
        ],
    )
    def test_retries_need_fallbacks_of_the_picker(
        self, arguments: list[str], mode: str, told: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Where Envoy goes nowhere by itself, a note says how the picker is to be started."""
        assert 0 == files.run(*arguments, mode=mode)
        error = capsys.readouterr().err
        assert told in error
        assert bool(told) is ("sent again" in error)

    def test_upgrades(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """WebSocket unless told otherwise; several by saying so several times."""
        for arguments, expected in (
            ([], ["websocket"]),
            (["--upgrade", "WebSocket", "--upgrade", "spdy/3.1"], ["websocket", "spdy/3.1"]),
            (["--upgrade", "none"], []),
        ):
            assert 0 == files.run(*arguments)
            manager = connection_manager(json.loads(capsys.readouterr().out))
            assert expected == [each["upgrade_type"] for each in manager.get("upgrade_configs", [])]


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "field"),
        [
            (["--cluster", "original-dst"], "cluster: original-dst cannot honor"),
            (["--body-mode", "full-duplex"], "body_mode: full-duplex cannot honor"),
            (["--fallback", "none"], "fallback: none cannot honor"),
        ],
    )
    def test_what_cannot_fail_open_is_status_1(
        self, arguments: list[str], field: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """What pool and options ask for together and Envoy cannot do is an error with the reason."""
        assert 1 == files.run(*arguments, mode="FailOpen")
        captured = capsys.readouterr()
        assert not captured.out
        assert captured.err.startswith(f"inferencepool: {field}")

    def test_invalid_pool_is_status_1(self, files: Files, capsys: pytest.CaptureFixture[str]) -> None:
        """The error names file and field."""
        file = files.write("wrong.json", POOL | {"spec": POOL["spec"] | {"targetPorts": []}})

        assert 1 == main(["envoy-config", "--pool", file])
        assert f"{file}: document 1: spec.targetPorts: " in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "reason"),
        [
            (["--pods", "-", "--pool", "-"], "standard input (-) can be read only once"),
            (["--print", "endpoints"], "argument --print: endpoints come from --pods"),
            (["--epp-timeout", "0"], "argument --epp-timeout: 0.0 is not a number of seconds"),
            (["--epp-timeout", "soon"], "argument --epp-timeout: invalid float value"),
            (["--epp-tls", "maybe"], "argument --epp-tls: 'maybe' is neither true nor false"),
            (["--epp-address", "epp"], "argument --epp-address: 'epp' is not HOST:PORT"),
            (["--listen", "localhost:80"], "argument --listen: 'localhost:80' must be an IP address"),
            (["--keep-header", "x-other"], "argument --keep-header: 'x-other' is not removed anyhow"),
            (["--epp-server-name", "name"], "argument --epp-server-name: 'name' is not checked without epp_ca_file"),
            (["--upgrade", "connect"], "argument --upgrade: 'connect' would let clients open connections to anywhere"),
            (["--upgrade", "two words"], "argument --upgrade: 'two words' is not the name of a protocol"),
            (["--cluster", "edge"], "argument --cluster: invalid choice: 'edge'"),
        ],
    )
    def test_wrong_usage_is_status_2(
        self, arguments: list[str], reason: str, files: Files, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Options that make no sense by themselves end with status 2 and say which one it is."""
        with pytest.raises(SystemExit) as raised:
            files.run(*arguments, pods=False)

        assert 2 == raised.value.code
        captured = capsys.readouterr()
        assert not captured.out
        assert reason in captured.err

    def test_pool_on_standard_input(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """A pool may come from a pipe."""
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(POOL).encode())))

        assert 0 == main(["envoy-config", "--pool", "-", "--cluster", "original-dst"])
        assert "static_resources" in json.loads(capsys.readouterr().out)
