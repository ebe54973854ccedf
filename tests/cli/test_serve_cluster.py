"""`serve` with a cluster: its flags, its log, its readiness."""

from __future__ import annotations

import json
import logging
import signal
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from inferencepool.cli import main
from inferencepool.lab.apiserver import ApiServer, Fault
from inferencepool.testing import make_pod, make_pool
from tests.adapters.extproc.oracle import parse_response
from tests.cli.test_serve import Health, Server, objective, rewrite
from tests.patience import PATIENCE

PLAIN = "--secure-serving=false"
LLAMA = {"app": "llama"}


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Iterator[tuple[ApiServer, str]]:
    """Give an API server with a pool of one pod, and a kubeconfig for it."""
    with ApiServer(initializing=0, tls=True) as server:
        server.pools.add(make_pool("llama", namespace="team-a", selector=LLAMA))
        server.pods.add(make_pod("a", ip="10.0.0.1", labels=LLAMA, namespace="team-a"))
        yield server, str(server.kubeconfig(tmp_path / "kubeconfig"))


@pytest.fixture(name="quiet", autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Give an environment that names no cluster, and take the level of a logger back."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "NAMESPACE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    logger = logging.getLogger("httpx2")
    level = logger.level
    yield
    logger.setLevel(level)


class TestRunning:
    def test_from_start_to_end(self, cluster: tuple[ApiServer, str]) -> None:
        """It serves at once and is ready when it is synced; the log tells what it follows; SIGTERM ends in order."""
        server, kubeconfig = cluster
        server.inject(Fault.internal_error(), resource="pods")
        flags = ("--pool-name", "llama", "--pool-namespace", "team-a", "--kubeconfig", kubeconfig)
        with Server(*flags, PLAIN) as picker:
            assert "serving" == picker.first["event"]
            failed = picker.wait_for("cluster not followed")
            assert ("pods", 500) == (failed["resource"], failed["status"])
            assert failed["retry_in"] > 0
            known = picker.wait_for("pool known")
            assert ("team-a/llama", "app=llama", [8000], 1) == (
                known["pool"],
                known["selector"],
                known["target_ports"],
                known["endpoints"],
            )
            assert 1 == picker.wait_for("synced")["endpoints"]
            assert Health.SERVING == picker.health()
            assert b"10.0.0.1:8000" in picker.pick()
            server.pools.delete("llama", "team-a")
            picker.wait_for("pool gone")
            assert Health.NOT_SERVING == picker.health()
            assert Health.SERVING == picker.health("liveness")
            assert 0 == picker.terminate()

        assert not [line for line in picker.rest() if line["event"].startswith("HTTP Request")]

    def test_debug_page(self, cluster: tuple[ApiServer, str]) -> None:
        """The debug page tells how far the pool is known, and what is wrong."""
        server, kubeconfig = cluster
        server.inject(Fault.forbidden(), times=None, resource="inferenceobjectives")
        server.pods.add(make_pod("b", ip=None, labels=LLAMA, namespace="team-a"))
        flags = ("--pool-name", "llama", "--pool-namespace", "team-a", "--kubeconfig", kubeconfig)
        with Server(*flags, PLAIN, "--metrics-port", "0", "--debug") as picker:
            port = picker.wait_for("serving pages")["port"]
            picker.wait_for("synced")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/debug/state.json", timeout=PATIENCE) as response:
                state = json.load(response)["statistics"]["cluster"]

        assert state["synced"] is True
        assert state["pods_heard_seconds_ago"] >= 0
        assert {"inferenceobjectives.llm-d.ai"} == state["problems"].keys()
        assert {"b": "has no IP address"} == state["pods_without_endpoint"]
        assert "" == state["pool_missing"]

    def test_not_ready_before_it_is_synced(self, cluster: tuple[ApiServer, str]) -> None:
        """A pool that does not exist is awaited; nothing is ready until then."""
        server, kubeconfig = cluster
        flags = ("--pool-name", "qwen", "--kubeconfig", kubeconfig)
        with Server(*flags, PLAIN) as picker:
            server.requests.wait(verb="watch", resource="inferencepools", timeout=PATIENCE)
            assert Health.NOT_SERVING == picker.health()
            server.pools.add(make_pool("qwen", selector=LLAMA))
            picker.wait_for("synced")
            assert Health.SERVING == picker.health()

    def test_pool_that_is_missing(self, cluster: tuple[ApiServer, str]) -> None:
        """Who is refused for want of the pool is told which one is meant, and which there are in its place."""
        server, kubeconfig = cluster
        server.pools.add(make_pool("mistral", namespace="team-a", selector=LLAMA))
        flags = ("--pool-name", "lama", "--pool-namespace", "team-a", "--kubeconfig", kubeconfig)
        with Server(*flags, PLAIN) as picker:
            picker.wait_for("pool not found")
            answer = parse_response(picker.pick()).immediate_response
            server.pools.add(make_pool("lama", namespace="team-a", selector=LLAMA))
            picker.wait_for("synced")
            assert b"10.0.0.1:8000" in picker.pick()

        assert 503 == answer.status.code
        assert (
            "the pool team-a/lama of inference.networking.k8s.io is not found; "
            "pools in this namespace: llama, mistral; "
            "pools in this namespace of group inference.networking.x-k8s.io: "
        ) in answer.body.decode()

    def test_server_that_has_just_started(self, tmp_path: Path) -> None:
        """Started together with its server, which knows no roles and objects yet, it is ready with its rules only."""
        rule = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
        with ApiServer(initializing=2) as server:
            server.pools.add(make_pool("llama", selector=LLAMA))
            server.pods.add(make_pod("a", ip="10.0.0.1", labels=LLAMA))
            server.apply(objective("a", "llama"), rewrite("b", "llama"))
            file = server.service_account("epp", rules=[rule]).write_kubeconfig(tmp_path / "poor")
            with Server("--pool-name", "llama", "--kubeconfig", str(file), PLAIN) as picker:
                lines = [picker.wait_for("cluster not followed")]
                assert Health.NOT_SERVING == picker.health()
                lines += picker.until("synced")
                assert Health.SERVING == picker.health()
                assert 0 == picker.terminate()

        assert {403, 429} == {line["status"] for line in lines if line["event"] == "cluster not followed"}
        counts = {line["event"]: line["count"] for line in lines if line["event"].endswith("changed")}
        assert {"objectives changed": 1, "model rewrites changed": 1} == counts

    def test_rules(self, cluster: tuple[ApiServer, str]) -> None:
        """Objectives and rewrites of the pool are followed, too."""
        server, kubeconfig = cluster
        server.pools.add(make_pool("llama", selector=LLAMA))
        server.apply(objective("a", "llama"), rewrite("b", "llama"), rewrite("c", "other"))
        with Server("--pool-name", "llama", "--kubeconfig", kubeconfig, PLAIN) as picker:
            counts = {
                picker.wait_for("objectives changed")["count"],
                picker.wait_for("model rewrites changed")["count"],
            }
            assert {1} == counts

    def test_by_labels(self, cluster: tuple[ApiServer, str]) -> None:
        """Pods are chosen by labels and ports without any pool, in the namespace of the environment's context."""
        server, kubeconfig = cluster
        server.pods.add(make_pod("b", ip="10.0.0.2", labels=LLAMA))
        flags = ("--endpoint-selector", "app in (llama)", "--endpoint-target-ports", "9000, 9001,9000")
        with Server(*flags, "--kubeconfig", kubeconfig, PLAIN) as picker:
            known = picker.wait_for("pool known")
            assert ([9000, 9001], 2) == (known["target_ports"], known["endpoints"])
            assert b"10.0.0.2:900" in picker.pick()

    def test_rights_that_are_missing(self, cluster: tuple[ApiServer, str], tmp_path: Path) -> None:
        """What the account must not do is told in a line that says what to grant; it goes on trying."""
        server, _ = cluster
        file = server.service_account("epp").write_kubeconfig(tmp_path / "poor")
        with Server("--pool-name", "llama", "--kubeconfig", str(file), PLAIN) as picker:
            told = picker.wait_for("cluster not followed")
            while "hint" not in told or "inferencepools" not in told["resource"]:
                told = picker.wait_for("cluster not followed")
            assert 403 == told["status"]
            assert 'resource "inferencepools"' in told["reason"]
            assert "get, list and watch" in told["hint"]
            assert Health.NOT_SERVING == picker.health()
            picker.process.send_signal(signal.SIGTERM)
            assert 0 == picker.process.wait(PATIENCE)


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--pool-name", "a", "--endpoints-file", "b"], "given: --pool-name, --endpoints-file"),
            (["--endpoint-selector", "a=b"], "given: --endpoint-selector"),
            (["--endpoint-target-ports", "1"], "given: --endpoint-target-ports"),
            (
                ["--pool-name", "a", "--endpoint-selector", "a=b", "--endpoint-target-ports", "1"],
                "needed is --pool-name, or --endpoint-selector and --endpoint-target-ports, or --pool-file and",
            ),
            (["--endpoint-selector", "a ==", "--endpoint-target-ports", "x"], "'x' is not a port from 1 to 65535"),
            (
                ["--endpoint-selector", "a in", "--endpoint-target-ports", "1"],
                "argument --endpoint-selector: label sel",
            ),
            (["--endpoint-selector", "", "--endpoint-target-ports", "1"], "an empty selector would choose every pod"),
            (["--endpoint-selector", "a", "--endpoint-target-ports", "0"], "'0' is not a port from 1 to 65535"),
            (["--endpoint-selector", "a", "--endpoint-target-ports", "1,2,3,4,5,6,7,8,9"], "has 9 ports, allowed are"),
            (
                ["--endpoints-file", "a", "--kubeconfig", "b"],
                "argument --kubeconfig: is of no use without --pool-name or --endpoint-selector",
            ),
            (["--endpoints-file", "a", "--context", "b"], "argument --context: is of no use"),
            (["--endpoints-file", "a", "--pool-namespace", "b"], "argument --pool-namespace: is of no use"),
            (
                ["--endpoint-selector", "a", "--endpoint-target-ports", "1", "--pool-group", "b"],
                "argument --pool-group: is of no use without --pool-name",
            ),
        ],
    )
    def test_flags(self, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
        """Flags that make no sense, alone or together, are named, and the exit status is 2."""
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])

        assert 2 == ended.value.code
        assert expected in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["--pool-name", "a"], "kubeconfig: none is given, this process runs in no cluster"),
            (["--pool-name", "a", "--kubeconfig", "none"], "kubeconfig: none: no such file"),
            (["--pool-name", "A", "--kubeconfig", "{}"], "pool: name: 'A' is no name of an object"),
            (["--pool-name", "a", "--kubeconfig", "{}", "--pool-group", "x"], "pool: group: 'x' is not one of"),
            (["--pool-name", "a", "--kubeconfig", "{}", "--pool-namespace", "."], "pool: namespace: '.' is no name"),
            (
                [
                    *("--endpoint-selector", "a", "--endpoint-target-ports", "1"),
                    *("--kubeconfig", "{}", "--pool-namespace", "."),
                ],
                "pool: namespace: '.' does not match",
            ),
            (["--pool-name", "a", "--kubeconfig", "{}", "--context", "x"], "Context 'x' not found"),
        ],
    )
    def test_clusters(
        self, arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A cluster that cannot be used, and names that cannot be names, end the start with the reason."""
        file = tmp_path / "config"
        config = {
            "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
            "contexts": [{"name": "a", "context": {"cluster": "a"}}],
            "current-context": "a",
        }
        file.write_text(json.dumps(config))

        assert 1 == main(["serve", *(str(file) if each == "{}" else each for each in arguments)])
        error = capsys.readouterr().err
        assert expected in error
        assert 1 == error.count("\n")

    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        """Without the extra the message says what to install."""
        monkeypatch.setitem(sys.modules, "lightkube.config.kubeconfig", None)

        assert 1 == main(["serve", "--pool-name", "a"])
        assert "pip install 'inferencepool[kubernetes]'" in capsys.readouterr().err
