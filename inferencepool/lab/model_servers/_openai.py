"""The shapes of the OpenAI API that a simulated model server speaks: bodies in, documents out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from inferencepool.errors import InvalidRequestError
from inferencepool.lab.model_servers._engine import BYTES_PER_TOKEN
from inferencepool.prefix import token_bytes

__all__ = ["Answer", "Inquiry", "error_document", "models_document", "read_inquiry", "write_text"]

# What an image or a sound costs, whatever its size.
_TOKENS_PER_ATTACHMENT = 256

_WORDS = (
    *("Here", "is", "a", "simulated", "answer", ":"),
    *("it", "is", "made", "of", "words", "that", "mean", "nothing", ",", "one", "for", "each", "token", ","),
    *("and", "begins", "again", "when", "they", "are", "used", "up", "."),
)


@attrs.frozen(kw_only=True)
class Inquiry:
    """
    What a body asks for.

    Attributes:
        chat: Whether it came to the chat API.
        model: The model or adapter.
        prompt: The prompt, with `BYTES_PER_TOKEN` for each token.
        max_tokens: Most tokens of the answer; None for no limit.
        min_tokens: Fewest tokens of the answer.
        ignore_eos: Whether the answer goes on to its limit.
        stream: Whether it wants events.
        include_usage: Whether the last event is to tell the usage.
    """

    chat: bool
    model: str
    prompt: bytes = attrs.field(repr=False)
    max_tokens: int | None = None
    min_tokens: int = 0
    ignore_eos: bool = False
    stream: bool = False
    include_usage: bool = False

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, about one token for four bytes; 1 or more."""
        return max(1, len(self.prompt) // BYTES_PER_TOKEN)


def read_inquiry(body: bytes, *, chat: bool) -> Inquiry:
    """
    Read the body of a request.

    Args:
        body: JSON.
        chat: Whether it came to the chat API.

    Raises:
        InvalidRequestError: It is not JSON, a field has the wrong kind, or it asks for several answers at once, which
            the simulator cannot give.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        message = f"the body is not JSON: {error}"
        raise InvalidRequestError(message) from None
    if not isinstance(document, dict):
        message = "the body is not a JSON object"
        raise InvalidRequestError(message)
    if _field(document, "n", int, 1) != 1:
        raise _refusal(document["n"], "n", "1: the simulator writes one answer")
    limit = _field(document, "max_completion_tokens", int, None) if chat else None
    limit = _field(document, "max_tokens", int, None) if limit is None else limit
    if limit is not None and limit < 1:
        raise _refusal(limit, "max_tokens", "1 or more")
    options = _field(document, "stream_options", dict, {})
    return Inquiry(
        chat=chat,
        model=_field(document, "model", str, ...),
        prompt=_chat_prompt(document) if chat else _prompt(document),
        max_tokens=limit,
        min_tokens=_field(document, "min_tokens", int, 0),
        ignore_eos=_field(document, "ignore_eos", bool, False),
        stream=_field(document, "stream", bool, False),
        include_usage=_field(options, "include_usage", bool, False),
    )


def _field(document: Mapping[str, Any], name: str, kind: type, default: Any) -> Any:
    """Give a field, which may be null where it has a default; an ellipsis stands for none."""
    value = document.get(name)
    if value is None and default is not ...:
        return default
    # A bool is an int for Python, and not for JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _refusal(value, name, f"of type {kind.__name__}")
    return value


def _refusal(value: object, name: str, allowed: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name}: {str(value)[:80]!r} is not {allowed}")


def _prompt(document: Mapping[str, Any]) -> bytes:
    prompt = document.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return _tokens_of(prompt)
    if isinstance(prompt, list) and all(type(token) is int for token in prompt):
        return token_bytes(prompt)
    raise _refusal(prompt, "prompt", "one string or one list of token ids")


def _chat_prompt(document: Mapping[str, Any]) -> bytes:
    messages = _field(document, "messages", list, ...)
    if not messages:
        raise _refusal(messages, "messages", "a list of one message or more")
    return b"".join(_message(message, f"messages[{index}]") for index, message in enumerate(messages))


def _message(message: object, path: str) -> bytes:
    if not isinstance(message, dict):
        raise _refusal(message, path, "an object")
    content = message.get("content")
    if content is None:
        return b""
    if isinstance(content, str):
        return _tokens_of(content)
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise _refusal(content, f"{path}.content", "a string or a list of objects")
    return b"".join(
        _tokens_of(part["text"]) if isinstance(part.get("text"), str) else _attachment(part) for part in content
    )


def _tokens_of(text: str) -> bytes:
    # JSON may hold half of a surrogate pair, which UTF-8 cannot say.
    data = text.encode("utf-8", "surrogatepass")
    return data + bytes(-len(data) % BYTES_PER_TOKEN)


def _attachment(part: Mapping[str, Any]) -> bytes:
    """Stand for an image or a sound: the same one has the same tokens."""
    digest = hashlib.sha256(json.dumps(part, sort_keys=True).encode()).digest()
    return digest * (_TOKENS_PER_ATTACHMENT * BYTES_PER_TOKEN // len(digest))


def write_text(start: int, end: int) -> str:
    """Write the tokens *start* to *end* of an answer."""
    return "".join(f"{' ' if index else ''}{_WORDS[index % len(_WORDS)]}" for index in range(start, end))


@attrs.frozen(kw_only=True)
class Answer:
    """
    The frame of one answer: what its documents have in common.

    Attributes:
        id: Its identity, with the prefix of its API.
        inquiry: What was asked.
        created: Unix time in whole seconds.
        finish_reason: Why it ends: ``stop`` or ``length``.
    """

    id: str
    inquiry: Inquiry
    created: int
    finish_reason: str

    def document(self, written: int, cached: int) -> dict[str, Any]:
        """Give the whole answer of *written* tokens, to a prompt of which *cached* tokens were remembered."""
        text = write_text(0, written)
        content = {"message": {"role": "assistant", "content": text}} if self.inquiry.chat else {"text": text}
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": self.finish_reason}
        kind = "chat.completion" if self.inquiry.chat else "text_completion"
        return self._frame(kind, [choice]) | {"usage": self._usage(written, cached)}

    def first_chunk(self) -> dict[str, Any] | None:
        """Give what goes before the first token, which the chat API only has."""
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None) if self.inquiry.chat else None

    def chunk(self, start: int, end: int, *, last: bool) -> dict[str, Any]:
        """Give the event with the tokens *start* to *end*."""
        text = write_text(start, end)
        content = {"delta": {"content": text}} if self.inquiry.chat else {"text": text}
        return self._chunk(content, self.finish_reason if last else None)

    def usage_chunk(self, written: int, cached: int) -> dict[str, Any]:
        """Give the event that tells the usage."""
        return self._frame(self._chunk_kind, []) | {"usage": self._usage(written, cached)}

    @property
    def _chunk_kind(self) -> str:
        return "chat.completion.chunk" if self.inquiry.chat else "text_completion"

    def _chunk(self, content: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, **content, "logprobs": None, "finish_reason": finish_reason}
        return self._frame(self._chunk_kind, [choice])

    def _frame(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        model = self.inquiry.model
        return {"id": self.id, "object": kind, "created": self.created, "model": model, "choices": choices}

    def _usage(self, written: int, cached: int) -> dict[str, Any]:
        prompt = self.inquiry.prompt_tokens
        return {
            "prompt_tokens": prompt,
            "completion_tokens": written,
            "total_tokens": prompt + written,
            "prompt_tokens_details": {"cached_tokens": cached},
        }


def models_document(names: Mapping[str, str | None], created: int) -> dict[str, Any]:
    """List the models: *names* with the model that each is an adapter of, or None."""
    return {
        "object": "list",
        "data": [
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "inferencepool",
                "root": name,
                "parent": parent,
            }
            for name, parent in names.items()
        ],
    }


def error_document(status: int, message: str) -> dict[str, Any]:
    """Write an error."""
    kinds = {400: "BadRequestError", 404: "NotFoundError", 413: "RequestEntityTooLargeError"}
    kind = kinds.get(status, "InternalServerError" if status >= 500 else "APIError")  # noqa: PLR2004 - HTTP's classes
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}
