"""Following a pool of a cluster."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Any, NoReturn, Protocol, final

from inferencepool.adapters.bodies import Loads
from inferencepool.adapters.kubernetes import (
    Effect,
    Failure,
    Feed,
    Get,
    NamedPool,
    ObjectivesChanged,
    PoolMissing,
    PoolView,
    ReflectorOptions,
    RewritesChanged,
    Stream,
    Wait,
)
from inferencepool.model import InferenceModelRewrite, InferenceObjective, InferencePool
from inferencepool.registry import EndpointRegistry, PodDeleted, PodsListed, PodUpserted, PoolChanged
from inferencepool.runtime.kubernetes._decoding import fastest_pod_loads
from inferencepool.runtime.kubernetes._notices import Notices
from inferencepool.runtime.kubernetes._transport import KubernetesTransport
from inferencepool.runtime.kubernetes._unused_pods import UnusedPods
from inferencepool.runtime.logs import log_event

__all__ = ["PoolWatch", "RuleListener"]

_LOG = logging.getLogger("inferencepool.runtime.kubernetes")


# Failures that concern all of a server: there was no answer, or that of something in between.
_AWAY = (None, 502, 503, 504)
# Pods that are looked at before others have their turn.
_SLICE = 200


class RuleListener(Protocol):
    """**Protocol:** takes over the rules of a pool; an `ExternalProcessor` does."""

    def set_objectives(self, objectives: Iterable[InferenceObjective], /) -> object:
        """Replace all objectives."""

    def set_rewrites(self, rewrites: Iterable[InferenceModelRewrite], /) -> object:
        """Replace all rewrites."""


@final
class PoolWatch:
    """
    Keeps a registry up to date with a pool of a cluster, and with its pods.

    It is a part of an `EndpointPickerServer`, or runs as a task of any event loop, which guards it. While the server
    does not answer, the registry keeps what it had. Whatever fails is logged and tried again, without end.
    """

    def __init__(
        self,
        transport: KubernetesTransport,
        registry: EndpointRegistry,
        pool: NamedPool | InferencePool,
        *,
        rules: RuleListener | None = None,
        on_synced: Callable[[bool], object] | None = None,
        options: ReflectorOptions | None = None,
        loads_pods: Loads | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        rng: Random | None = None,
    ) -> None:
        """
        Prepare to follow *pool*.

        Args:
            transport: Asks the API server.
            registry: What is kept up to date; it must have neither a pool nor endpoints.
            pool: The pool by name; or as it is to be, where there is no such object.
            rules: Gets objectives and rewrites of a pool that is followed by name.
            on_synced: Is told when pool, pods and rules are known, with True, and when the pool is gone, with False.
            options: How patient to be.
            loads_pods: Reads the JSON of pods; by default the fastest reader there is.
            sleep: Waits for a number of seconds.
            clock: Seconds that never run backwards.
            rng: Source of the randomness in waiting times.
        """
        self._transport = transport
        self._registry = registry
        self._rules = rules
        self._on_synced = on_synced
        self._sleep = sleep
        self._clock = clock
        self._notices = Notices(clock)
        self._unused = UnusedPods()
        self._label = f"{pool.namespace}/{pool.name}"
        self._view = PoolView(
            pool,
            options=options,
            loads_pods=loads_pods if loads_pods is not None else fastest_pod_loads(),
            clock=clock,
            rng=rng,
        )
        self._tasks: dict[Feed[Any], asyncio.Task[NoReturn]] = {}
        self._naps: dict[Feed[Any], asyncio.Future[object]] = {}
        # What is not applied yet, whichever feed told it. Tasks are cancelled when nothing is left of it, so that
        # none takes something along.
        self._effects: deque[Effect] = deque()
        self._applying: Iterator[None] | None = None
        self._synced = asyncio.Event()
        self._began = clock()
        registry.absence = self._view.absence

    @property
    def synced(self) -> bool:
        """Whether there is a pool, and its pods and rules are known."""
        return self._synced.is_set()

    @property
    def age(self) -> float:
        """
        Seconds since the API server was last heard about pods.

        What is known of them is as old as that at most. While all is well the server says every minute or so how far it
        has come, so that this grows to a minute and begins anew.
        """
        return self._view.age

    @property
    def problems(self) -> dict[str, Failure]:
        """Which resources may be out of date at present, and why; may be asked for in any thread."""
        return {feed.subject: problem for feed in self._view.feeds if (problem := feed.problem) is not None}

    @property
    def absence(self) -> str:
        """Why there is no pool, with the pools that there are; empty where there is one."""
        return self._registry.absence

    @property
    def unused_pods(self) -> dict[str, str]:
        """Why pods that the selector matches give no endpoint, by their names; 1,000 at most."""
        return dict(self._unused.reasons)

    async def wait_until_synced(self) -> None:
        """Wait until there is a pool, and its pods and rules are known."""
        await self._synced.wait()

    async def run(self) -> None:
        """Follow the pool until cancelled."""
        self._began = self._clock()
        try:
            async with asyncio.TaskGroup() as group:
                self._start_and_stop(group)
        except BaseExceptionGroup as errors:
            # A mistake in here, or of a listener; the first one tells it.
            raise errors.exceptions[0] from errors

    def _start_and_stop(self, group: asyncio.TaskGroup) -> None:
        """Drive those feeds that are wanted, and no others."""
        wanted = self._view.feeds
        for feed in [feed for feed in self._tasks if feed not in wanted]:
            self._tasks.pop(feed).cancel()
            self._notices.forget(feed)
        for feed in wanted:
            if feed not in self._tasks:
                self._tasks[feed] = group.create_task(self._drive(feed, group), name=f"follow {feed.subject}")

    async def _drive(self, feed: Feed[Any], group: asyncio.TaskGroup) -> NoReturn:
        async def take(deltas: Sequence[Any]) -> None:
            applies = self._take(feed, deltas)
            while feed.unread or self._effects:
                # However much there is to do, others have their turn in between.
                await asyncio.sleep(0)
                if applies:
                    applies = self._go_on()
                elif feed.unread:
                    applies = self._take(feed, feed.read())
            self._start_and_stop(group)

        while True:
            match feed.next_step():
                case Wait(seconds):
                    if feed.problem is not None:
                        self._notices.failed(feed, feed.problem, seconds)
                    await self._rest(feed, seconds)
                case Get() as step:
                    await take(await self._get(feed, step))
                case Stream() as step:
                    await self._follow(feed, step, take)

    async def _rest(self, feed: Feed[Any], seconds: float) -> None:
        """Wait, up to the moment at which another feed finds that the server is back."""
        nap = self._naps[feed] = asyncio.ensure_future(self._sleep(seconds))
        try:
            await asyncio.wait([nap])
        finally:
            del self._naps[feed]
            nap.cancel()
        if not nap.cancelled():
            nap.result()

    def _wake_others(self) -> None:
        """Let feeds ask again at once that wait because the server could not be reached, or failed."""
        for feed, nap in self._naps.items():
            problem = feed.problem
            if problem is not None and problem.retry_after is None and problem.status in _AWAY:
                nap.cancel()

    async def _get(self, feed: Feed[Any], step: Get) -> Sequence[Any]:
        try:
            async with asyncio.timeout(feed.patience):
                body = await self._transport.get(step.path, step.params)
        except TimeoutError:
            return feed.fail(Failure(f"no answer within {feed.patience:g} s"))
        except Exception as error:  # noqa: BLE001 - whatever a client raises, it is tried again
            return feed.fail(Failure.of(error))
        return feed.receive_page(body)

    async def _follow(self, feed: Feed[Any], step: Stream, take: Callable[[Sequence[Any]], Awaitable[None]]) -> None:
        pieces = self._transport.stream_lines(step.path, step.params)
        try:
            while feed.listening:
                try:
                    async with asyncio.timeout(feed.patience):
                        data = await anext(pieces)
                except StopAsyncIteration:
                    feed.end_stream()
                except TimeoutError:
                    await take(feed.fail(Failure(f"nothing was heard for {feed.patience:g} s")))
                except Exception as error:  # noqa: BLE001 - as above
                    await take(feed.fail(Failure.of(error)))
                else:
                    await take(feed.receive_data(data))
                    # A server that sends as fast as it can does not let anybody wait.
                    await asyncio.sleep(0)
        finally:
            # It ended, or is of no use any more: what goes wrong now says nothing.
            with suppress(Exception):
                await pieces.aclose()

    def _take(self, feed: Feed[Any], deltas: Sequence[Any]) -> bool:
        """Take what *feed* told. True where its task is to go on with what is to be applied: one at a time does."""
        self._notices.objects(feed, deltas)
        if feed.problem is None and self._notices.heard(feed):
            self._wake_others()
        is_busy = bool(self._effects)
        self._effects += self._view.take(feed, deltas)
        self._registry.absence = self._view.absence
        return not is_busy and self._go_on()

    def _go_on(self) -> bool:
        """Apply effects in order: all of them, or up to the next slice of one of many pods; True if some are left."""
        while self._effects:
            if self._applying is None:
                self._applying = self._apply(self._effects[0])
            for _ in self._applying:
                return True
            self._applying = None
            self._effects.popleft()
        if self._view.synced != self.synced:
            self._tell_synced()
        return False

    def _apply(self, effect: Effect) -> Iterator[None]:
        match effect:
            case ObjectivesChanged(objectives):
                if self._rules is not None:
                    self._rules.set_objectives(objectives)
                log_event(_LOG, logging.INFO, "objectives changed", count=len(objectives))
            case RewritesChanged(rewrites):
                if self._rules is not None:
                    self._rules.set_rewrites(rewrites)
                log_event(_LOG, logging.INFO, "model rewrites changed", count=len(rewrites))
            case PoolChanged(pool):
                yield from self._registry.apply_in_slices(effect)
                self._tell_pool(pool)
                yield from self._judge_pods()
            case PodsListed(pods):
                yield from self._registry.apply_in_slices(effect)
                yield from self._judge_pods()
                log_event(_LOG, logging.INFO, "pods listed again", pods=len(pods), endpoints=self._endpoints())
            case PodUpserted(pod):
                self._registry.apply(effect)
                self._unused.judge(self._registry.pool, (pod,))
            case PodDeleted(_, name):
                self._registry.apply(effect)
                self._unused.forget(name)
            case PoolMissing(found):
                log_event(_LOG, logging.WARNING, "pool not found", pool=self._label, found=found)
            case _:
                self._registry.apply(effect)

    def _judge_pods(self) -> Iterator[None]:
        """Look at all pods, in slices, for those that give no endpoint."""
        pods = self._registry.pods()
        self._unused.keep(pod.name for pod in pods)
        for start in range(0, len(pods), _SLICE):
            if start:
                yield
            self._unused.judge(self._registry.pool, pods[start : start + _SLICE])

    def _tell_pool(self, pool: InferencePool | None) -> None:
        if pool is None:
            log_event(_LOG, logging.WARNING, "pool gone", pool=self._label)
            return
        log_event(
            _LOG,
            logging.INFO,
            "pool known",
            pool=self._label,
            selector=str(pool.selector),
            target_ports=[port.number for port in pool.target_ports],
            endpoints=self._endpoints(),
        )

    def _tell_synced(self) -> None:
        synced = self._view.synced
        if synced:
            self._synced.set()
            seconds = round(self._clock() - self._began, 3)
            log_event(_LOG, logging.INFO, "synced", pool=self._label, endpoints=self._endpoints(), seconds=seconds)
        else:
            self._synced.clear()
        if self._on_synced is not None:
            self._on_synced(synced)

    def _endpoints(self) -> int:
        return self._registry.statistics().endpoints
