"""The calls of the health service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

from inferencepool.errors import InvalidMessageError
from inferencepool.runtime.grpc import CallFactory, Closure, Status, Stream
from inferencepool.runtime.health._health import Health
from inferencepool.runtime.health._wire import ServingStatus, decode_request, encode_list, encode_status

__all__ = ["health_routes"]

_SERVICE = "/grpc.health.v1.Health/"
# Of a name that a client made up, in the text of a status.
_MAX_SHOWN = 100


def health_routes(health: Health) -> Mapping[str, CallFactory]:
    """
    Give the routes of the health service, by path, for a `GrpcServer` or for `add_to_grpc_aio_server`.

    Check and List answer once. Watch sends the present status and then every change, each status once in a row, until
    the client goes or `Health.close` is called; then it ends with UNAVAILABLE, upon which clients try again elsewhere.

    Args:
        health: What they tell; its conditions may be set from any thread.
    """
    return {
        f"{_SERVICE}Check": partial(_Check, health),
        f"{_SERVICE}Watch": partial(_Watch, health),
        f"{_SERVICE}List": partial(_List, health),
    }


class _OneRequest:
    """A call with one request. It is answered when it arrives: to wait for the end of the sending would win nothing."""

    def __init__(self, health: Health, stream: Stream) -> None:
        self._health = health
        self._stream = stream
        self._asked = False

    def message(self, data: bytes) -> None:
        if self._asked:
            self._stream.end(Status.UNIMPLEMENTED, "more than one request")
            return
        self._asked = True
        try:
            self._answer(data)
        except InvalidMessageError as error:
            self._stream.end(Status.INTERNAL, str(error))

    def half_closed(self) -> None:
        if not self._asked:
            self._stream.end(Status.UNIMPLEMENTED, "no request")

    def closed(self, closure: Closure) -> None:
        """Nothing is held."""

    def _answer(self, request: bytes) -> None:
        raise NotImplementedError


class _Check(_OneRequest):
    def _answer(self, request: bytes) -> None:
        service = decode_request(request)
        status = self._health.status(service)
        if status is ServingStatus.SERVICE_UNKNOWN:
            self._stream.end(Status.NOT_FOUND, f"unknown service {service[:_MAX_SHOWN]!a}")
        else:
            self._stream.send(encode_status(status))
            self._stream.end()


class _List(_OneRequest):
    def _answer(self, request: bytes) -> None:
        # The request has no fields; reading it finds bytes that are no message.
        decode_request(request)
        self._stream.send(encode_list(self._health.statuses()))
        self._stream.end()


class _Watch(_OneRequest):
    def __init__(self, health: Health, stream: Stream) -> None:
        super().__init__(health, stream)
        self._loop = asyncio.get_running_loop()
        self._stop: Callable[[], None] | None = None

    def closed(self, closure: Closure) -> None:  # noqa: ARG002 - whatever the reason
        if self._stop is not None:
            self._stop()

    def _answer(self, request: bytes) -> None:
        self._stop = self._health.watch(decode_request(request), self._change, self._close)

    # These two are called by any thread; the event loop keeps their order.
    def _change(self, status: ServingStatus) -> None:
        self._hand_over(partial(self._stream.send, encode_status(status)))

    def _close(self) -> None:
        self._hand_over(partial(self._stream.end, Status.UNAVAILABLE, "the server shuts down"))

    def _hand_over(self, act: Callable[[], None]) -> None:
        # A loop that is closed has lost its connections, too; whoever sets a condition cannot help that.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act)
