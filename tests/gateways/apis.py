"""One request to each API that model servers have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import attrs

__all__ = ["APIS", "MODEL", "Api"]

MODEL: Final = "llama-3"
_QUESTION: Final = [{"role": "user", "content": "What is a pool?"}]
_BOUNDARY: Final = "a-boundary"


@attrs.frozen
class Api:
    """
    A request.

    Attributes:
        name: What it is called.
        path: Where it goes.
        body: Its body; None where it has none.
        method: Its method.
        content_type: Of the body.
        model: The model that a picker finds in it; None where that is up to the picker.
        is_streamed: Whether it is answered by events.
    """

    name: str
    path: str
    body: bytes | None = None
    method: str = "POST"
    content_type: str = "application/json"
    model: str | None = None
    is_streamed: bool = False

    @property
    def headers(self) -> Mapping[str, str]:
        """Give its headers."""
        return {} if self.body is None else {"content-type": self.content_type}


def _json(name: str, path: str, *, model: str | None = MODEL, **fields: Any) -> Api:
    body = json.dumps({"model": MODEL, **fields}).encode()
    return Api(name, path, body, model=model, is_streamed=fields.get("stream", False))


def _transcription(size: int) -> bytes:
    """Make a form with a model and a file of *size* bytes, which are no text."""
    parts = (
        b'--%s\r\ncontent-disposition: form-data; name="model"\r\n\r\n%s\r\n',
        b'--%s\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%s\r\n',
    )
    boundary = _BOUNDARY.encode()
    values = (MODEL.encode(), Random(0).randbytes(size))
    return b"".join(part % (boundary, value) for part, value in zip(parts, values, strict=True)) + (
        b"--%s--\r\n" % boundary
    )


#: Each API, streamed and not where it has both, and what is no API of models.
APIS: Final = (
    _json("completions", "/v1/completions", prompt="What is a pool?", max_tokens=8),
    _json("completions-streamed", "/v1/completions", prompt="What is a pool?", stream=True),
    _json("chat", "/v1/chat/completions", messages=_QUESTION),
    _json("chat-streamed", "/v1/chat/completions", messages=_QUESTION, stream=True),
    _json("embeddings", "/v1/embeddings", input="What is a pool?"),
    _json("responses", "/v1/responses", input="What is a pool?"),
    _json("responses-streamed", "/v1/responses", input="What is a pool?", stream=True),
    _json("messages", "/v1/messages", messages=_QUESTION, max_tokens=8),
    _json("messages-streamed", "/v1/messages", messages=_QUESTION, max_tokens=8, stream=True),
    _json("count-tokens", "/v1/messages/count_tokens", messages=_QUESTION),
    _json("vllm-generate", "/inference/v1/generate", token_ids=list(range(40)), sampling_params={"max_tokens": 4}),
    Api(
        "sglang-generate",
        "/generate",
        json.dumps({"text": "What is a pool?", "stream": True}).encode(),
        is_streamed=True,
    ),
    Api("models", "/v1/models", method="GET"),
    Api("health", "/health", method="GET"),
    Api("cancel", "/v1/responses/resp_1", method="DELETE"),
    Api(
        "transcription",
        "/v1/audio/transcriptions",
        _transcription(8_000),
        content_type=f"multipart/form-data; boundary={_BOUNDARY}",
    ),
    Api("upload", "/v1/files/a%20b?purpose=batch", Random(1).randbytes(12_000), "PUT", "application/octet-stream"),
    Api("large-upload", "/v1/files", Random(2).randbytes(3_000_000), "POST", "application/octet-stream"),
)
