"""Replicas that compete for a lease of an API server, in time that passes as fast as they can use it."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from inferencepool.adapters.kubernetes import ElectionOptions, LeaseName
from inferencepool.lab.apiserver import ApiServer
from inferencepool.runtime.election import LeaderElection
from inferencepool.runtime.kubernetes import LightkubeTransport, load_cluster
from tests.patience import PATIENCE

LEASE = LeaseName.of_pool("llama", "default")
OPTIONS = ElectionOptions(lease_duration=20, renew_deadline=15.0, retry_period=0.5)
# So many renewals take longer than a lease lasts.
LASTING = 45
# How much faster time passes on their event loop, and the seconds of a clock that one wait of it counts at most.
_RATE, _TICK = 8, 0.005
# What docs/deploy grants.
RULES = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [LEASE.name],
        "verbs": ["get", "update", "watch"],
    },
]


class _Selector(selectors.DefaultSelector):
    """Counts what an event loop waits: work takes no time, nor does all that a busy machine does in between."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for a tick at most; the loop comes again if it has nothing to do."""
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        most = _TICK if timeout is None else min(timeout / _RATE, _TICK)
        began = time.monotonic()
        events = super().select(most)
        self.now += _RATE * min(most, time.monotonic() - began)
        return events


class FastLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes quickly, and only while it waits, so that no leader is late by the machine."""

    def __init__(self) -> None:
        self._waits = _Selector()
        super().__init__(self._waits)

    def time(self) -> float:
        """Tell the time of all timers of this loop."""
        return self._waits.now


class Replicas:
    """Several replicas on one loop, each with an account of its own, and what they told, in order."""

    def __init__(self, server: ApiServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.told: list[tuple[str, bool]] = []
        self.elections: dict[str, LeaderElection] = {}
        self.accounts: dict[str, Any] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._transports: list[LightkubeTransport] = []
        self._changed = asyncio.Event()

    def start(self, name: str, *, rules: list[dict[str, Any]] | None = None, **options: Any) -> LeaderElection:
        """Start a replica."""
        account = self.server.service_account(name, rules=RULES if rules is None else rules)
        options = {"clock": asyncio.get_running_loop().time, **options}
        transport = LightkubeTransport(load_cluster(str(account.write_kubeconfig(self.folder / name))))
        election = LeaderElection(
            transport,
            LEASE,
            identity=name,
            on_change=lambda leading: self._tell(name, leading),
            options=OPTIONS,
            **options,
        )
        self._transports.append(transport)
        self.accounts[name] = account
        self.elections[name] = election
        self._tasks[name] = asyncio.create_task(election.run())
        return election

    async def cancel(self, name: str) -> None:
        """Cancel a replica's task, and wait until it has ended."""
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)

    async def ended(self, name: str) -> None:
        """Wait until a replica's task has ended by itself."""
        async with asyncio.timeout(PATIENCE * _RATE):
            await self._tasks[name]

    async def leader(self, *, other_than: str = "") -> str:
        """Wait until one leads, and give its name."""
        await self.until(lambda: bool(self.leading - {other_than}))
        (name,) = self.leading
        return name

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; it is looked at whenever somebody tells something, and now and then."""
        async with asyncio.timeout(PATIENCE * _RATE):
            while not condition():
                self._changed.clear()
                try:
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()
                except TimeoutError:
                    pass

    @property
    def leading(self) -> set[str]:
        """Those that lead at this moment."""
        return {name for name, election in self.elections.items() if election.leading}

    async def stop(self) -> None:
        """End all of them."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for transport in self._transports:
            await transport.close()

    def _tell(self, name: str, leading: bool) -> None:
        self.told.append((name, leading))
        # Whoever begins to lead is the only one: what all of them know is compared at one moment.
        assert self.leading == ({name} if leading else self.leading - {name})
        self._changed.set()


@asynccontextmanager
async def replicas_of(server: ApiServer, folder: Path) -> AsyncIterator[Replicas]:
    """Give replicas that end with the block."""
    replicas = Replicas(server, folder)
    try:
        yield replicas
    finally:
        await replicas.stop()
