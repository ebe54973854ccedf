"""Bodies of the OpenAI API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from inferencepool.adapters.bodies._auxiliary import AUXILIARY_CLAIMS, read_auxiliary
from inferencepool.adapters.bodies._body import ParsedBody, Route, UsageKind
from inferencepool.adapters.bodies._decoding import Loads, loads_json
from inferencepool.adapters.bodies._fields import (
    Prompt,
    append_all,
    holds_objects,
    holds_texts,
    is_list,
    is_text,
    read_count,
    read_flag,
    read_model,
    read_prompt,
    read_salt,
)
from inferencepool.adapters.bodies._pieces import Reader, read_messages, read_object, read_text, whole_object
from inferencepool.adapters.bodies._prompt_pieces import read_input, read_kind, read_prompt_value
from inferencepool.adapters.bodies._prompts import (
    Piece,
    PromptParts,
    append_item,
    append_message,
    append_message_object,
    append_tools,
)
from inferencepool.adapters.bodies._steps import Budget, Steps, finished
from inferencepool.errors import InvalidRequestError

__all__ = ["OpenAIParser"]

_Read = Callable[[dict[str, Any]], tuple[Prompt, int | None]]

_FAILURE = "error unmarshaling request bodyMap"


class OpenAIParser:
    """
    Reads completions, chat completions, responses, conversations, embeddings and images.

    Of calls such as ``rerank``, ``tokenize`` and ``audio/transcriptions`` only the model is read. Lists of lists of
    token ids, which the OpenAI API allows and the reference refuses, are several prompts.

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
        *AUXILIARY_CLAIMS,
    )

    def __init__(self, loads: Loads = loads_json) -> None:
        self._loads = loads

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*; a claim that is not known is read as completions.

        Raises:
            InvalidRequestError: It is no JSON object, or lacks what the API demands.
        """
        if route.claim not in AUXILIARY_CLAIMS:
            document = whole_object(self._loads, body, _FAILURE)
            if document is not None:
                return _told_by(*document, route)
        return finished(self.read(body, route, Budget()))

    def read(self, body: bytes, route: Route, budget: Budget) -> Steps[ParsedBody]:
        """Do in steps what `parse` does, as far as *budget* goes; see `SteppedParser`."""
        if route.claim in AUXILIARY_CLAIMS:
            return (yield from read_auxiliary(self._loads, body, route, budget, UsageKind.OPENAI))
        _, readers = _APIS.get(route.claim, _COMPLETIONS)
        document = whole_object(self._loads, body, _FAILURE) or (
            yield from read_object(body, _MEMBERS, readers, budget, _FAILURE)
        )
        return _told_by(*document, route)


def _told_by(document: dict[str, Any], span: tuple[int, int] | None, route: Route) -> ParsedBody:
    """Give what the members of a body tell."""
    read, _ = _APIS.get(route.claim, _COMPLETIONS)
    prompt, limit = read(document)
    return ParsedBody(
        model=read_model(document),
        prompt=prompt.text,
        prompt_tokens=prompt.tokens,
        more_prompts=prompt.more,
        prompt_unread=prompt.unread,
        stream=read_flag(document.get("stream")),
        max_output_tokens=limit,
        cache_salt=read_salt(document),
        can_rewrite=True,
        needs_model=True,
        model_span=span,
        usage=UsageKind.OPENAI,
    )


def _refuse(reason: str) -> NoReturn:
    message = f"invalid {reason} field"
    raise InvalidRequestError(message)


def _read_completions(document: dict[str, Any]) -> tuple[Prompt, int | None]:
    given = document.get("prompt")
    found = read_prompt(given)
    if found is None:
        # The prompt may come as embeddings alone, which say nothing that could be compared.
        if not _is_empty(given) or not holds_texts(document.get("prompt_embeds")):
            _refuse("completions request: must have prompt")
        found = Prompt()
    return found, read_count(document.get("max_tokens"))


def _read_embeddings(document: dict[str, Any]) -> tuple[Prompt, int | None]:
    given = document.get("input")
    found = Prompt() if holds_objects(given) else read_prompt(given)
    if found is None and given is None:
        parts = PromptParts()
        if append_all(parts, document.get("messages"), append_message_object):
            found = Prompt.of(parts)
    if found is None:
        _refuse("embeddings request: must have input")
    return found, None


def _read_images(document: dict[str, Any]) -> tuple[Prompt, int | None]:
    given = document.get("prompt")
    found = read_prompt(given) if is_text(given) else None
    if found is None:
        _refuse("images generations request: must have prompt")
    return found, None


def _read_chat(document: dict[str, Any]) -> tuple[Prompt, int | None]:
    messages = document.get("messages")
    parts = PromptParts()
    append_tools(parts, document.get("tools"))
    if not append_all(parts, messages, append_message_object):
        _refuse("chat completions request: must have valid messages")
    limit = read_count(document.get("max_completion_tokens"))
    if limit is None:
        limit = read_count(document.get("max_tokens"))
    return Prompt.of(parts), limit


def _read_responses(document: dict[str, Any]) -> tuple[Prompt, int | None]:
    given = document.get("input")
    if not is_text(given) and not is_list(given) and (given is not None or not _refers(document)):
        _refuse("responses request: must have input")
    parts = PromptParts()
    append_tools(parts, document.get("tools"))
    instructions = document.get("instructions")
    if is_text(instructions):
        append_message(parts, "system", instructions)
    if is_text(given):
        append_message(parts, "user", given)
    elif given is not None:
        append_all(parts, given, _append_item)
    return Prompt.of(parts), read_count(document.get("max_output_tokens"))


def _refers(document: dict[str, Any]) -> bool:
    """Tell whether a request without an input names one that the server keeps: a template, or what was said before."""
    given = [document.get(name) for name in _REFERENCES]
    return any(isinstance(value, str | dict | Piece) and bool(value) for value in given)


def _is_empty(value: Any) -> bool:
    """Tell whether *value* is no prompt, but nothing wrong either."""
    return value is None or value in ("", []) or (isinstance(value, Piece) and value.is_text)


def _read_conversations(document: dict[str, Any]) -> tuple[Prompt, int | None]:
    items = document.get("items")
    parts = PromptParts()
    if not append_all(parts, items, _append_item):
        _refuse("conversations request: must have items")
    return Prompt.of(parts), None


def _append_item(parts: PromptParts, item: Any) -> bool:
    """Append a message or what else a conversation of the Responses API consists of; always True."""
    before = len(parts)
    # Clients send back what they got, so the id and the status of a message come and go; the model sees neither.
    if not (_is_message(item) and append_message(parts, item["role"], item.get("content"))):
        del parts[before:]
        append_item(parts, item)
    return True


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("role"), str) and item.get("type", "message") == "message"


_REFERENCES = ("prompt", "conversation", "previous_response_id")
_MEMBERS = frozenset(
    {
        *("model", "stream", "max_tokens", "max_completion_tokens", "max_output_tokens", "cache_salt"),
        *("tools", "messages", "prompt", "prompt_embeds", "input", "items", "instructions"),
        *_REFERENCES,
    }
)
_COMPLETIONS: tuple[_Read, Mapping[str, Reader]] = (
    _read_completions,
    {"prompt": read_prompt_value, "prompt_embeds": read_kind},
)
_CHAT: tuple[_Read, Mapping[str, Reader]] = _read_chat, {"messages": read_messages(append_message_object)}
_RESPONSES = {"input": read_messages(_append_item), "instructions": read_text}
_APIS: dict[str, tuple[_Read, Mapping[str, Reader]]] = {
    "chat/completions": _CHAT,
    "chat/completions/render": _CHAT,
    "embeddings": (_read_embeddings, {"input": read_input, "messages": read_messages(append_message_object)}),
    "responses": (_read_responses, _RESPONSES),
    "conversations": (_read_conversations, {"items": read_messages(_append_item)}),
    "images/generations": (_read_images, {"prompt": read_text}),
}
