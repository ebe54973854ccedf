"""Endpoint pickers that do what a test tells them to, on the server of grpcio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, final

import grpc.aio  # type: ignore[import-untyped]  # grpcio ships no types

from inferencepool.gateway import HostPort
from inferencepool.runtime.extproc import EXT_PROC_SERVICE
from tests.adapters.extproc.oracle import OVERWRITE_IF_EXISTS_OR_ADD, parse_request, parse_response
from tests.gateways.front import DESTINATION

__all__ = ["Told", "picker_that"]

_MESSAGES: Final = [("grpc.max_receive_message_length", -1)]


@final
class Told:
    """
    One stream, from the side of the picker.

    Attributes:
        heard: What the gateway said so far.
    """

    def __init__(self, context: Any) -> None:
        self.heard: list[Any] = []
        self._context = context

    async def hear(self) -> Any:
        """Wait for what the gateway says next; None at the end."""
        data = await self._context.read()
        if data is grpc.aio.EOF:
            return None
        self.heard.append(parse_request(data))
        return self.heard[-1]

    async def request(self) -> bytes:
        """Wait for the whole request; give its body."""
        body: bytes = b""
        while True:
            message = await self.hear()
            assert message is not None
            if message.WhichOneof("kind") == "request_body":
                body += message.request_body.body
                if message.request_body.end_of_stream:
                    return body
            elif message.request_headers.end_of_stream:
                return body

    async def say(self, **parts: Any) -> None:
        """Answer; *parts* are fields of ``ProcessingResponse`` as dictionaries."""
        answer = parse_response(b"")
        for name, fields in parts.items():
            part = getattr(answer, name)
            part.SetInParent()
            _fill(part, fields)
        await self._context.write(answer.SerializeToString())

    async def send_to(self, address: str, body: bytes = b"", **headers: str) -> None:
        """Say where the request goes, and hand its body back."""
        await self.say(request_headers={"response": {"header_mutation": _to_set({**headers, DESTINATION: address})}})
        if body:
            await self.hand_back("request_body", body, end_of_stream=True)

    async def refuse(self, status: int, body: bytes, **headers: str) -> None:
        """Let the gateway answer the client."""
        await self.say(immediate_response={"status": {"code": status}, "body": body, "headers": _to_set(headers)})

    async def hand_back(self, kind: str, body: bytes, *, end_of_stream: bool = False) -> None:
        """Hand a chunk of a body back."""
        chunk = {"streamed_response": {"body": body, "end_of_stream": end_of_stream}}
        await self.say(**{kind: {"response": {"body_mutation": chunk}}})


def _to_set(headers: dict[str, str]) -> dict[str, Any]:
    options = [
        {
            "header": {"key": name.replace("_", "-").encode(), "raw_value": value.encode()},
            "append_action": OVERWRITE_IF_EXISTS_OR_ADD,
        }
        for name, value in headers.items()
    ]
    return {"set_headers": options}


def _fill(message: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if isinstance(value, dict):
            getattr(message, name).SetInParent()
            _fill(getattr(message, name), value)
        elif isinstance(value, list):
            for each in value:
                _fill(getattr(message, name).add(), each)
        else:
            setattr(message, name, value)


@asynccontextmanager
async def picker_that(behaves: Callable[[Told], Awaitable[None]]) -> AsyncIterator[HostPort]:
    """Run a picker each of whose streams goes as *behaves* says, and ends with status OK when that returns."""

    async def process(_: Any, context: Any) -> None:
        await behaves(Told(context))

    handlers = {"Process": grpc.stream_stream_rpc_method_handler(process)}
    server = grpc.aio.server(options=_MESSAGES)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(EXT_PROC_SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield HostPort("127.0.0.1", port)
    finally:
        await server.stop(0)
