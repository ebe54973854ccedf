"""The calls of this library's services on a server of grpcio that somebody else owns."""

from inferencepool.runtime.aio._adding import add_to_grpc_aio_server

__all__ = ["add_to_grpc_aio_server"]
