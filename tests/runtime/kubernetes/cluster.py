"""A pool of a test API server that is followed, and what must be true of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any, Self, final

import attrs
from lightkube.config.kubeconfig import SingleConfig

from inferencepool.adapters.kubernetes import NamedPool, ReflectorOptions
from inferencepool.lab.apiserver import Account, ApiServer
from inferencepool.model import InferenceModelRewrite, InferenceObjective, InferencePool
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.kubernetes import LightkubeTransport, PoolWatch, load_cluster
from inferencepool.testing import make_pool
from tests.patience import PATIENCE

__all__ = ["CALM", "FAST", "LLAMA", "Followed", "Truth", "most_requests", "pool_document", "until"]

LLAMA = {"app": "llama"}
#: A reflector that loses no time, so that tests do not either.
FAST = ReflectorOptions(
    page_size=3,
    watch_timeout=1,
    grace=0.3,
    page_timeout=0.5,
    retry_first=0.02,
    retry_most=0.2,
    retry_refused=0.2,
    retry_after_most=1,
    healthy_after=0.5,
)

#: One that gives up no request: an answer may be late where the machine is busy with other things.
CALM = attrs.evolve(FAST, grace=PATIENCE, page_timeout=PATIENCE)

#: Uid of the pod by ``ip:port``.
Truth = dict[str, str]


def until(condition: Callable[[], object], what: Callable[[], object], patience: float = PATIENCE) -> None:
    """Wait until *condition* holds; *what* tells how things are if it never does."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            message = f"after {patience:g} s: {what()}"
            raise AssertionError(message)
        time.sleep(0.002)


def pool_document(app: str = "llama", ports: tuple[int, ...] = (8000,)) -> dict[str, Any]:
    """The pool that is followed."""
    document = make_pool("llama", selector={"app": app}, ports=ports).to_dict()
    document["spec"]["endpointPickerRef"] = {"name": "epp", "port": {"number": 9002}}
    return document


def most_requests(seconds: float, options: ReflectorOptions = FAST) -> float:
    """
    The most requests for one resource in *seconds* of trouble.

    Waiting times double from half the shortest to half the longest. Before each of them there is one turn at most: a
    list as a stream, or a list of three pages and a watch.
    """
    turns, wait, total = 3, options.retry_first / 2, 0.0
    while total < seconds:
        turns, total, wait = turns + 1, total + wait, min(2 * wait, options.retry_most / 2)
    return 4 * turns


@final
class Followed:
    """
    A test API server, and a watch that follows its pool ``llama`` in a thread with an event loop.

    Attributes:
        server: The API server.
        registry: What is kept up to date.
        objectives: Priorities by name, as the watch gave them last.
        rewrites: Names of rewrites, as the watch gave them last.
        synced: What the watch said of being synced, in order.
    """

    def __init__(
        self,
        server: ApiServer,
        *,
        pool: NamedPool | InferencePool | None = None,
        options: ReflectorOptions = CALM,
        account: Account | None = None,
        config: SingleConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.server = server
        self.registry = EndpointRegistry(publish_interval=0)
        self.objectives: Mapping[str, int | None] = {}
        self.rewrites: tuple[str, ...] = ()
        self.synced: list[bool] = []
        self._pool = pool if pool is not None else NamedPool("llama")
        self._options = options
        self._account = account
        self._config = config
        self._seed = seed
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run)
        self._task: asyncio.Task[None] | None = None
        self._started = Event()
        self._failure: BaseException | None = None

    def set_objectives(self, objectives: Any) -> None:
        """Take over objectives."""
        rules: tuple[InferenceObjective, ...] = tuple(objectives)
        self.objectives = {rule.metadata.name: rule.priority for rule in rules}

    def set_rewrites(self, rewrites: Any) -> None:
        """Take over rewrites."""
        rules: tuple[InferenceModelRewrite, ...] = tuple(rewrites)
        self.rewrites = tuple(rule.metadata.name for rule in rules)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._follow())
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self._failure = error
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _follow(self) -> None:
        self._task = asyncio.current_task()
        config = self._config or self._make_config()
        transport = LightkubeTransport(config)
        self.watch = PoolWatch(
            transport,
            self.registry,
            self._pool,
            rules=self,
            on_synced=self.synced.append,
            options=self._options,
            rng=Random(self._seed),
        )
        self._started.set()
        try:
            await self.watch.run()
        finally:
            await transport.close()

    def _make_config(self) -> SingleConfig:
        account = self._account if self._account is not None else self.server.admin
        with TemporaryDirectory() as directory:
            return load_cluster(str(account.write_kubeconfig(Path(directory, "kubeconfig"))))

    # What is, and what should be.

    @property
    def found(self) -> Truth:
        """The endpoints of the registry."""
        return {endpoint.destination: endpoint.pod_uid for endpoint in self.registry.endpoints()}

    @property
    def truth(self) -> Truth:
        """The endpoints that the objects of the server make, by the rules."""
        if isinstance(self._pool, InferencePool):
            pool: Mapping[str, Any] | None = self._pool.to_dict()
        else:
            pool = self.server.pools.find(self._pool.name, self._pool.namespace)
        if pool is None or "deletionTimestamp" in pool["metadata"]:
            return {}
        wanted = pool["spec"]["selector"]["matchLabels"].items()
        return {
            f"{pod['status']['podIP']}:{port['number']}": pod["metadata"]["uid"]
            for pod in self.server.pods.list(self._pool.namespace)
            if wanted <= (pod["metadata"].get("labels") or {}).items() and _is_ready(pod)
            for port in pool["spec"]["targetPorts"]
        }

    def until_true(self) -> None:
        """Wait until the registry says what is true."""
        until(lambda: self.found == self.truth, lambda: f"found {self.found}, true is {self.truth}")

    def until_synced(self) -> None:
        """Wait until the watch says that it is synced, and the registry says what is true."""
        until(lambda: self.synced[-1:] == [True], lambda: f"synced: {self.synced}; {self.watch.problems}")
        self.until_true()


def _is_ready(pod: Mapping[str, Any]) -> bool:
    status = pod.get("status") or {}
    ready = next((each["status"] for each in status.get("conditions") or [] if each["type"] == "Ready"), "")
    return ready == "True" and bool(status.get("podIP")) and "deletionTimestamp" not in pod["metadata"]
