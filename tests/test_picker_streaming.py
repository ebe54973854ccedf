"""The chunks of a response end the result of its pick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from inferencepool import Endpoint, EndpointPicker, EndpointRegistry, InferenceRequest, PickResult


def _pick() -> tuple[EndpointPicker, PickResult]:
    registry = EndpointRegistry()
    registry.set_endpoints([Endpoint(namespace="default", pod_name="a", address="192.0.2.1", port=8000)])
    picker = EndpointPicker(registry)
    return picker, picker.pick(InferenceRequest(model="m"))


def _chunks(*, breaks: bool = False) -> Iterator[bytes]:
    yield b"a"
    yield b"b"
    if breaks:
        raise ConnectionResetError


async def _awaited(*, breaks: bool = False) -> AsyncIterator[bytes]:
    for chunk in _chunks(breaks=breaks):
        await asyncio.sleep(0)
        yield chunk


async def _take(result: PickResult, kind: str, count: int, *, breaks: bool = False) -> list[bytes]:
    """Take so many chunks of a response and leave."""
    taken = []
    if kind == "awaited":
        following = result.stream(_awaited(breaks=breaks))
        async for chunk in following:
            taken.append(chunk)
            if len(taken) == count:
                await following.aclose()  # type: ignore[attr-defined]  # it is a generator
                break
        return taken
    chunks = result.stream(_chunks(breaks=breaks))
    for chunk in chunks:
        taken.append(chunk)
        if len(taken) == count:
            chunks.close()  # type: ignore[attr-defined]  # as above
            break
    return taken


@pytest.fixture(params=["plain", "awaited"], name="kind")
def _kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class TestStream:
    def test_the_end_releases(self, kind: str) -> None:
        """Whoever takes all chunks need not release, and the load counts until then."""
        picker, result = _pick()

        assert [b"a", b"b"] == asyncio.run(_take(result, kind, 3))
        assert result.released
        assert result.has_started
        assert 0 == picker.statistics().in_flight
        assert not picker.registry.health.ejections()

    def test_a_break_is_the_endpoints_failure(self, kind: str) -> None:
        """What the server's side raises goes on to the caller and is told of the endpoint."""
        picker, _ = _pick()
        for _ in range(5):
            with pytest.raises(ConnectionResetError):
                asyncio.run(_take(picker.pick(InferenceRequest(model="m")), kind, 3, breaks=True))

        ((_, ejection),) = picker.registry.health.ejections()
        assert "consecutive-gateway-failure" == ejection.reason

    def test_a_client_that_leaves_says_nothing(self, kind: str) -> None:
        """A generator that is closed takes the load back."""
        picker, result = _pick()

        assert [b"a"] == asyncio.run(_take(result, kind, 1))
        assert result.released
        assert 0 == picker.statistics().in_flight

    def test_a_cancelled_task_says_nothing(self) -> None:
        """So does one whose task is cancelled while it waits for the server."""
        picker, result = _pick()

        async def never() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.Event().wait()

        async def run() -> None:
            async def take() -> None:
                async for _ in result.stream(never()):
                    pass

            task = asyncio.create_task(take())
            while not result.has_started:  # noqa: ASYNC110 - nothing tells it
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(run())
        assert result.released
        assert not picker.registry.health.ejections()
