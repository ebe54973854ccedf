"""Bodies of the Anthropic API."""

from __future__ import annotations

from typing import Any

from inferencepool.adapters.bodies._body import ParsedBody, Route, UsageKind
from inferencepool.adapters.bodies._decoding import Loads, decode_object, loads_json
from inferencepool.adapters.bodies._fields import read_count, read_model, read_salt
from inferencepool.adapters.bodies._prompts import append_message, append_tools
from inferencepool.errors import InvalidRequestError

__all__ = ["AnthropicParser"]

_COUNT_TOKENS = "messages/count_tokens"


class AnthropicParser:
    """
    Reads messages. A call that counts tokens is passed on as it is: nothing of it is read.

    Args:
        loads: Reads JSON text.
    """

    name = "anthropic-parser"
    claims = ("messages", _COUNT_TOKENS)

    def __init__(self, loads: Loads = loads_json) -> None:
        self._loads = loads

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*.

        Raises:
            InvalidRequestError: It is no JSON object, or has no messages.
        """
        if route.claim == _COUNT_TOKENS:
            return ParsedBody(reads_response=False)
        document = decode_object(self._loads, body, "error unmarshaling request body")
        parts: list[bytes] = []
        append_tools(parts, document.get("tools"))
        _append_system(parts, document.get("system"))
        _append_messages(parts, document.get("messages"))
        return ParsedBody(
            model=read_model(document),
            prompt=b"".join(parts),
            stream=document.get("stream") is True,
            max_output_tokens=read_count(document.get("max_tokens")),
            cache_salt=read_salt(document),
            can_rewrite=True,
            usage=UsageKind.ANTHROPIC,
        )


def _append_system(parts: list[bytes], system: Any) -> None:
    if system is not None and not append_message(parts, "system", system):
        message = "error parsing messages request: system must be a string or a list of objects"
        raise InvalidRequestError(message)


def _append_messages(parts: list[bytes], messages: Any) -> None:
    if messages is None or messages == []:
        message = "invalid messages request: must have at least one message"
        raise InvalidRequestError(message)
    if not isinstance(messages, list):
        message = "error parsing messages request: messages must be a list"
        raise InvalidRequestError(message)
    for index, item in enumerate(messages):
        role = item.get("role", "") if isinstance(item, dict) else None
        if not isinstance(role, str) or not append_message(parts, role, item.get("content"), item):
            message = (
                f"error parsing messages request: messages[{index}] must be an object with a role and a content "
                "that is a string or a list of objects"
            )
            raise InvalidRequestError(message)
