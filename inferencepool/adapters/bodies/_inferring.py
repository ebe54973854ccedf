"""
Which API a request is for, where the proxy does not tell its path.

NGINX Gateway Fabric's client sends no pseudo headers. What a body holds tells the API as well as is needed: where two
are alike, what is read of them is alike too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from inferencepool.adapters.bodies._multipart import FORM_MARK, is_form
from inferencepool.adapters.bodies._pieces import member_kinds
from inferencepool.adapters.bodies._steps import Steps
from inferencepool.errors import InvalidRequestError

__all__ = ["infer_path"]

_COMPLETIONS: Final = "/v1/completions"
_GENERATE: Final = "/generate"
_NO_API: Final = "/"
_AUDIO: Final = "/v1/audio/transcriptions"

_ANTHROPIC_HEADER = "anthropic-version"
# What only messages of Anthropic have, or only requests to the Responses API.
_ANTHROPIC = frozenset({"system", "stop_sequences", "thinking"})
_RESPONSES = frozenset(
    {
        *("instructions", "previous_response_id", "conversation", "max_output_tokens", "tools", "reasoning", "text"),
        *("store", "include", "background", "stream", "tool_choice", "truncation"),
    }
)
# The first that a body has tells its API; behind these it is completions.
_BY_MEMBER = (
    ("token_ids", "/inference/v1/generate"),
    ("input_ids", _GENERATE),
    ("items", "/v1/conversations"),
    ("prompt_embeds", _COMPLETIONS),
    ("documents", "/v1/rerank"),
    ("text_1", "/v1/score"),
    ("queries", "/v1/score"),
    ("tokens", "/detokenize"),
)
_NAMES = frozenset(
    {"messages", "input", "prompt", "max_tokens", *_ANTHROPIC, *_RESPONSES, *(name for name, _ in _BY_MEMBER)}
)


def infer_path(headers: Mapping[str, str], body: bytes) -> Steps[str]:
    """
    Give a path of the API that *body* is for, in steps; ``/v1/completions`` where nothing tells.

    Args:
        headers: Headers, names in lower case.
        body: The body, unpacked.
    """
    kind = headers.get("content-type", "")
    if is_form(kind) or body.startswith(FORM_MARK):
        return _AUDIO
    try:
        kinds = yield from member_kinds(body, _NAMES)
    except InvalidRequestError:
        # What calls itself something else than JSON is no request to a model; all else is refused, and told why, there.
        return _COMPLETIONS if not kind or "json" in kind.lower() else _NO_API
    return _path_of(kinds, is_anthropic=_ANTHROPIC_HEADER in headers or not _ANTHROPIC.isdisjoint(kinds))


def _path_of(kinds: Mapping[str, bytes], *, is_anthropic: bool) -> str:
    refers = not _RESPONSES.isdisjoint(kinds)
    if "messages" in kinds:
        counts = "" if "max_tokens" in kinds else "/count_tokens"
        return f"/v1/messages{counts}" if is_anthropic else "/v1/chat/completions"
    if "input" in kinds:
        return "/v1/responses" if refers else "/v1/embeddings"
    if kinds.get("text") == b'"':
        return _GENERATE
    told = next((path for name, path in _BY_MEMBER if name in kinds), None)
    if told is None and (kinds.get("prompt") == b"{" or ("prompt" not in kinds and refers)):
        return "/v1/responses"
    return told or _COMPLETIONS
