"""Clients that were written for the real API server."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from lightkube import ApiError, AsyncClient, Client, KubeConfig
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.coordination_v1 import LeaseSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.coordination_v1 import Lease
from lightkube.resources.core_v1 import Pod
from lightkube.types import PatchType

from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod
from tests.patience import PATIENCE

Kubectl = Callable[..., subprocess.CompletedProcess[str]]
POOL = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llama}
spec:
  selector: {matchLabels: {app: llama}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: epp, port: {number: 9002}}
"""


class TestLightkube:
    @pytest.fixture(name="lightkube", params=[False, True], ids=["http", "https"])
    def _lightkube(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        """Give a server and a client that read its kubeconfig."""
        with (
            ApiServer(initializing=0, tls=request.param) as server,
            closing(Client(config=KubeConfig.from_file(server.kubeconfig(tmp_path / "config")))) as client,
        ):
            yield server, client

    def test_pods(self, lightkube: tuple[ApiServer, Client]) -> None:
        """Its client lists in pages, reads, patches and deletes."""
        server, client = lightkube
        for number in range(7):
            server.pods.add(make_pod(f"p{number}", labels={"app": "x"}))

        assert 7 == len(list(client.list(Pod, namespace="default", labels={"app": "x"}, chunk_size=3)))
        assert 3 == server.requests.count(verb="list")
        patched = client.patch(Pod, "p1", {"metadata": {"labels": {"tier": "gold"}}})
        assert {"app": "x", "tier": "gold"} == (patched.metadata.labels if patched.metadata else None)
        client.delete(Pod, "p1")
        with pytest.raises(ApiError, match='pods "p1" not found'):
            client.get(Pod, "p1")

    def test_watch(self, lightkube: tuple[ApiServer, Client]) -> None:
        """Its watch hears of what a test does."""
        server, client = lightkube
        server.pods.add(make_pod("a"))
        seen = []
        for kind, pod in client.watch(Pod, namespace="default"):
            seen.append((kind, pod.metadata.name if pod.metadata else None))
            if len(seen) == 1:
                server.pods.set_ready("a", ready=False)
            elif len(seen) == 2:
                server.pods.delete("a")
            elif kind == "DELETED":
                break

        assert [("ADDED", "a"), ("MODIFIED", "a"), ("MODIFIED", "a"), ("DELETED", "a")] == seen

    def test_lease(self, lightkube: tuple[ApiServer, Client]) -> None:
        """Two that want one lease at the same version: the second is refused."""
        _, client = lightkube
        client.create(Lease(metadata=ObjectMeta(name="lock", namespace="default"), spec=LeaseSpec(holderIdentity="")))
        first, second = client.get(Lease, "lock"), client.get(Lease, "lock")
        assert first.spec
        assert second.spec
        first.spec.holderIdentity, second.spec.holderIdentity = "one", "two"

        client.replace(first)
        with pytest.raises(ApiError, match="the object has been modified") as refused:
            client.replace(second)
        assert 409 == refused.value.status.code

    def test_custom_resources(self, lightkube: tuple[ApiServer, Client]) -> None:
        """Server-side apply of a pool's status, by a client that knows nothing of pools."""
        server, client = lightkube
        pool = create_namespaced_resource(
            "inference.networking.k8s.io", "v1", "InferencePool", "inferencepools", verbs=None
        )
        spec = {"selector": {"matchLabels": {"app": "x"}}, "targetPorts": [{"number": 8000}]}
        server.pools.add({"metadata": {"name": "llama"}, "spec": spec})
        parents = [{"parentRef": {"name": "gateway"}}]
        status = pool(apiVersion="inference.networking.k8s.io/v1", kind="InferencePool", status={"parents": parents})
        client.patch(
            pool.Status, "llama", status, namespace="default", patch_type=PatchType.APPLY, field_manager="test"
        )

        assert "gateway" == server.pools.get("llama")["status"]["parents"][0]["parentRef"]["name"]


def test_client_in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that runs in a pod finds the server by its variables, and trusts and shows what its files hold."""
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    with ApiServer(initializing=0, tls=True) as server:
        server.pods.add(make_pod("a", namespace="inference"))
        account = server.service_account("epp", "inference", rules=[rule])
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        config = KubeConfig.from_service_account(service_account=str(account.write_files(tmp_path)))
        with closing(Client(config=config)) as client:
            assert 1 == len(list(client.list(Pod)))
            account.renew()
            assert 1 == len(list(client.list(Pod)))

    assert {401, 200} == {entry.status for entry in server.requests}


async def _list_asynchronously(config: Path) -> list[str | None]:
    client = AsyncClient(config=KubeConfig.from_file(config))
    try:
        return [pod.metadata.name async for pod in client.list(Pod, namespace="default") if pod.metadata]
    finally:
        await client.close()


def test_server_needs_no_loop_of_the_test(server: ApiServer, tmp_path: Path) -> None:
    """An asynchronous client works on a loop of its own: the server has its thread."""
    server.pods.add(make_pod("a"))

    assert ["a"] == asyncio.run(_list_asynchronously(server.kubeconfig(tmp_path / "config")))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
class TestKubectl:
    @pytest.fixture(name="server")
    def _server(self) -> Any:
        with ApiServer(initializing=0, tls=True) as server:
            yield server

    @pytest.fixture(name="kubectl")
    def _kubectl(self, server: ApiServer, tmp_path: Path) -> Kubectl:
        """Give a function that runs kubectl on the server."""
        config = server.kubeconfig(tmp_path / "config")

        def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
            command = ["kubectl", "--kubeconfig", str(config), f"--cache-dir={tmp_path / 'cache'}", *arguments]
            return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=PATIENCE)

        return run

    def test_apply_and_get(self, server: ApiServer, kubectl: Kubectl) -> None:
        """Manifests are applied, found under their short names, changed and deleted."""
        created = kubectl("apply", "--validate=false", "-f", "-", given=POOL)
        again = kubectl("apply", "--validate=false", "-f", "-", given=POOL.replace("8000", "8001"))
        shown = kubectl("get", "infpool", "llama", "-o", "jsonpath={.spec.targetPorts[0].number}")

        assert "inferencepool.inference.networking.k8s.io/llama created\n" == created.stdout, created.stderr
        assert "inferencepool.inference.networking.k8s.io/llama configured\n" == again.stdout
        assert "8001" == shown.stdout
        assert 0 == kubectl("delete", "infpool", "llama").returncode
        assert server.pools.find("llama") is None

    def test_server_side_apply(self, server: ApiServer, kubectl: Kubectl) -> None:
        """Two managers of server-side apply conflict, and kubectl says about what."""
        manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cm}\ndata: {a: %s}\n"
        apply = ("apply", "--server-side", "--validate=false", "-f", "-")
        assert 0 == kubectl(*apply, given=manifest % "one").returncode
        conflict = kubectl(*apply, "--field-manager=other", given=manifest % "two")
        forced = kubectl(*apply, "--field-manager=other", "--force-conflicts", given=manifest % "two")

        assert 'conflict with "kubectl": .data.a' in conflict.stderr
        assert 0 == forced.returncode
        assert {"a": "two"} == server.collection("configmaps").get("cm")["data"]

    def test_refusals_are_understood(self, kubectl: Kubectl) -> None:
        """Kubectl tells what the server refuses as it tells it of the real one."""
        missing = kubectl("get", "pod", "a")
        wrong = kubectl("apply", "--validate=false", "-f", "-", given=POOL.replace("8000", "0"))

        assert 'Error from server (NotFound): pods "a" not found\n' == missing.stderr
        assert 'The InferencePool "llama" is invalid' in wrong.stderr
        assert "spec.targetPorts[0].number" in wrong.stderr

    def test_labels_and_lists(self, server: ApiServer, kubectl: Kubectl) -> None:
        """Labels are patched, and selectors choose."""
        server.pods.add(make_pod("a"))
        server.pods.add(make_pod("b"))

        assert 0 == kubectl("label", "pod", "a", "app=x").returncode
        assert "pod/a\n" == kubectl("get", "pods", "-l", "app in (x)", "-o", "name").stdout
        assert 2 == len(json.loads(kubectl("get", "pods", "-A", "-o", "json", "--chunk-size=1").stdout)["items"])

    def test_rights(self, server: ApiServer, kubectl: Kubectl) -> None:
        """An administrator acts as an account, and may do then what that may do."""
        rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
        user = f"--as={server.service_account('epp', rules=[rule]).user}"
        server.pods.add(make_pod("a"))

        assert "pod/a\n" == kubectl("get", "pods", "-o", "name", user).stdout
        assert "is forbidden" in kubectl("delete", "pod", "a", user).stderr
