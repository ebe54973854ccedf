"""The simulated model servers of ``demo``."""

from __future__ import annotations

import errno
from contextlib import AsyncExitStack

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.lab.model_servers import ModelServerSimulator, SimulatorOptions

__all__ = ["LOOPBACK", "MODEL", "DemoServer", "start_servers"]

#: The model that is asked for.
MODEL = "simulated"
LOOPBACK = "127.0.0.1"

# One server in four is slower: a picker that looks at load has something to see.
_SLOW = 4
_MAX_TARGET_PORTS = 8
_ATTEMPTS = 20


@attrs.define(eq=False)
class DemoServer:
    """
    One server of the pool.

    Attributes:
        simulator: The server.
        speed: Its speed, where 1 is the fastest.
        queues: Lengths of its queue, as its page told them from time to time.
        is_down: Whether it was ended.
    """

    simulator: ModelServerSimulator
    speed: float
    queues: list[int] = attrs.field(factory=list)
    is_down: bool = False
    _prefixes: tuple[int, int] = (0, 0)

    def prefixes(self) -> tuple[int, int]:
        """Give how many tokens of prompts it was asked for, and how many of these were in its cache."""
        asked, found = self._prefixes
        if self.is_down:
            return asked, found
        load = self.simulator.load()
        return asked + load.prefix_queries, found + load.prefix_hits

    async def end(self) -> None:
        """End it at once, with whatever it is doing."""
        self._prefixes, self.is_down = self.prefixes(), True
        await self.simulator.stop()

    async def start_again(self) -> None:
        """Start it again at its address, with an empty cache."""
        before = self.simulator
        self.simulator = ModelServerSimulator(before.options, host=before.host, port=before.port)
        await self.simulator.start()
        self.is_down = False


async def start_servers(stack: AsyncExitStack, count: int, seed: int) -> list[DemoServer]:
    """Start servers at addresses of their own and one port, or, where there is one loopback address, the reverse."""
    try:
        return await _start_at_own_addresses(stack, count, seed)
    except OSError:
        if count > _MAX_TARGET_PORTS:
            message = (
                f"demo: --servers: {count} is too many for this machine: it has one loopback address, "
                f"and a pool has at most {_MAX_TARGET_PORTS} ports"
            )
            raise ConfigurationError(message) from None
    servers = [_server(number, count, seed, LOOPBACK, 0) for number in range(count)]
    for server in servers:
        await stack.enter_async_context(server.simulator)
    return servers


async def _start_at_own_addresses(stack: AsyncExitStack, count: int, seed: int) -> list[DemoServer]:
    attempts = _ATTEMPTS
    while True:
        attempts -= 1
        servers: list[DemoServer] = []
        async with AsyncExitStack() as started:
            try:
                for number in range(count):
                    # The first one takes a free port, which at the other addresses may be somebody else's.
                    port = servers[0].simulator.port if servers else 0
                    server = _server(number, count, seed, f"127.0.0.{number + 2}", port)
                    await started.enter_async_context(server.simulator)
                    servers.append(server)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not attempts:
                    raise
                continue
            stack.push_async_exit(started.pop_all())
            return servers


def _server(number: int, count: int, seed: int, host: str, port: int) -> DemoServer:
    speed = 0.5 if number >= count - count // _SLOW else 1.0
    options = SimulatorOptions(
        models=[MODEL],
        max_running_requests=4,
        prefill_tokens_per_second=8_000,
        decode_tokens_per_second=100,
        kv_blocks=512,
        time_scale=speed,
        seed=seed + number,
    )
    return DemoServer(ModelServerSimulator(options, host=host, port=port), speed)
