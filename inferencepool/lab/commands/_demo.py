"""The command ``demo``: a whole pool on this machine."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import logging
import signal
import sys
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from inferencepool.cli._flags import whole
from inferencepool.cli._output import one_line
from inferencepool.errors import MissingExtraError
from inferencepool.model import FailureMode

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from inferencepool.lab.commands._demo_pool import DemoPool, Kill
    from inferencepool.lab.commands._demo_report import DemoReport, Way
    from inferencepool.lab.commands._demo_traffic import Traffic

__all__ = ["add_command"]

_INTERRUPTED = 130
_MAX_SERVERS = 64
_MAX_REQUESTS = 100_000
_MAX_CONCURRENCY = 1_000
# Most requests that are sent one at a time with and without the picker, after some that warm connections up.
_WARM_UP, _QUIET_ROUNDS = 5, 60


def add_command(commands: _SubParsersAction[argparse.ArgumentParser], text: str) -> None:
    """Add the command to the parser; the *text* says what it does."""
    description = (
        "Run simulated model servers, an endpoint picker and a real Envoy on the loopback, send requests through them, "
        "and show where they went, what the picker costs, and why it picked what it picked."
    )
    parser = commands.add_parser("demo", help=text, description=description)
    add = parser.add_argument
    add("--servers", metavar="N", type=whole(1, _MAX_SERVERS), default=8, help="number of model servers (8)")
    add("--requests", metavar="N", type=whole(1, _MAX_REQUESTS), default=300, help="number of requests (300)")
    add("--concurrency", metavar="N", type=whole(1, _MAX_CONCURRENCY), default=24, help="requests at a time (24)")
    add("--seed", metavar="N", type=whole(0, 2**31 - 1), default=0, help="makes other prompts and answers (0)")
    add(
        "--failure-mode",
        choices=("FailOpen", "FailClose"),
        default="FailClose",
        help="what the pool says about a picker that fails; FailOpen also sends again what a server lost (FailClose)",
    )
    add("--kill", action="store_true", help="end one server half-way, and show what became of its requests")
    add("--keep", action="store_true", help="leave it running, with some requests, until interrupted")
    add("--output", choices=("text", "json"), default="text", help="text, or one JSON object (text)")
    parser.set_defaults(run=_run, usage_error=parser.error)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.kill and arguments.servers == 1:
        arguments.usage_error("argument --kill: nothing is left of 1 server; --servers must be 2 or more")
    # What the picker logs, such as that a server stops at the end, is no part of the demonstration.
    logging.getLogger("inferencepool").addHandler(logging.NullHandler())
    return asyncio.run(_demonstrate(arguments))


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let a signal to end cancel the task that runs this, so that everything is stopped in good order."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    cancel = cast("asyncio.Task[int]", asyncio.current_task()).cancel
    for each in signals:
        # Windows has no such handlers; there an interrupt cancels the task, too.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(each, cancel)
    try:
        yield
    finally:
        for each in signals:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(each)


async def _demonstrate(arguments: argparse.Namespace) -> int:
    try:
        # Before anything is started that would be in vain.
        importlib.import_module("aiohttp")
        from inferencepool.lab.commands._demo_pool import run_pool  # noqa: PLC0415 - an extra
    except ImportError as error:
        if isinstance(error, MissingExtraError):
            raise
        message = f'demo needs {error.name}: pip install "inferencepool[demo]"'
        raise MissingExtraError(message) from None
    kept = False
    with _interruptible():
        try:
            _tell(arguments, f"Starting {arguments.servers} simulated model servers, an endpoint picker and Envoy:\n")
            mode, started = FailureMode(arguments.failure_mode), partial(_tell_part, arguments)
            async with run_pool(arguments.servers, arguments.seed, mode, started) as pool:
                report = await _measure(pool, arguments)
                _show(report, pool, arguments)
                if arguments.keep:
                    kept = True
                    await _keep(pool, arguments)
        except asyncio.CancelledError:
            return 0 if kept else _INTERRUPTED
    return 1 if report.has_failed else 0


async def _measure(pool: DemoPool, arguments: argparse.Namespace) -> DemoReport:
    from inferencepool.lab.commands._demo_report import DemoReport  # noqa: PLC0415 - as in _demonstrate
    from inferencepool.lab.commands._demo_traffic import measure_overhead, requests_of, send  # noqa: PLC0415 - as above

    urls = (pool.picked_url, pool.direct_url)
    rounds = min(_QUIET_ROUNDS, arguments.requests)
    _tell(arguments, f"\nSending {rounds} short requests both ways, one at a time, to see what it costs.")
    await measure_overhead(urls, _WARM_UP)
    overheads = await measure_overhead(urls, rounds)
    bodies = requests_of(arguments.requests, arguments.seed)

    kills: list[asyncio.Task[Kill]] = []

    def halfway() -> None:
        pool.witness.wanted = True
        if arguments.kill:
            kills.append(asyncio.create_task(pool.kill()))

    pool.take_queues()
    pool.take_cached()
    many = f"{arguments.requests} requests, {arguments.concurrency} at a time,"
    _tell(arguments, f"Sending {many} to {pool.picked_url}, with the picker.")
    traffic = await send(pool.picked_url, bodies, arguments.concurrency, halfway)
    picked = _way(traffic, pool, overheads[0])
    killed = await kills[0] if kills else None
    await pool.start_again()
    _tell(arguments, f"Sending {many} to {pool.direct_url}, in turn.\n")
    traffic = await send(pool.direct_url, bodies, arguments.concurrency)
    direct = _way(traffic, pool, overheads[1])
    return DemoReport(
        speeds={address: server.speed for address, server in pool.servers.items()},
        concurrency=arguments.concurrency,
        picked=picked,
        direct=direct,
        explanation=pool.witness.explanation,
        killed=killed,
        fails_open=arguments.failure_mode == FailureMode.FAIL_OPEN,
    )


def _way(traffic: Traffic, pool: DemoPool, overheads: list[float]) -> Way:
    from inferencepool.lab.commands._demo_report import Way  # noqa: PLC0415 - as in _demonstrate

    return Way(
        served_by=traffic.served_by,
        seconds=traffic.seconds,
        failed=traffic.failed,
        queues=pool.take_queues(),
        cached=pool.take_cached(),
        overheads=overheads,
    )


def _show(report: DemoReport, pool: DemoPool, arguments: argparse.Namespace) -> None:
    if arguments.output == "json":
        places = {
            "url": pool.picked_url,
            "debug_url": f"{pool.pages_url}/debug/",
            "metrics_url": f"{pool.pages_url}/metrics",
        }
        print(json.dumps(report.to_dict() | places), flush=True)
        return
    for line in report.lines():
        print(one_line(line), flush=True)


async def _keep(pool: DemoPool, arguments: argparse.Namespace) -> None:
    """Say where to look, and send requests until this is cancelled."""
    from inferencepool.lab.commands._demo_servers import MODEL  # noqa: PLC0415 - as in _demonstrate
    from inferencepool.lab.commands._demo_traffic import RATE, send_on  # noqa: PLC0415 - as above

    _tell(arguments, _invitation(pool, MODEL, RATE))
    await send_on(pool.picked_url, arguments.seed)


def _invitation(pool: DemoPool, model: str, rate: int) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]}, separators=(",", ":"))
    return (
        f"\nIt keeps running, with {rate} requests a second, until you press Ctrl-C. Look at\n\n"
        f"  {pool.pages_url}/debug/?refresh=2  what the picker decides, and why\n"
        f"  {pool.pages_url}/metrics           what it counts\n"
        "\nand try, in another terminal:\n\n"
        f"  curl -i {pool.picked_url}/v1/chat/completions \\\n"
        f"    -H 'content-type: application/json' \\\n    -d '{body}'\n"
        "\nThe response header x-served-by tells the server."
    )


def _tell_part(arguments: argparse.Namespace, what: str, where: str) -> None:
    _tell(arguments, f"  {what:<15}  {where}")


def _tell(arguments: argparse.Namespace, text: str) -> None:
    """Say what goes on: where the output is for a program, on standard error."""
    print(text, file=sys.stderr if arguments.output == "json" else sys.stdout, flush=True)
