"""Several replicas of `serve` as processes of their own, on one API server, with the rights of docs/deploy."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest

from inferencepool.adapters.kubernetes import LeaseName
from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod
from tests.cli.test_serve import PROCESS, Health, Server, request_without_body
from tests.deploy.manifests import FILES, NAMESPACE, load
from tests.patience import PATIENCE

LEASE = LeaseName.of_pool("llama", NAMESPACE).name
# A lease that a leader keeps however busy the machine is, and one that a test can wait for.
LONG = ("--ha-lease-duration=300s", "--ha-renew-deadline=200s", "--ha-retry-period=100ms")
SHORT = ("--ha-lease-duration=5s", "--ha-renew-deadline=4s", "--ha-retry-period=100ms")


class Replicas:
    """Replicas of `serve` that follow one pool."""

    def __init__(self, api: ApiServer, kubeconfig: Path, stack: ExitStack) -> None:
        self.api = api
        self._kubeconfig = kubeconfig
        self._stack = stack

    def start(self, *arguments: str) -> Server:
        """Start one."""
        pool = ("--pool-name", "llama", "--pool-namespace", NAMESPACE, "--kubeconfig", str(self._kubeconfig))
        flags = ("--secure-serving=false", "--ha-enable-leader-election")
        return self._stack.enter_context(Server(*pool, *flags, *(arguments or LONG)))

    @property
    def holder(self) -> str:
        """Who holds the lease."""
        return str(self.api.leases.get(LEASE, NAMESPACE)["spec"]["holderIdentity"])


@pytest.fixture(name="replicas")
def _replicas(tmp_path: Path) -> Iterator[Replicas]:
    with ExitStack() as stack:
        api = stack.enter_context(ApiServer(initializing=0, tls=True))
        api.apply(*load(*FILES["three"]))
        api.pods.add(make_pod("pod-a", ip="10.0.0.7", labels={"app": "llama"}, namespace=NAMESPACE))
        account = api.service_account("llama-epp", NAMESPACE)
        yield Replicas(api, account.write_kubeconfig(tmp_path / "config"), stack)


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_ready(server: Server) -> bool:
    """Tell whether a replica says that it is ready."""
    return bool(server.health("readiness") == Health.SERVING)


def test_one_is_ready(replicas: Replicas) -> None:
    """The leader is ready and the other alive only; it is warm all the same, and answers who asks."""
    first = replicas.start()
    until(lambda: is_ready(first))
    second = replicas.start()
    standing_by = second.wait_for("standing by")
    until(lambda: b"10.0.0.7:8000" in second.pick())

    assert replicas.holder == standing_by["leader"]
    for service in ("", "readiness", "envoy.service.ext_proc.v3.ExternalProcessor"):
        assert [Health.SERVING, Health.NOT_SERVING] == [server.health(service) for server in (first, second)]
    assert Health.SERVING == second.health("liveness")
    with pytest.raises(grpc.RpcError) as unknown:
        second.health("inference-extension")
    assert grpc.StatusCode.NOT_FOUND == unknown.value.code()


def test_killed_leader(replicas: Replicas) -> None:
    """When the leader is killed another one is ready after the lease, and not before."""
    first = replicas.start(*SHORT)
    until(lambda: is_ready(first))
    second = replicas.start(*SHORT)
    second.wait_for("standing by")
    first.process.kill()
    first.process.wait(PATIENCE)
    renewed = replicas.api.leases.get(LEASE, NAMESPACE)["spec"]["renewTime"]
    second.wait_for("leading")

    assert replicas.api.leases.get(LEASE, NAMESPACE)["spec"]["acquireTime"] > renewed
    assert is_ready(second)
    assert b"10.0.0.7:8000" in second.pick()


def test_terminated_leader(replicas: Replicas) -> None:
    """A leader that is told to end gives the lease up at once, and serves on while it drains."""
    first = replicas.start("--drain-timeout=120s", *LONG)
    until(lambda: is_ready(first))
    second = replicas.start()
    second.wait_for("standing by")
    with first.channel() as channel:
        # An open stream keeps it draining.
        said: queue.Queue[bytes | None] = queue.Queue()
        said.put(request_without_body())
        answers = channel.stream_stream(PROCESS)(iter(said.get, None), timeout=PATIENCE)
        next(answers)
        first.process.send_signal(signal.SIGTERM)
        first.wait_for("no longer leading")
        second.wait_for("leading")

        assert is_ready(second)
        assert Health.SERVING == first.health("liveness")
        assert not is_ready(first)
        assert b"10.0.0.7:8000" in first.pick()
        said.put(None)
        assert [] == list(answers)
    assert 0 == first.process.wait(PATIENCE)
    assert 0 == second.terminate()
    assert "" == replicas.holder


def test_three_times_over(replicas: Replicas) -> None:
    """Of three that are ended one after the other each leads in its turn; never two say so."""
    servers = [replicas.start() for _ in range(3)]
    for left in (3, 2, 1):
        until(lambda: any(is_ready(server) for server in servers))
        ready = [server for server in servers if is_ready(server)]
        assert len(ready) == 1
        assert left == len(servers)
        servers.remove(ready[0])
        assert 0 == ready[0].terminate()
