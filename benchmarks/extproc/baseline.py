"""
The baseline: an ext_proc server on grpc.aio that reads nothing and always gives the same answer.

Run as ``python -m benchmarks.extproc.baseline DESTINATION``. Bodies are handed back with the least work that keeps full
duplex correct. Prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import grpc.aio  # type: ignore[import-untyped]  # as above

from inferencepool.adapters.extproc import (
    RequestBody,
    RequestHeadersAnswer,
    ResponseBody,
    ResponseHeadersAnswer,
    ResponseTrailersAnswer,
    Routing,
    StreamedRequestBody,
    StreamedResponseBody,
    decode,
    encode,
)

# Tags of ProcessingRequest's fields, and the end_of_stream that is the last field of a body.
_RESPONSE_HEADERS, _REQUEST_BODY, _RESPONSE_BODY, _RESPONSE_TRAILERS = 0x1A, 0x22, 0x2A, 0x3A
_END = b"\x10\x01"


class _Service:
    def __init__(self, destination: str) -> None:
        self._picked = encode(RequestHeadersAnswer(Routing(destination)))
        self._response_headers = encode(ResponseHeadersAnswer())
        self._response_trailers = encode(ResponseTrailersAnswer())
        self._bodies: dict[bytes, bytes] = {}

    async def process(self, messages: AsyncIterator[bytes], _: object) -> AsyncIterator[bytes]:
        picked = False
        async for message in messages:
            kind = message[0]
            if kind == _REQUEST_BODY:
                if not picked:
                    picked = True
                    yield self._picked
                yield self._echo(message)
            elif kind == _RESPONSE_BODY:
                yield self._echo(message)
            elif kind == _RESPONSE_HEADERS:
                yield self._response_headers
            elif kind == _RESPONSE_TRAILERS:
                yield self._response_trailers

    def _echo(self, message: bytes) -> bytes:
        """Hand a body back; what was answered once to the same bytes is answered again."""
        answer = self._bodies.get(message)
        if answer is None:
            found = decode(message)
            if isinstance(found, RequestBody):
                answer = encode(StreamedRequestBody(found.body, found.end_of_stream))
            elif isinstance(found, ResponseBody):
                answer = encode(StreamedResponseBody(found.body, found.end_of_stream))
            else:
                raise TypeError(found)
            if len(self._bodies) < 1000:
                self._bodies[message] = answer
        return answer


async def _serve(destination: str) -> None:
    service = _Service(destination)
    handler = grpc.stream_stream_rpc_method_handler(service.process)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": handler}),)
    )
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
