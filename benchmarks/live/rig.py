"""The live system: simulated model servers, `inferencepool serve` and a real Envoy, each a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs

from inferencepool.gateway import EnvoyOptions, HostPort, render_envoy
from inferencepool.lab.envoy import EnvoyProcess
from inferencepool.model import Endpoint, EndpointPickerRef, InferencePool

__all__ = ["Rig", "start_rig"]

_LOOPBACK = "127.0.0.1"


@attrs.frozen
class Rig:
    """
    What runs.

    Attributes:
        url: Where Envoy listens.
        addresses: The servers, in order.
        pids: The processes, by what they are.
        notes: What the picker notes about each pick.
    """

    url: str
    addresses: Sequence[str]
    pids: Mapping[str, int]
    notes: Path

    def processor_seconds(self) -> dict[str, float]:
        """Tell how much processor time each process has had."""
        return {name: _processor_seconds(pid) for name, pid in self.pids.items()}


@asynccontextmanager
async def start_rig(case: str, flags: Sequence[str]) -> AsyncIterator[Rig]:
    """Start the servers of *case*, and a picker with *flags* behind an Envoy; end all of it after the block."""
    async with AsyncExitStack() as stack:
        servers = await _start(stack, "-m", "benchmarks.live.servers", case)
        addresses = (await _line(servers.stdout)).split()
        endpoints = [_endpoint(number, address) for number, address in enumerate(addresses)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="live-")))
        file = folder / "endpoints.json"
        entries = [{"name": each.pod_name, "address": each.address, "port": str(each.port)} for each in endpoints]
        file.write_text(json.dumps({"endpoints": entries}), encoding="utf-8")
        ports = ("--grpc-port=0", "--grpc-health-port=0", "--metrics-port=off")
        common = (f"--address={_LOOPBACK}", *ports, "--secure-serving=false", "--log-format=json")
        notes = folder / "notes.jsonl"
        command = ("-m", "benchmarks.live.picker", str(notes), f"--endpoints-file={file}", *common, *flags)
        picker = await _start(stack, *command)
        port = json.loads(await _line(picker.stderr))["grpc_port"]
        reading = asyncio.create_task(_read(picker.stderr))
        stack.callback(reading.cancel)
        pool = InferencePool(
            name="live",
            selector={"app": "live"},
            target_ports=[8000],
            endpoint_picker_ref=EndpointPickerRef(name="live-epp", port=9002),
        )
        options = EnvoyOptions(
            listen=HostPort(_LOOPBACK, 0),
            epp_address=HostPort(_LOOPBACK, port),
            epp_tls=False,
            epp_health_check="off",
        )
        bootstrap = render_envoy(pool, endpoints, options)
        envoy = await stack.enter_async_context(EnvoyProcess(bootstrap, log_level="error"))
        (listener,) = envoy.listeners.values()
        pids = {"servers": servers.pid, "picker": picker.pid, "Envoy": envoy.pid, "client": os.getpid()}
        yield Rig(f"http://{listener}", addresses, pids, notes)


def _endpoint(number: int, address: str) -> Endpoint:
    place = HostPort.parse(address)
    return Endpoint(namespace="default", pod_name=f"server-{number}", address=place.host, port=place.port)


async def _start(stack: AsyncExitStack, *arguments: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE if "benchmarks.live.picker" in arguments else None,
    )
    stack.push_async_callback(_end, process)
    return process


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


async def _line(stream: asyncio.StreamReader | None) -> str:
    line = (await stream.readline()).decode() if stream is not None else ""
    if not line:
        message = "a process of the live system ended before it served"
        raise RuntimeError(message)
    return line


async def _read(stream: asyncio.StreamReader | None) -> None:
    """Take what a process logs, so that it is never held up."""
    while stream is not None and await stream.read(65536):
        pass


def _processor_seconds(pid: int) -> float:
    # The name, in parentheses, may have spaces.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
