"""Bodies of the OpenAI API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from inferencepool.adapters.bodies._body import ParsedBody, Route, UsageKind
from inferencepool.adapters.bodies._decoding import Loads, decode_object, loads_json
from inferencepool.adapters.bodies._fields import read_count, read_model, read_prompt, read_salt
from inferencepool.adapters.bodies._prompts import append_item, append_message, append_tools, encode_text
from inferencepool.errors import InvalidRequestError

__all__ = ["OpenAIParser"]

_Read = Callable[[dict[str, Any]], tuple[bytes, Sequence[int] | None, int | None]]


class OpenAIParser:
    """
    Reads completions, chat completions, responses, conversations, embeddings and images.

    A list of lists of token ids, which the OpenAI API allows and the reference refuses, is read as one list.

    Args:
        loads: Reads JSON text.
    """

    name = "openai-parser"
    claims = (
        "chat/completions",
        "completions",
        "embeddings",
        "responses",
        "conversations",
        "chat/completions/render",
        "completions/render",
        "images/generations",
    )

    def __init__(self, loads: Loads = loads_json) -> None:
        self._loads = loads

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*; a claim that is not known is read as completions.

        Raises:
            InvalidRequestError: It is no JSON object, or lacks what the API demands.
        """
        document = decode_object(self._loads, body, "error unmarshaling request bodyMap")
        prompt, tokens, limit = _READERS.get(route.claim, _read_completions)(document)
        return ParsedBody(
            model=read_model(document),
            prompt=prompt,
            prompt_tokens=tokens,
            stream=document.get("stream") is True,
            max_output_tokens=limit,
            cache_salt=read_salt(document),
            can_rewrite=True,
            usage=UsageKind.OPENAI,
        )


def _refuse(reason: str) -> NoReturn:
    message = f"invalid {reason} field"
    raise InvalidRequestError(message)


def _read_completions(document: dict[str, Any]) -> tuple[bytes, Sequence[int] | None, int | None]:
    found = read_prompt(document.get("prompt"))
    if found is None:
        _refuse("completions request: must have prompt")
    return *found, read_count(document.get("max_tokens"))


def _read_embeddings(document: dict[str, Any]) -> tuple[bytes, Sequence[int] | None, int | None]:
    found = read_prompt(document.get("input"))
    if found is None:
        _refuse("embeddings request: must have input")
    return *found, None


def _read_images(document: dict[str, Any]) -> tuple[bytes, Sequence[int] | None, int | None]:
    prompt = document.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        _refuse("images generations request: must have prompt")
    return encode_text(prompt), None, None


def _read_chat(document: dict[str, Any]) -> tuple[bytes, Sequence[int] | None, int | None]:
    messages = document.get("messages")
    parts: list[bytes] = []
    append_tools(parts, document.get("tools"))
    if not isinstance(messages, list) or not messages or not all(_append_chat(parts, message) for message in messages):
        _refuse("chat completions request: must have valid messages")
    limit = read_count(document.get("max_completion_tokens"))
    if limit is None:
        limit = read_count(document.get("max_tokens"))
    return b"".join(parts), None, limit


def _append_chat(parts: list[bytes], message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    role = message.get("role", "")
    return isinstance(role, str) and append_message(parts, role, message.get("content"), message)


def _read_responses(document: dict[str, Any]) -> tuple[bytes, Sequence[int] | None, int | None]:
    given = document.get("input")
    if not isinstance(given, str | list):
        _refuse("responses request: must have input")
    parts: list[bytes] = []
    append_tools(parts, document.get("tools"))
    instructions = document.get("instructions")
    if isinstance(instructions, str):
        append_message(parts, "system", instructions)
    if isinstance(given, str):
        append_message(parts, "user", given)
    else:
        _append_items(parts, given)
    return b"".join(parts), None, read_count(document.get("max_output_tokens"))


def _read_conversations(document: dict[str, Any]) -> tuple[bytes, Sequence[int] | None, int | None]:
    items = document.get("items")
    if not isinstance(items, list) or not items:
        _refuse("conversations request: must have items")
    parts: list[bytes] = []
    _append_items(parts, items)
    return b"".join(parts), None, None


def _append_items(parts: list[bytes], items: list[Any]) -> None:
    """Append messages and what else a conversation of the Responses API consists of."""
    for item in items:
        before = len(parts)
        # Clients send back what they got, so the id and the status of a message come and go; the model sees neither.
        if not (_is_message(item) and append_message(parts, item["role"], item.get("content"))):
            del parts[before:]
            append_item(parts, item)


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("role"), str) and item.get("type", "message") == "message"


_READERS: dict[str, _Read] = {
    "chat/completions": _read_chat,
    "chat/completions/render": _read_chat,
    "embeddings": _read_embeddings,
    "responses": _read_responses,
    "conversations": _read_conversations,
    "images/generations": _read_images,
}
