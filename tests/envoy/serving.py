"""`inferencepool serve` as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self, final

from inferencepool.gateway import HostPort
from tests.envoy.stage import endpoint_at, loopback

__all__ = ["PLAIN", "Served", "served", "write_endpoints"]

PLAIN: Final = ("--secure-serving=false",)


def write_endpoints(file: Path, addresses: Iterable[str]) -> None:
    """Write a file of endpoints in one step."""
    entries = [
        {"name": each.pod_name, "address": each.address, "port": str(each.port)} for each in map(endpoint_at, addresses)
    ]
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps({"endpoints": entries}), encoding="utf-8")
    draft.replace(file)


@final
class Served:
    """
    The running command.

    Attributes:
        process: The process.
        port: The port of ext_proc.
        health_port: The port of health.
    """

    def __init__(self, process: Process, first: Mapping[str, Any]) -> None:
        self.process = process
        self.port: int = first["grpc_port"]
        self.health_port: int = first["grpc_health_port"]
        self._lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, *arguments: str, port: int = 0) -> Self:
        """Start it, and wait until it serves."""
        ports = ("--grpc-port", str(port), "--grpc-health-port", "0", "--metrics-port", "0")
        common = ("--address", "127.0.0.1", *ports, "--log-format", "json")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "inferencepool", "serve", *common, "--scrape-metrics=false", *arguments, stderr=PIPE
        )
        assert process.stderr is not None
        line = await process.stderr.readline()
        assert b'"serving"' in line, line
        return cls(process, json.loads(line))

    @property
    def address(self) -> HostPort:
        """Where it serves."""
        return loopback(self.port)

    async def line(self, event: str) -> dict[str, Any]:
        """Wait for the next line of an event."""
        while True:
            line = await self._lines.get()
            if line["event"] == event:
                return line

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def end(self) -> int:
        """Wait for its end; give the exit status."""
        status = await self.process.wait()
        await self._reading
        return status

    async def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process.returncode is None:
            self.process.kill()
        await self.end()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self._lines.put_nowait(json.loads(line))


@asynccontextmanager
async def served(*arguments: str, port: int = 0) -> AsyncIterator[Served]:
    """Run the command, and end it."""
    running = await Served.start(*arguments, port=port)
    try:
        yield running
    finally:
        if running.process.returncode is None:
            running.send(signal.SIGCONT)
        await running.kill()
