"""Starting to listen, without leaving a listener behind that nobody knows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["listen"]


async def listen(starting: Coroutine[Any, Any, asyncio.Server]) -> asyncio.Server:
    """
    Await `asyncio.loop.create_server` or its kin; when cancelled meanwhile, close what it made.

    asyncio itself forgets a server whose start is cancelled in the middle: it listens on until it is collected.
    """
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            task.result().close()
        raise
