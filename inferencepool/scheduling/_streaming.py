"""The chunks of a response, which end the result of its pick."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Protocol, TypeVar

__all__ = ["streamed", "streamed_async"]

_T = TypeVar("_T")


class _Result(Protocol):
    def started(self) -> None: ...
    def release(self) -> None: ...
    def failed(self, reason: str) -> None: ...
    def cancelled(self) -> None: ...


def streamed(result: _Result, chunks: Iterable[_T]) -> Iterator[_T]:
    """Give *chunks*, and tell *result* what becomes of them."""
    following = iter(chunks)
    try:
        while True:
            try:
                chunk = next(following)
            except StopIteration:
                result.release()
                return
            except Exception as error:
                result.failed(type(error).__name__)
                raise
            result.started()
            yield chunk
    finally:
        # Whoever takes the chunks has left, where nothing else was told before.
        result.cancelled()


async def streamed_async(result: _Result, chunks: AsyncIterable[_T]) -> AsyncIterator[_T]:
    """Do the same for chunks that are awaited."""
    following = aiter(chunks)
    try:
        while True:
            try:
                chunk = await anext(following)
            except StopAsyncIteration:
                result.release()
                return
            except Exception as error:
                result.failed(type(error).__name__)
                raise
            result.started()
            yield chunk
    finally:
        result.cancelled()
