"""Starting and ending the program."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inferencepool.errors import ConfigurationError
from inferencepool.lab.envoy._executable import find_envoy

__all__ = ["end", "launch", "validate"]

# The longest line of the log that can be read.
_LOG_LINE_BYTES = 64 * 1024


async def launch(program: Path, folder: Path, bootstrap: Mapping[str, Any], *arguments: str) -> Process:
    """Start *program*, with its files in *folder*; what it logs comes on its standard output."""
    file = folder / "bootstrap.json"
    file.write_text(json.dumps(bootstrap), encoding="utf-8")
    return await asyncio.create_subprocess_exec(
        program,
        "--config-path",
        str(file),
        # Without it, Envoys on one machine meet in shared memory, which one that is killed leaves behind.
        "--disable-hot-restart",
        *arguments,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        limit=_LOG_LINE_BYTES,
        # An interrupt from the terminal is for this process, which then stops Envoy in good order.
        start_new_session=True,
    )


async def end(process: Process, grace: float) -> None:
    """End *process* if it runs: SIGTERM, and after *grace* seconds, or when canceled, SIGKILL."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    await process.wait()


async def validate(
    bootstrap: Mapping[str, Any],
    *,
    path: str | os.PathLike[str] | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109 - bounds a process, not only this task
) -> None:
    """
    Let Envoy check a bootstrap without serving it.

    Args:
        bootstrap: ``envoy.config.bootstrap.v3.Bootstrap`` as its JSON document.
        path: The program; None finds one, as `find_envoy` does.
        timeout: Seconds that it may take.

    Raises:
        MissingExtraError: There is no Envoy on this machine.
        ConfigurationError: Envoy refuses the bootstrap; the message holds its reason.
        TimeoutError: It took longer.
    """
    program = find_envoy(path)
    with tempfile.TemporaryDirectory(prefix="envoy-") as folder:
        process = await launch(program, Path(folder), bootstrap, "--mode", "validate")
        try:
            async with asyncio.timeout(timeout):
                output, _ = await process.communicate()
        finally:
            await end(process, 0.0)
    if process.returncode:
        message = f"Envoy refuses the bootstrap: {output.decode(errors='replace').strip()}"
        raise ConfigurationError(message)
