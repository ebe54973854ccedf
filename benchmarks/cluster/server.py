"""An API server in a process of its own, so that its work is not taken for ours."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from benchmarks.cluster.pods import LLAMA, pod_document
from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pool

__all__ = ["RunningServer", "running_server"]


@attrs.frozen
class RunningServer:
    """
    The API server, as its parent sees it.

    Attributes:
        kubeconfig: How to reach it.
    """

    kubeconfig: str
    _connection: Connection

    def begin(self, rate: int) -> None:
        """Begin to change *rate* pods per second."""
        self._connection.send(rate)

    def end(self) -> float:
        """Stop that; give the rate that was reached."""
        self._connection.send(0)
        reached: float = self._connection.recv()
        return reached


@contextmanager
def running_server(pods: int) -> Iterator[RunningServer]:
    """Run an API server with a pool of *pods*."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    with TemporaryDirectory() as folder:
        path = str(Path(folder, "kubeconfig"))
        process = context.Process(target=_serve, args=(pods, path, theirs), daemon=True)
        process.start()
        ours.recv()
        yield RunningServer(path, ours)
        ours.send(None)
        process.join()


def _serve(pods: int, kubeconfig: str, connection: Connection) -> None:
    with ApiServer(initializing=0) as server:
        server.pools.add(make_pool("llama", selector=LLAMA))
        for number in range(pods):
            server.pods.add(pod_document(number))
        server.kubeconfig(kubeconfig)
        connection.send(None)
        changes = _changes(pods)
        while (rate := connection.recv()) is not None:
            began, changed = time.monotonic(), 0
            while not connection.poll():
                # In small steps, as kubelets do it: not a second's worth at once.
                while changed < (time.monotonic() - began) * rate and not connection.poll():
                    number, ready = next(changes)
                    server.pods.set_ready(f"vllm-llama-{number:04}", ready=ready)
                    changed += 1
                time.sleep(0.001)
            connection.recv()
            connection.send(changed / (time.monotonic() - began))


def _changes(pods: int) -> Iterator[tuple[int, bool]]:
    """Let one pod after the other fail, and each come back after a tenth of the fleet has failed."""
    for number in itertools.count():
        yield number % pods, False
        if number >= pods // 10:
            yield (number - pods // 10) % pods, True
