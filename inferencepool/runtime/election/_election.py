"""`LeaderElection`: drives an elector, and tells who leads."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any, Protocol, final
from uuid import uuid4

from inferencepool.adapters.kubernetes import (
    Create,
    ElectionOptions,
    Failure,
    Get,
    LeaderElector,
    LeaseName,
    Replace,
    Stream,
    Wait,
)
from inferencepool.runtime.logs import log_event

__all__ = ["LeaderElection", "LeaseClient", "elapsed", "make_identity"]

_LOG = logging.getLogger(__name__)
# Seconds that giving up the lease may take when the task was cancelled without a word before.
_LAST_WORDS = 3.0
_HINTS = {
    401: "the credentials are not accepted",
    403: "the role needs the verbs get, watch, create and update for leases in this namespace",
}


class LeaseClient(Protocol):
    """**Protocol:** asks an API server for leases; a `KubernetesTransport` that is a `KubernetesWriter`, too, does."""

    async def get(self, path: str, params: Mapping[str, str]) -> bytes:
        """Give the body of the answer."""

    def stream_lines(self, path: str, params: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """Give the body of the answer piece by piece as it arrives."""

    async def create(self, path: str, document: Mapping[str, Any]) -> bytes:
        """Create an object, and give it as the server has it."""

    async def replace(self, path: str, document: Mapping[str, Any]) -> bytes:
        """Replace an object, and give it as the server has it."""


def elapsed() -> float:
    """Tell seconds that never run backwards, those included during which the machine slept, where it can tell."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def make_identity() -> str:
    """Make a name for this replica: that of its host, and something that no earlier or other process had."""
    return f"{socket.gethostname()}_{uuid4()}"


