"""Plugins of kubeconfigs that give tokens (``exec``), which may do anything, and go on for ever."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn, final

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.kubernetes._secrets import check_token, hide_secrets

if TYPE_CHECKING:
    from lightkube.config.models import UserExec

__all__ = ["MAX_OUTPUT", "PLUGIN_SECONDS", "TokenPlugin"]

#: Seconds that a plugin may take; then it is killed, with all processes of its group.
PLUGIN_SECONDS: Final = 30.0
#: Bytes that a plugin may print; of what it says on standard error the rest is thrown away.
MAX_OUTPUT: Final = 1024 * 1024
# A plugin may run so often in so many seconds, whatever the server says of its tokens.
_RUNS: Final = 4
_RUN_SECONDS: Final = 60.0
# Seconds to wait for what a plugin printed before it ended; a process that it left behind may hold the pipe.
_AFTER_EXIT: Final = 0.5
# Seconds between two looks at whether a plugin has ended.
_LOOK: Final = 0.02
_MAX_COMPLAINT: Final = 4096
_PIECE: Final = 64 * 1024


@final
class TokenPlugin:
    """
    Runs a plugin when a token is wanted, once for all who wait, and only so often.

    Whoever waits may give up; the plugin goes on, and what it says counts for the next one. It belongs to one event
    loop.
    """

    def __init__(
        self, plugin: UserExec, *, seconds: float = PLUGIN_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Prepare to run *plugin* for *seconds* at most."""
        self._plugin = plugin
        self._seconds = seconds
        self._clock = clock
        self._began: deque[float] = deque(maxlen=_RUNS)
        self._run: asyncio.Task[str] | None = None

    async def fetch(self) -> str:
        """
        Give a token.

        Raises:
            ConfigurationError: There is none; no part of what the plugin printed on standard output is in the message.
        """
        if self._run is None or self._run.done():
            now = self._clock()
            if len(self._began) == _RUNS and now - self._began[0] < _RUN_SECONDS:
                self._refuse(f"has run {_RUNS} times in {_RUN_SECONDS:g} s, and will not run yet")
            self._began.append(now)
            self._run = asyncio.create_task(self._ask(), name="credential plugin")
            # Nobody may be left to hear of a failure.
            self._run.add_done_callback(lambda run: run.cancelled() or run.exception())
        return await asyncio.shield(self._run)

    async def close(self) -> None:
        """Kill it, if it runs."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.wait([self._run])

    async def _ask(self) -> str:
        variables = {each.name: each.value for each in self._plugin.env or ()}
        process = await self._start(variables)
        output, complaint = await self._listen(process)
        if process.returncode:
            said = hide_secrets(complaint.decode(errors="replace"), variables.values())
            self._refuse(f"ended with status {process.returncode}" + (f": {said}" if said else ""))
        return self._read(output)

    async def _start(self, variables: Mapping[str, str]) -> Process:
        command = [self._plugin.command, *(self._plugin.args or ())]
        # A group of its own, so that it can be killed with whatever it has started.
        creation = asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, **variables},
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )
        starting = asyncio.create_task(creation)
        try:
            return await asyncio.shield(starting)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its arguments or environment cannot be used"
            self._refuse(f"cannot be run: {type(error).__name__}: {reason}")
        except asyncio.CancelledError:
            # asyncio kills a process that it is to give up, but not its group, and waits for whoever holds the pipes.
            with suppress(OSError, ValueError, ConfigurationError):
                process = await starting
                _kill(process)
                await self._listen(process)
            raise

    async def _listen(self, process: Process) -> tuple[bytes, bytes]:
        """Give what the plugin prints until it ends; kill it if that is too much or takes too long."""
        assert process.stdout is not None  # noqa: S101 - they are pipes
        assert process.stderr is not None  # noqa: S101 - as above
        output, complaint = bytearray(), bytearray()
        printing = asyncio.create_task(self._collect(process.stdout, output))
        complaining = asyncio.create_task(_drain(process.stderr, complaint))
        ending = asyncio.create_task(_until_ended(process))
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.wait((ending, printing), return_when=asyncio.FIRST_COMPLETED)
                if printing.done():
                    printing.result()
                await ending
                await asyncio.wait((printing, complaining), timeout=_AFTER_EXIT)
                if printing.done():
                    printing.result()
        except TimeoutError:
            _kill(process)
            self._refuse(f"took longer than {self._seconds:g} s")
        except BaseException:
            _kill(process)
            raise
        finally:
            for task in (printing, complaining, ending):
                task.cancel()
            # Closes the pipes, which a process that was left behind may hold at the other end.
            process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way
            await asyncio.gather(printing, complaining, ending, process.wait(), return_exceptions=True)
        return bytes(output), bytes(complaint)

    async def _collect(self, stream: asyncio.StreamReader, output: bytearray) -> None:
        while data := await stream.read(_PIECE):
            output += data
            if len(output) > MAX_OUTPUT:
                self._refuse(f"printed more than {MAX_OUTPUT} bytes")

    def _read(self, output: bytes) -> str:
        try:
            document = json.loads(output)
        except (ValueError, RecursionError):
            # What it says of the text shows where it is wrong, and so what is there.
            self._refuse("printed no JSON")
        status = document.get("status") if isinstance(document, dict) else None
        if not isinstance(status, dict) or "token" not in status:
            self._refuse("printed no status.token")
        return check_token(status["token"], f"{self._name}: status.token")

    @property
    def _name(self) -> str:
        return f"exec plugin {self._plugin.command!r}"

    def _refuse(self, reason: str) -> NoReturn:
        message = f"{self._name}: {reason}"
        raise ConfigurationError(message) from None


async def _until_ended(process: Process) -> None:
    """Wait until the process has ended; ``wait`` waits for all who hold its pipes in some versions of Python."""
    while process.returncode is None:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(_LOOK)


async def _drain(stream: asyncio.StreamReader, kept: bytearray) -> None:
    while data := await stream.read(_PIECE):
        kept += data[: _MAX_COMPLAINT - len(kept)]


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
