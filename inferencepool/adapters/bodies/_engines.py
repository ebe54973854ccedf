"""Bodies of the model servers' own generate calls, which give the prompt as token ids."""

from __future__ import annotations

from typing import Any

from inferencepool.adapters.bodies._body import ParsedBody, Route, UsageKind
from inferencepool.adapters.bodies._decoding import Loads, loads_json
from inferencepool.adapters.bodies._fields import read_count, read_flag, read_model, read_salt, read_tokens
from inferencepool.adapters.bodies._pieces import read_object, whole_object
from inferencepool.adapters.bodies._prompt_pieces import read_token_ids
from inferencepool.adapters.bodies._prompts import Piece
from inferencepool.adapters.bodies._steps import Budget, Steps, finished
from inferencepool.errors import InvalidRequestError

__all__ = ["SglangHttpParser", "VllmHttpParser"]

_FAILURE = "invalid generate request"
_VLLM_MEMBERS = frozenset({"model", "token_ids", "stream", "sampling_params", "cache_salt"})
_SGLANG_MEMBERS = frozenset({"input_ids", "extra_key", "stream", "sampling_params"})
_READERS = {"token_ids": read_token_ids, "input_ids": read_token_ids}


class VllmHttpParser:
    """
    Reads vLLM's ``/inference/v1/generate``.

    Media that stand behind placeholder tokens are not told apart.

    Args:
        loads: Reads JSON text.
    """

    name = "vllmhttp-parser"
    claims = ("inference/v1/generate",)

    def __init__(self, loads: Loads = loads_json) -> None:
        self._loads = loads

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*.

        Raises:
            InvalidRequestError: It is no JSON object, or its ``token_ids`` are no token ids.
        """
        return finished(self.read(body, route, Budget()))

    def read(self, body: bytes, route: Route, budget: Budget) -> Steps[ParsedBody]:  # noqa: ARG002 - one claim
        """Do in steps what `parse` does, as far as *budget* goes; see `SteppedParser`."""
        document, span = whole_object(self._loads, body, _FAILURE) or (
            yield from read_object(body, _VLLM_MEMBERS, _READERS, budget, _FAILURE)
        )
        given = document.get("token_ids")
        if given is None or given == []:
            message = f"{_FAILURE}: must have non-empty token_ids field"
            raise InvalidRequestError(message)
        tokens = read_tokens(given)
        if tokens is None:
            message = f"{_FAILURE}: token_ids must be an array of uint32 integers"
            raise InvalidRequestError(message)
        return ParsedBody(
            model=read_model(document),
            prompt_tokens=tokens,
            prompt_unread=given.unread if isinstance(given, Piece) else 0,
            stream=read_flag(document.get("stream")),
            max_output_tokens=_read_limit(document, "max_tokens"),
            cache_salt=read_salt(document),
            can_rewrite=True,
            needs_model=True,
            model_span=span,
            usage=UsageKind.OPENAI,
        )


class SglangHttpParser:
    """
    Reads SGLang's ``/generate``, for one prompt of token ids. Its bodies name no model.

    Args:
        loads: Reads JSON text.
    """

    name = "sglanghttp-parser"
    claims = ("generate",)
    names_model = False

    def __init__(self, loads: Loads = loads_json) -> None:
        self._loads = loads

    def parse(self, body: bytes, route: Route) -> ParsedBody:
        """
        Read *body*.

        Raises:
            InvalidRequestError: The path is longer than ``/generate``, or *body* is no JSON object, or its
                ``input_ids`` are no token ids, or its ``extra_key`` is no string.
        """
        return finished(self.read(body, route, Budget()))

    def read(self, body: bytes, route: Route, budget: Budget) -> Steps[ParsedBody]:
        """Do in steps what `parse` does, as far as *budget* goes; see `SteppedParser`."""
        if route.path.removeprefix("/") != "generate":
            message = f"unsupported path: {route.path}"
            raise InvalidRequestError(message)
        document, _ = whole_object(self._loads, body, _FAILURE) or (
            yield from read_object(body, _SGLANG_MEMBERS, _READERS, budget, _FAILURE)
        )
        given = document.get("input_ids")
        if given is None:
            message = f"{_FAILURE}: input_ids must be provided"
            raise InvalidRequestError(message)
        salt = document.get("extra_key")
        if not isinstance(salt, str | None):
            message = "unsupported generate request: extra_key must be a string"
            raise InvalidRequestError(message)
        if given == []:
            message = f"{_FAILURE}: input_ids cannot be empty"
            raise InvalidRequestError(message)
        tokens = read_tokens(given)
        if tokens is None:
            message = f"{_FAILURE}: input_ids must be an array of uint32 integers"
            raise InvalidRequestError(message)
        return ParsedBody(
            prompt_tokens=tokens,
            prompt_unread=given.unread if isinstance(given, Piece) else 0,
            stream=read_flag(document.get("stream")),
            max_output_tokens=_read_limit(document, "max_new_tokens"),
            cache_salt=salt or "",
            usage=UsageKind.SGLANG,
        )


def _read_limit(document: dict[str, Any], name: str) -> int | None:
    sampling = document.get("sampling_params")
    return read_count(sampling.get(name)) if isinstance(sampling, dict) else None
