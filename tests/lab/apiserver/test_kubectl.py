"""The real kubectl, where there is one, and the official Python client."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod, make_pool

KUBECTL = shutil.which("kubectl")
TIMEOUT = 60.0


@pytest.fixture(name="server")
def _server() -> Iterator[ApiServer]:
    # With TLS: kubectl shows its token to no other server.
    with ApiServer(tls=True) as server:
        server.pods.add(make_pod("pod-a", ip="10.0.0.1", labels={"app": "llama"}))
        server.pools.add(make_pool("llama", selector={"app": "llama"}))
        yield server


@pytest.fixture(name="kubectl")
def _kubectl(server: ApiServer, tmp_path: Path) -> Callable[..., str]:
    if KUBECTL is None:
        pytest.skip("kubectl is not installed")
    config = server.kubeconfig(tmp_path / "kubeconfig")
    program = [KUBECTL, "--kubeconfig", str(config), "--cache-dir", str(tmp_path / "cache")]

    def run(*arguments: str) -> str:
        done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=TIMEOUT, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout

    return run


def test_get_shows_tables(kubectl: Callable[..., str]) -> None:
    """`kubectl get` shows the columns of the real server, and comes through the first seconds after the start."""
    header, row = kubectl("get", "pods").splitlines()
    wide = kubectl("get", "pods", "-o", "wide")
    pools = kubectl("get", "infpool", "-o", "jsonpath={.items[*].spec.targetPorts[*].number}")

    assert ["NAME", "READY", "STATUS", "RESTARTS", "AGE"] == header.split()
    assert ["pod-a", "0/1", "Running", "0"] == row.split()[:4]
    assert "10.0.0.1" in wide
    assert "8000" == pools


def test_writes(kubectl: Callable[..., str], server: ApiServer) -> None:
    """Kubectl labels, annotates with capitals in a key, and deletes without a grace period."""
    kubectl("label", "pod", "pod-a", "tier=gold")
    kubectl("annotate", "pod", "pod-a", "Acme.COM/x=y")
    metadata = server.pods.get("pod-a")["metadata"]
    kubectl("delete", "pod", "pod-a", "--grace-period=0", "--force")

    assert "gold" == metadata["labels"]["tier"]
    assert {"Acme.COM/x": "y"} == metadata["annotations"]
    assert server.pods.find("pod-a") is None


def test_official_client(server: ApiServer, tmp_path: Path) -> None:
    """The official Python client lists, through the first refusals after the start, watches and deletes."""
    kubernetes = pytest.importorskip("kubernetes")
    kubernetes.config.load_kube_config(str(server.kubeconfig(tmp_path / "kubeconfig")))
    core = kubernetes.client.CoreV1Api()
    listed = core.list_namespaced_pod("default")
    core.delete_namespaced_pod("pod-a", "default", grace_period_seconds=0)
    watch = kubernetes.watch.Watch()
    events = watch.stream(
        core.list_namespaced_pod, "default", resource_version=listed.metadata.resource_version, timeout_seconds=1
    )

    assert ["pod-a"] == [pod.metadata.name for pod in listed.items]
    assert ["MODIFIED", "DELETED"] == [event["type"] for event in events]
