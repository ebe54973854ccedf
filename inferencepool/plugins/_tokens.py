"""How long a request is, and which bytes of it tell whether a prefix is shared."""

from __future__ import annotations

from inferencepool.model import InferenceRequest

__all__ = ["BYTES_PER_TOKEN", "estimate_tokens"]

BYTES_PER_TOKEN = 4
"""What a token of English text is on average, and what a token id takes; the reference's estimate."""


def estimate_tokens(request: InferenceRequest) -> int:
    """Count the tokens of the prompt: exactly where it came as token ids, else one for every four bytes begun."""
    if request.prompt_tokens is not None:
        return len(request.prompt_tokens)
    return -(-len(request.prompt) // BYTES_PER_TOKEN)
