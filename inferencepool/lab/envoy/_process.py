"""Runs a real Envoy beside this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from inferencepool.errors import ConfigurationError
from inferencepool.lab.envoy._admin import Admin
from inferencepool.lab.envoy._executable import find_envoy
from inferencepool.lab.envoy._launch import end, launch

__all__ = ["EnvoyProcess"]

_LOG_LEVELS = ("trace", "debug", "info", "warning", "error", "critical", "off")
_LOG_LINES = 1_000
# Between two looks at a starting Envoy, in seconds.
_POLL = 0.01
_LOOPBACK_ADMIN = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}


@final
class EnvoyProcess:
    """
    A real Envoy with a given bootstrap; its files and its log go when it stops.

    It runs without hot restart, so any number of them run side by side. A bootstrap without ``admin`` gets one at a
    free port of the loopback. Used on the event loop's thread.

        async with EnvoyProcess(bootstrap) as envoy:
            print(envoy.listener("main"))
    """

    def __init__(
        self,
        bootstrap: Mapping[str, Any],
        *,
        path: str | os.PathLike[str] | None = None,
        concurrency: int = 1,
        log_level: str = "warning",
    ) -> None:
        """
        Prepare a process; `start` starts it.

        Args:
            bootstrap: ``envoy.config.bootstrap.v3.Bootstrap`` as its JSON document.
            path: The program; None finds one, as `find_envoy` does.
            concurrency: Worker threads, 1 or more.
            log_level: Least level that is logged: trace, debug, info, warning, error, critical or off.

        Raises:
            ConfigurationError: *concurrency* or *log_level* is not allowed.
        """
        if type(concurrency) is not int or concurrency < 1:
            message = f"Envoy: concurrency: {concurrency!r} is not a whole number of 1 or more"
            raise ConfigurationError(message)
        if log_level not in _LOG_LEVELS:
            message = f"Envoy: log_level: {log_level!r} is not one of {', '.join(_LOG_LEVELS)}"
            raise ConfigurationError(message)
        self._bootstrap = dict(bootstrap)
        self._bootstrap.setdefault("admin", _LOOPBACK_ADMIN)
        self._path = path
        self._options = ["--concurrency", str(concurrency), "--log-level", log_level]
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._resources = contextlib.AsyncExitStack()
        self._process: Process | None = None
        self._admin: Admin | None = None
        self._listeners: dict[str, str] = {}

    @property
    def pid(self) -> int:
        """The id of the process; raises RuntimeError when it is not running."""
        return self._running.pid

    @property
    def admin(self) -> Admin:
        """The admin interface; raises RuntimeError when it is not running."""
        if self._admin is None:
            message = "Envoy is not running"
            raise RuntimeError(message)
        return self._admin

    @property
    def log(self) -> tuple[str, ...]:
        """The latest 1,000 lines of its log, also after it has stopped."""
        return tuple(self._log)

    @property
    def listeners(self) -> Mapping[str, str]:
        """The listeners of the bootstrap by name, with the addresses they are bound to, as ``ip:port``."""
        return dict(self._listeners)

    def listener(self, name: str) -> str:
        """
        Give the address that a listener is bound to, as ``ip:port``.

        Raises:
            ConfigurationError: There is no such listener; the message lists those that exist.
        """
        if name not in self._listeners:
            message = f"Envoy has no listener {name!r}; it has: {', '.join(self._listeners) or 'none'}"
            raise ConfigurationError(message)
        return self._listeners[name]

    async def start(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - also bounds what runs outside this task
        """
        Start it, and wait until it is ready and its listeners are bound.

        Args:
            timeout: Seconds that it may take.

        Raises:
            MissingExtraError: There is no Envoy on this machine.
            ConfigurationError: Envoy ended instead; the message holds the end of its log.
            TimeoutError: It was not ready in time; it is stopped.
            RuntimeError: It is running already.
        """
        if self._process is not None:
            message = "Envoy is running already"
            raise RuntimeError(message)
        program = find_envoy(self._path)
        try:
            async with asyncio.timeout(timeout):
                await self._start(program)
        except TimeoutError:
            await self.stop()
            message = f"Envoy was not ready within {timeout:g} s; {self._end_of_log()}"
            raise TimeoutError(message) from None
        except BaseException:
            await self.stop()
            raise

    async def stop(self, grace: float = 5.0) -> None:
        """
        End it: SIGTERM, and after *grace* seconds SIGKILL. No effect when it is not running.

        A second call while one is under way returns at once.
        """
        process, self._process = self._process, None
        self._admin = None
        self._listeners = {}
        try:
            if process is not None:
                await end(process, grace)
        finally:
            await self._resources.aclose()

    async def wait(self) -> int:
        """Wait until the process ends by itself; give its exit status."""
        return await self._running.wait()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def _running(self) -> Process:
        if self._process is None:
            message = "Envoy is not running"
            raise RuntimeError(message)
        return self._process

    async def _start(self, program: Path) -> None:
        self._log.clear()
        folder = Path(self._resources.enter_context(tempfile.TemporaryDirectory(prefix="envoy-")))
        address_file = folder / "admin-address"
        arguments = ["--admin-address-path", str(address_file), *self._options]
        process = await launch(program, folder, self._bootstrap, *arguments)
        self._process = process
        reading = asyncio.create_task(self._read_log(process))
        self._resources.push_async_callback(asyncio.wait, [reading])
        while process.returncode is None:
            # Envoy writes the file in one go, after it has bound the address.
            address = address_file.read_text(encoding="utf-8") if address_file.exists() else ""
            if address and await Admin(address).state() == "LIVE":
                admin = Admin(address)
                self._listeners = await admin.listeners()
                self._admin = admin
                return
            await asyncio.sleep(_POLL)
        await reading
        message = f"Envoy ended with status {process.returncode}; {self._end_of_log()}"
        raise ConfigurationError(message)

    async def _read_log(self, process: Process) -> None:
        output = process.stdout
        while output is not None and not output.at_eof():
            try:
                line = await output.readline()
            except ValueError:
                # Longer than the limit: its beginning is gone, and its end may follow.
                line = b"(a line too long to keep)"
            if text := line.decode(errors="replace").rstrip():
                self._log.append(text)

    def _end_of_log(self) -> str:
        lines = "\n".join(list(self._log)[-20:])
        return f"the end of its log:\n{lines}" if lines else "its log is empty"
