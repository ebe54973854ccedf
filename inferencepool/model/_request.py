"""What a pick is asked for."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["InferenceRequest"]


@attrs.define(kw_only=True, eq=False)
class InferenceRequest:
    """
    One inference request, as far as routing needs to know it.

    Not frozen, because a request is built once per pick and frozen values are three times as slow to build; nothing in
    this library changes one.

    Attributes:
        model: Name of the model or LoRA adapter that serves the request (after any rewrite).
        prompt: The prompt as bytes; empty when unknown.
        headers: Request headers, names in lower case.
        id: The request's id, such as the value of ``x-request-id``; for logs and explanations.
    """

    model: str = ""
    prompt: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict)
    id: str = ""
