"""Starting to listen: at one port on all addresses, and without leaving a listener behind that nobody knows."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

__all__ = ["listen"]

_Start: TypeAlias = Callable[[int], Coroutine[Any, Any, asyncio.Server]]

_ATTEMPTS = 20


async def listen(start: _Start, port: int) -> asyncio.Server:
    """
    Start a server, such as by `asyncio.loop.create_server`.

    Where *port* is 0 and there are several addresses, the system would give each a port of its own: here they get the
    same. When cancelled meanwhile, it closes what was made: asyncio itself forgets a server whose start is cancelled in
    the middle, and that one listens on until it is collected.

    Args:
        start: Starts the server at a port.
        port: The port; 0 for any that is free.

    Raises:
        OSError: The address is unknown, or cannot be bound.
    """
    attempts = _ATTEMPTS
    while True:
        server = await _start(start(port))
        ports = {each.getsockname()[1] for each in server.sockets}
        if len(ports) == 1:
            return server
        server.close()
        attempts -= 1
        try:
            return await _start(start(ports.pop()))
        except OSError as error:
            # At another address it may be somebody else's.
            if error.errno != errno.EADDRINUSE or not attempts:
                raise


async def _start(starting: Coroutine[Any, Any, asyncio.Server]) -> asyncio.Server:
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            task.result().close()
        raise
    except socket.gaierror as error:
        message = f"there is no such address: {error.strerror}"
        raise OSError(message) from error
