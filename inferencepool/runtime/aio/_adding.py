"""Adding routes to a `grpc.aio.Server`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.runtime.aio._exchange import Exchange
from inferencepool.runtime.aio._handling import Handling
from inferencepool.runtime.grpc import CallFactory, Holdings

if TYPE_CHECKING:
    import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types

__all__ = ["add_to_grpc_aio_server"]

_LOGGER = logging.getLogger(__name__)
_DEFAULT_QUEUED_BYTES = 64 * 1024 * 1024
_DEFAULT_HELD_BYTES = 512 * 1024 * 1024


def _log(error: Exception) -> None:
    _LOGGER.error("a call failed", exc_info=error)


def add_to_grpc_aio_server(
    server: grpc.aio.Server,
    routes: Mapping[str, CallFactory],
    *,
    queued_bytes: int = _DEFAULT_QUEUED_BYTES,
    held_bytes: int = _DEFAULT_HELD_BYTES,
    on_error: Callable[[Exception], None] = _log,
) -> None:
    """
    Add *routes* to *server*, which must not have been started.

    Calls see what they see on a `GrpcServer`, with these differences, which are grpcio's:

    - Of the pseudo headers only ``:path`` and ``:method`` are in `Stream.headers`.
    - A client that resets the RPC, a lost connection, a deadline that passes and a server that stops look the same: the
      reason is RESET, without a code.
    - A half-close that comes together with a reset is not told; one that comes alone is told after 5 ms, because grpcio
      announces a reset like a half-close.
    - An RPC with too many answers waiting (OVERFLOW) is over for the call at once. The client learns it by
      RESOURCE_EXHAUSTED after the message that was being sent, because grpcio cannot break a message off.

    Args:
        server: The server; its options limit the size of messages, and its ports are its owner's.
        routes: Call factories by path, such as those of `health_routes`.
        queued_bytes: Answers of one RPC that may wait for the client. Beyond half of it, nothing more is read from that
            client; beyond the whole, the RPC ends.
        held_bytes: What all calls together may hold for requests that are not whole; beyond it `Stream.hold` says no.
        on_error: Told of every exception of a call; it must not raise. The RPC has ended with INTERNAL then. Without
            it, errors are logged.

    Raises:
        ConfigurationError: *queued_bytes* or *held_bytes* is not a whole number above 0, or a path does not look like
            ``/package.Service/Method``.
        MissingExtraError: grpcio is not installed.
    """
    try:
        import grpc.aio  # noqa: PLC0415 - not every user has it
    except ImportError:
        message = "adding to a grpc.aio server needs grpcio: pip install grpcio"
        raise MissingExtraError(message) from None
    for name, size in (("queued_bytes", queued_bytes), ("held_bytes", held_bytes)):
        if type(size) is not int or size < 1:
            message = f"grpc.aio server: {name}: {size!r} is not a whole number above 0"
            raise ConfigurationError(message)
    for path in routes:
        if not path.startswith("/") or path.count("/") != 2:  # noqa: PLR2004 - service and method
            message = f"grpc.aio server: routes: {path!r} does not look like /package.Service/Method"
            raise ConfigurationError(message)

    # Streaming in both directions covers the three other kinds, and without serializers messages stay bytes.
    holdings = Holdings(held_bytes)
    handlers = {
        path: grpc.stream_stream_rpc_method_handler(
            _make_handler(
                grpc, factory, lambda path, metadata: Exchange(path, metadata, queued_bytes, holdings, on_error), path
            )
        )
        for path, factory in routes.items()
    }

    class Routes(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio ships no types
        def service(self, handler_call_details: Any) -> Any:
            return handlers.get(handler_call_details.method)

    server.add_generic_rpc_handlers((Routes(),))


def _make_handler(
    grpc_: ModuleType, factory: CallFactory, make: Callable[[str, Any], Exchange], path: str
) -> Callable[[Any, Any], Any]:
    async def handle(_requests: Any, context: Any) -> None:
        await Handling(grpc_, context, make(path, context.invocation_metadata() or ())).run(factory)

    return handle
