"""How long a request is, and which bytes of it tell whether a prefix is shared."""

from __future__ import annotations

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
    if tokens is not None:
        try:
            size = len(tokens) // (BYTES_PER_TOKEN if isinstance(tokens, bytes | bytearray) else 1)
        except TypeError:
            message = f"prompt_tokens: {type(tokens).__name__} is not a sequence of token ids"
            raise InvalidRequestError(message) from None
        return size + request.prompt_unread // BYTES_PER_TOKEN
    return -(-(len(request.prompt) + request.prompt_unread) // BYTES_PER_TOKEN)
