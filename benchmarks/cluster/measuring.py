"""What following a cluster costs."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator, Sequence
from itertools import cycle
from random import Random
from statistics import median, quantiles
from time import perf_counter

from benchmarks.cluster.pods import LLAMA, pod_document
from benchmarks.cluster.server import RunningServer, running_server
from benchmarks.fleets import random_metrics
from benchmarks.measure import Row, time_of
from inferencepool import EndpointPicker, EndpointRegistry, InferencePool, InferenceRequest
from inferencepool.adapters.kubernetes import NamedPool, PoolView, ReflectorOptions
from inferencepool.runtime.kubernetes import LightkubeTransport, PoolWatch, fastest_pod_loads, load_cluster

__all__ = ["measure_cluster"]

PODS = 1_000
EVENTS = 1_000
PICKS = 2_000
_ROUNDS = 11
_SECONDS = 2.0


def measure_cluster() -> Iterator[Row]:
    """Measure an event from line to registry, the first list, and picks while events come."""
    for managed in (False, True):
        yield _measure_event(managed=managed)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    with running_server(PODS) as server:
        yield asyncio.run(_measure_first_list(server))
        yield from asyncio.run(_measure_picks(server))


def _measure_event(*, managed: bool) -> Row:
    """Feed lines of a watch of 1,000 pods, each of which makes an endpoint come or go, and read them with `json`."""
    view = PoolView(
        InferencePool(name="llama", selector=LLAMA, target_ports=[8000]),
        options=ReflectorOptions(streaming_lists=False),
        loads_pods=fastest_pod_loads(),
    )
    registry = EndpointRegistry()
    (feed,) = view.feeds

    def take(deltas: Sequence[object]) -> None:
        for effect in view.take(feed, deltas):
            registry.apply(effect)  # type: ignore[arg-type]  # without rules there are changes only

    feed.next_step()
    items = [pod_document(number, managed=managed) for number in range(PODS)]
    take(feed.receive_page(json.dumps({"metadata": {"resourceVersion": "1"}, "items": items}).encode()))
    while feed.unread:
        take(feed.read())
    feed.next_step()
    lines = [
        json.dumps(
            {"type": "MODIFIED", "object": pod_document(number, managed=managed, ready=ready)}, separators=(",", ":")
        ).encode()
        + b"\n"
        for ready in (False, True)
        for number in range(PODS)
    ]
    ours, theirs = cycle(lines).__next__, cycle(lines).__next__
    own, read = [], []
    for _ in range(_ROUNDS):
        own.append(time_of(lambda: take(feed.receive_data(ours())), 2 * PODS) / 1000)
        read.append(time_of(lambda: json.loads(theirs()), 2 * PODS) / 1000)
    assert registry.statistics().endpoints == PODS
    return Row(
        f"pod event of {len(lines[0]) / 1000:.1f} KB, line to registry, n={PODS}",
        f"{median(own):.1f} µs",
        f"json.loads {median(read):.1f} µs",
        f"{median(a / b for a, b in zip(own, read, strict=True)):.2f}",
        "<= 60 µs",
        median(own) <= 60,
    )


async def _measure_first_list(server: RunningServer) -> Row:
    """Follow a pool from nothing to a registry that is ready, over loopback."""
    taken = []
    for _ in range(5):
        transport = LightkubeTransport(load_cluster(server.kubeconfig))
        registry = EndpointRegistry()
        watch = PoolWatch(transport, registry, NamedPool("llama"))
        began = perf_counter()
        task = asyncio.create_task(watch.run())
        await watch.wait_until_synced()
        taken.append(perf_counter() - began)
        assert len(registry.endpoints()) == PODS
        task.cancel()
        await asyncio.wait([task])
        await transport.close()
    seconds = median(taken)
    return Row(f"first list to ready registry, n={PODS}", f"{seconds * 1000:.0f} ms", "", "", "<= 1 s", seconds <= 1)


async def _measure_picks(server: RunningServer) -> Iterator[Row]:
    """Pick on the event loop that follows the pool, in turns without and with events."""
    transport = LightkubeTransport(load_cluster(server.kubeconfig))
    registry = EndpointRegistry()
    watch = PoolWatch(transport, registry, NamedPool("llama"))
    following = asyncio.create_task(watch.run())
    await watch.wait_until_synced()
    metrics = asyncio.create_task(_observe(registry))
    picker = EndpointPicker(registry)
    calm, busy, rates = [], [], []
    for _ in range(5):
        calm.append(await _pick(picker))
        server.begin(EVENTS)
        await asyncio.sleep(0.2)
        busy.append(await _pick(picker))
        rates.append(await asyncio.to_thread(server.end))
        await asyncio.sleep(0.2)
    for task in (following, metrics):
        task.cancel()
    await asyncio.wait([following, metrics])
    await transport.close()
    return iter(
        [
            _compare(f"pick, {median(rates):.0f} pod events/s, n={PODS}", [a for a, _ in calm], [b for b, _ in busy]),
            _compare(
                f"request due to picked, {median(rates):.0f} pod events/s, n={PODS}",
                [a for _, a in calm],
                [b for _, b in busy],
            ),
        ]
    )


def _compare(name: str, calm: list[float], busy: list[float]) -> Row:
    ratio = median(b / a for a, b in zip(calm, busy, strict=True))
    return Row(
        f"{name}, p99",
        f"{median(busy):.0f} µs",
        f"no events {median(calm):.0f} µs",
        f"{ratio:.2f}",
        "<= 3 x",
        ratio <= 3,
    )


async def _observe(registry: EndpointRegistry) -> None:
    """Report the load of every endpoint once a second, as a picker that scrapes its pods sees it."""
    rng = Random(0)
    while True:
        for endpoint in registry.endpoints():
            registry.observe_metrics(endpoint, random_metrics(rng))
            await asyncio.sleep(1 / PODS)


async def _pick(picker: EndpointPicker) -> tuple[float, float]:
    """
    Pick at a steady rate; give the 99th percentiles in microseconds.

    Returns:
        Of the time that a pick took, and of the time from when a request was due to when it was picked for: what else
        the event loop did meanwhile is in the latter.
    """
    loop = asyncio.get_running_loop()
    request = InferenceRequest(model="llama")
    took, waited = [], []
    due = loop.time()
    end = due + _SECONDS
    while due < end:
        due += 1 / PICKS
        if (delay := due - loop.time()) > 0:
            await asyncio.sleep(delay)
        else:
            # Late: others may have something to do before the next request.
            await asyncio.sleep(0)
        began = loop.time()
        picker.pick(request).release()
        done = loop.time()
        took.append(done - began)
        waited.append(done - due)
    return quantiles(took, n=100)[98] * 1e6, quantiles(waited, n=100)[98] * 1e6
