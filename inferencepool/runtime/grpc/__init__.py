"""A gRPC server on asyncio and the `h2` library, in Python alone: flow control, limits, TLS and an orderly end."""

from inferencepool.runtime.grpc._call import Call, CallFactory, StoppableCall, Stream
from inferencepool.runtime.grpc._closure import Closure, Reason
from inferencepool.runtime.grpc._holdings import Holdings
from inferencepool.runtime.grpc._limits import Limits
from inferencepool.runtime.grpc._server import GrpcServer
from inferencepool.runtime.grpc._service import Statistics
from inferencepool.runtime.grpc._status import Status

__all__ = [
    "Call",
    "CallFactory",
    "Closure",
    "GrpcServer",
    "Holdings",
    "Limits",
    "Reason",
    "Statistics",
    "Status",
    "StoppableCall",
    "Stream",
]
