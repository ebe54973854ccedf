"""Everything that runs for one case, each in a process of its own: model servers, picker, Envoy and clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import attrs

from benchmarks.hostile.bodies import MODEL, REWRITTEN
from benchmarks.hostile.cases import Case
from benchmarks.hostile.pages import Pages
from benchmarks.hostile.probe import Probe
from benchmarks.hostile.wire import GzipBombs, RpcBursts, Silence
from inferencepool import Endpoint, InferencePool
from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.lab.envoy import EnvoyProcess

__all__ = ["Arena", "Picker", "TooBusyError", "arena_for"]

_SERVERS = 4
_HOST = "127.0.0.1"
_LABELS = {"app": "llama"}
_NAMED = {"namespace": "default", "name": "llama"}
_PATIENCE = 30.0
_LAST_LINES = 20


class TooBusyError(Exception):
    """There is nothing to measure where the others are not served without anybody hostile, either."""


@final
class Picker:
    """
    The process of ``inferencepool serve``.

    Attributes:
        port: The port of ext_proc.
        pid: Its id.
        lines: How many lines it has logged.
        last_lines: The latest of them.
    """

    def __init__(self, process: Process, first: dict[str, Any]) -> None:
        self.port: int = first["grpc_port"]
        self.pid = process.pid
        self.lines = 0
        self.last_lines: deque[bytes] = deque(maxlen=_LAST_LINES)
        self._process = process
        self._proc = Path(f"/proc/{process.pid}")
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.lines += 1
            self.last_lines.append(line)

    def memory(self) -> int:
        """Give the bytes of memory that it has."""
        return self._status("VmRSS")

    def most_memory(self) -> int:
        """Give the most bytes that it had since `forget_most_memory`."""
        return self._status("VmHWM")

    def forget_most_memory(self) -> None:
        """Let the most be what there is."""
        (self._proc / "clear_refs").write_text("5")

    def _status(self, name: str) -> int:
        lines = (self._proc / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


@attrs.frozen
class Arena:
    """
    What runs.

    Attributes:
        picker: The endpoint picker.
        probe: Its longest step.
        gateway: Port of Envoy.
    """

    picker: Picker
    probe: Probe
    gateway: int
    _case: Case
    _others: Process
    _pod: Process | None

    async def attack(self, seconds: float) -> str:
        """Let the hostile one do what it does for some seconds; gives what it counted."""
        attack = self._case.attack
        if self._pod is not None:
            await _tell(self._pod, "begin")
            await asyncio.sleep(seconds)
            await _tell(self._pod, "end")
            return ""
        port = self.picker.port if isinstance(attack, GzipBombs | RpcBursts | Silence) else self.gateway
        arguments = (self._case.name, _HOST, str(port), str(seconds))
        async with _process("attacker", *arguments) as (process, counted):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), _PATIENCE)
            return counted

    async def end_others(self) -> dict[str, Any]:
        """End the others; gives what became of their requests."""
        assert self._others.stdin is not None
        assert self._others.stdout is not None
        self._others.stdin.close()
        told: dict[str, Any] = json.loads(await asyncio.wait_for(self._others.stdout.read(), _PATIENCE))
        return told


async def _tell(process: Process, line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n".encode())
    await process.stdin.drain()


@asynccontextmanager
async def _process(module: str, *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """Start a module of this package; gives it with its first line."""
    command = (sys.executable, "-m", f"benchmarks.hostile.{module}", *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 24)
    try:
        assert process.stdout is not None
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def arena_for(case: Case) -> AsyncIterator[Arena]:
    """Start everything for a case, until the others are served steadily; end it after the block."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        _, ports = await stack.enter_async_context(_process("servers", str(_SERVERS)))
        targets = [int(port) for port in ports.split()]
        pod = None
        if isinstance(case.attack, Pages):
            pod, port = await stack.enter_async_context(_process("pages", case.attack.kind))
            targets.append(int(port))
        probe = Probe.create(folder / "probe")
        picker = await stack.enter_async_context(_picker(case, folder, targets))
        envoy = await stack.enter_async_context(EnvoyProcess(_bootstrap(case, targets, picker.port), log_level="error"))
        gateway = next(iter(envoy.listeners.values()))
        secure = str(case.secure).lower()
        others, state = await stack.enter_async_context(_process("others", gateway, str(picker.port), secure))
        if state != "steady":
            message = f"{case.name}: this machine is too busy: the others are not served steadily when they are alone"
            raise TooBusyError(message)
        yield Arena(picker, probe, int(gateway.rpartition(":")[2]), case, others, pod)


@asynccontextmanager
async def _picker(case: Case, folder: Path, targets: list[int]) -> AsyncIterator[Picker]:
    pool, pods = folder / "pool.json", folder / "pods.json"
    pool.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": [_pool(targets), _rewrite()]}))
    pods.write_text(json.dumps({"kind": "List", "apiVersion": "v1", "items": [_POD]}))
    files = ("--pool-file", str(pool), "--pods-file", str(pods))
    ports = ("--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "0", "--health-checking")
    rest = ("--address", _HOST, "--log-format", "json", f"--secure-serving={str(case.secure).lower()}")
    command = ("benchmarks.hostile.probe", str(folder / "probe"), str(case.descriptors or 0), *files, *ports, *rest)
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *command, stderr=PIPE, limit=1 << 24)
    try:
        assert process.stderr is not None
        line = await asyncio.wait_for(process.stderr.readline(), _PATIENCE)
        if b'"serving"' not in line:
            message = f"the picker does not serve: {line!r}"
            raise RuntimeError(message)
        yield Picker(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "llama-0", "namespace": "default", "labels": _LABELS},
    "status": {"podIP": _HOST, "conditions": [{"type": "Ready", "status": "True"}]},
}


def _pool(targets: list[int]) -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": _NAMED,
        "spec": {
            "selector": {"matchLabels": _LABELS},
            "targetPorts": [{"number": port} for port in targets],
            "endpointPickerRef": {"name": "llama-epp", "port": {"number": 9002}, "failureMode": "FailClose"},
        },
    }


def _rewrite() -> dict[str, Any]:
    return {
        "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": _NAMED,
        "spec": {
            "poolRef": {"group": "inference.networking.k8s.io", "kind": "InferencePool", "name": "llama"},
            "rules": [
                {
                    "matches": [{"model": {"type": "Exact", "value": REWRITTEN}}],
                    "targets": [{"modelRewrite": MODEL, "weight": 1}],
                }
            ],
        },
    }


def _bootstrap(case: Case, targets: list[int], picker_port: int) -> dict[str, Any]:
    endpoints = [
        Endpoint(namespace="default", pod_name="llama-0", address=_HOST, port=port, rank=rank)
        for rank, port in enumerate(targets)
    ]
    options = EnvoyOptions(listen=HostPort(_HOST, 0), epp_address=HostPort(_HOST, picker_port), epp_tls=case.secure)
    return render_envoy(InferencePool.from_dict(_pool(targets)), endpoints, options)
