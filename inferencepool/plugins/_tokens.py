"""How long a request is, and which bytes of it tell whether a prefix is shared."""

from __future__ import annotations

from collections.abc import Sequence

from inferencepool.errors import InvalidRequestError
from inferencepool.model import InferenceRequest

__all__ = ["BYTES_PER_TOKEN", "estimate_tokens"]

BYTES_PER_TOKEN = 4
"""What a token of English text is on average, and what a token id takes; the reference's estimate."""


def estimate_tokens(request: InferenceRequest) -> int:
    """
    Count the tokens of the prompt: exactly where it came as token ids, else one for every four bytes begun.

    Raises:
        InvalidRequestError: The token ids are no sequence.
    """
    tokens = request.prompt_tokens
    if tokens is None:
        size = len(request.prompt) + request.prompt_unread
        for more in request.more_prompts:
            size += len(more)
        return -(-size // BYTES_PER_TOKEN)
    count = _count_ids(tokens) + request.prompt_unread // BYTES_PER_TOKEN
    for more in request.more_prompts:
        count += _count_ids(more)
    return count


def _count_ids(tokens: Sequence[int] | bytes) -> int:
    try:
        return len(tokens) // (BYTES_PER_TOKEN if isinstance(tokens, bytes | bytearray) else 1)
    except TypeError:
        message = f"prompt_tokens: {type(tokens).__name__} is not a sequence of token ids"
        raise InvalidRequestError(message) from None
