"""Bodies of the Anthropic API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import attrs

from inferencepool.adapters.bodies._auxiliary import read_auxiliary
from inferencepool.adapters.bodies._body import ParsedBody, Route, UsageKind
from inferencepool.adapters.bodies._decoding import Loads, loads_json
from inferencepool.adapters.bodies._fields import Prompt, is_list, read_count, read_flag, read_model, read_salt
from inferencepool.adapters.bodies._pieces import Reader, read_content, read_messages, read_object, whole_object
from inferencepool.adapters.bodies._prompts import (
    Piece,
    PromptParts,
    append_message,
    append_message_object,
    append_tools,
)
from inferencepool.adapters.bodies._steps import Budget, Steps, finished
from inferencepool.errors import InvalidRequestError

__all__ = ["AnthropicParser"]

_COUNT_TOKENS = "messages/count_tokens"


class AnthropicParser:
    """
    Reads messages. Of a call that counts tokens only the model is read, and of its response nothing.

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
        return finished(self.read(body, route, Budget()))

    def read(self, body: bytes, route: Route, budget: Budget) -> Steps[ParsedBody]:
        """Do in steps what `parse` does, as far as *budget* goes; see `SteppedParser`."""
        if route.claim == _COUNT_TOKENS:
            counted = yield from read_auxiliary(self._loads, body, route, budget, UsageKind.NONE)
            return attrs.evolve(counted, reads_response=False)
        document, span = whole_object(self._loads, body, _FAILURE) or (
            yield from read_object(body, _MEMBERS, _READERS, budget, _FAILURE)
        )
        parts = PromptParts()
        append_tools(parts, document.get("tools"))
        _append_system(parts, document.get("system"))
        _append_messages(parts, document.get("messages"))
        prompt = Prompt.of(parts)
        return ParsedBody(
            model=read_model(document),
            prompt=prompt.text,
            prompt_unread=prompt.unread,
            stream=read_flag(document.get("stream")),
            max_output_tokens=read_count(document.get("max_tokens")),
            cache_salt=read_salt(document),
            can_rewrite=True,
            needs_model=True,
            model_span=span,
            usage=UsageKind.ANTHROPIC,
        )


def _append_system(parts: PromptParts, system: Any) -> None:
    if system is not None and not append_message(parts, "system", system):
        message = "error parsing messages request: system must be a string or a list of parts"
        raise InvalidRequestError(message)


def _append_messages(parts: PromptParts, messages: Any) -> None:
    if messages is None or messages == [] or (isinstance(messages, Piece) and messages.is_list and not messages.count):
        message = "invalid messages request: must have at least one message"
        raise InvalidRequestError(message)
    if not is_list(messages):
        message = "error parsing messages request: messages must be a list"
        raise InvalidRequestError(message)
    if isinstance(messages, Piece):
        if not messages.is_valid:
            _refuse_message(messages.count - 1)
        parts.add(messages)
        return
    for index, item in enumerate(messages):
        if not append_message_object(parts, item):
            _refuse_message(index)


def _refuse_message(index: int) -> NoReturn:
    message = (
        f"error parsing messages request: messages[{index}] must be an object with a role and a content "
        "that is a string or a list of parts"
    )
    raise InvalidRequestError(message)


_FAILURE = "error unmarshaling request body"
_MEMBERS = frozenset({"model", "stream", "max_tokens", "cache_salt", "tools", "system", "messages"})
_READERS: Mapping[str, Reader] = {"system": read_content, "messages": read_messages(append_message_object)}