@final
class LeaderElection:
    """
    Competes for a lease until it is told to stop, and tells whether this replica leads.

    It is a part of an `EndpointPickerServer`, or runs as a task of any event loop, which guards it. Whoever does not
    lead goes on competing, and keeps whatever else runs beside it warm. While the API server does not answer, a leader
    leads on until its renewals are too old, and then nobody does.

        election = LeaderElection(transport, LeaseName.of_pool("llama", "default"), on_change=print)
    """

    def __init__(
        self,
        client: LeaseClient,
        lease: LeaseName,
        *,
        on_change: Callable[[bool], object],
        identity: str | None = None,
        options: ElectionOptions | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = elapsed,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        rng: Random | None = None,
    ) -> None:
        """
        Prepare to compete for *lease*.

        Args:
            client: Asks the API server.
            lease: The lease.
            on_change: Is told True when this replica begins to lead, and False when it no longer does, each in the
                event loop; it must not wait.
            identity: Tells this replica from all others; made up by default.
            options: How long leadership lasts, and how eager to be.
            sleep: Waits for a number of seconds.
            clock: Seconds that never run backwards.
            now: The time of day, which is written into the lease for people to read.
            rng: Source of the randomness in waiting times.

        Raises:
            ConfigurationError: *identity* is empty.
        """
        identity = identity if identity is not None else make_identity()
        self._elector = LeaderElector(lease, identity, options=options, clock=clock, now=now, rng=rng)
        self._client = client
        self._on_change = on_change
        self._sleep = sleep
        self._clock = clock
        self._told = False
        self._oddities: tuple[str, ...] = ()
        self._holder: str | None = None
        self._problem: Failure | None = None
        self._asked = asyncio.Event()
        self._ended = asyncio.Event()
        self._lapse: asyncio.TimerHandle | None = None

    @property
    def identity(self) -> str:
        """Who this is, as the lease names it."""
        return self._elector.identity

    @property
    def leading(self) -> bool:
        """Whether this replica leads at this moment."""
        return self._elector.leading

    @property
    def holder(self) -> str:
        """Who held the lease when it was last seen; empty for nobody."""
        return self._elector.holder

    @property
    def problem(self) -> Failure | None:
        """Why the API server could not be asked; None if it could."""
        return self._elector.problem

    async def run(self) -> None:
        """Compete until cancelled, or until the lease was given up after `drain`; it is given up in both cases."""
        try:
            await self._compete()
        except asyncio.CancelledError:
            self.drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._compete()
            raise
        finally:
            self._ended.set()
            self.drain()

    def drain(self) -> None:
        """Stop leading at once, give the lease up, and compete no more; `run` ends when that is done."""
        self._elector.release()
        self._asked.set()
        self._tell()

    async def wait_until_ended(self) -> None:
        """Wait until `run` has ended."""
        await self._ended.wait()

    async def _compete(self) -> None:
        while (step := self._elector.next_step()) is not None:
            match step:
                case Wait(seconds):
                    await self._until_asked(self._sleep(seconds))
                case Stream():
                    await self._until_asked(self._follow(step))
                case _:
                    await self._ask(step)
            self._tell()

    async def _ask(self, step: Get | Create | Replace) -> None:
        patience = self._elector.patience
        try:
            async with asyncio.timeout(patience):
                match step:
                    case Get():
                        body = await self._client.get(step.path, step.params)
                    case Create():
                        body = await self._client.create(step.path, step.document)
                    case Replace():
                        body = await self._client.replace(step.path, step.document)
        except TimeoutError:
            self._elector.fail(Failure(f"no answer within {patience:g} s"))
        except Exception as error:  # noqa: BLE001 - whatever a client raises, it is tried again
            self._elector.fail(Failure.of(error))
        else:
            self._elector.receive(body)

    async def _follow(self, step: Stream) -> None:
        pieces = self._client.stream_lines(step.path, step.params)
        try:
            while self._elector.listening:
                patience = self._elector.patience
                try:
                    async with asyncio.timeout(patience):
                        data = await anext(pieces)
                except StopAsyncIteration:
                    self._elector.end_stream()
                except TimeoutError:
                    self._elector.fail(Failure(f"nothing was heard for {patience:g} s"))
                except Exception as error:  # noqa: BLE001 - as above
                    self._elector.fail(Failure.of(error))
                else:
                    self._elector.receive_data(data)
                    # A server that sends as fast as it can does not let anybody wait.
                    await asyncio.sleep(0)
                self._tell()
        finally:
            # It ended, or is of no use any more: what goes wrong now says nothing.
            with suppress(Exception):
                await pieces.aclose()

    async def _until_asked(self, waiting: Awaitable[object]) -> None:
        """Wait, but no longer than until the lease is to be given up."""
        if self._asked.is_set():
            await waiting
            return
        task, asked = asyncio.ensure_future(waiting), asyncio.ensure_future(self._asked.wait())
        try:
            await asyncio.wait((task, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
            asked.cancel()
            outcome, _ = await asyncio.gather(task, asked, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome

    def _tell(self) -> None:
        """Tell what has changed since it was last told, and come back when leadership lapses."""
        self._tell_problem()
        self._tell_holder()
        leading = self._elector.leading
        if leading != self._told:
            self._told = leading
            event = "leading" if leading else "no longer leading"
            log_event(_LOG, logging.INFO, event, lease=str(self._elector.lease), identity=self.identity)
            self._on_change(leading)
        if self._lapse is not None:
            self._lapse.cancel()
            self._lapse = None
        if leading:
            seconds = max(0.0, self._elector.leading_until - self._clock())
            self._lapse = asyncio.get_running_loop().call_later(seconds, self._tell)

    def _tell_holder(self) -> None:
        holder = self._elector.holder
        if holder != self._holder and holder not in ("", self.identity):
            log_event(_LOG, logging.INFO, "standing by", lease=str(self._elector.lease), leader=holder)
        self._holder = holder
        oddities, told = self._elector.oddities, self._oddities
        self._oddities = oddities
        if oddities and oddities != told:
            log_event(
                _LOG, logging.WARNING, "lease makes no sense", lease=str(self._elector.lease), reasons=list(oddities)
            )

    def _tell_problem(self) -> None:
        problem, known = self._elector.problem, self._problem
        self._problem = problem
        if problem is None or (known is not None and known.status == problem.status):
            return
        fields: dict[str, Any] = {"status": problem.status, "reason": problem.reason}
        if problem.status in _HINTS:
            fields["hint"] = _HINTS[problem.status]
        log_event(_LOG, logging.WARNING, "lease not reached", lease=str(self._elector.lease), **fields)
