"""
Calls beside generating, of which only the model matters: to rank, to score, to count tokens, to write down speech.

Whatever such a call holds, it is passed on: the server knows better what is allowed. Its prompt is no prefix of others.
"""

from __future__ import annotations

from inferencepool.adapters.bodies._body import ParsedBody, UsageKind
from inferencepool.adapters.bodies._decoding import Loads
from inferencepool.adapters.bodies._fields import read_flag, read_model
from inferencepool.adapters.bodies._multipart import FORM_MARK, read_fields
from inferencepool.adapters.bodies._pieces import read_object, whole_object
from inferencepool.adapters.bodies._steps import Budget, Steps
from inferencepool.errors import InvalidRequestError

__all__ = ["AUXILIARY_CLAIMS", "read_auxiliary"]

#: Ends of the paths of such calls in the APIs of OpenAI, vLLM and Cohere.
AUXILIARY_CLAIMS = (
    "rerank",
    "score",
    "pooling",
    "classify",
    "tokenize",
    "detokenize",
    "audio/transcriptions",
    "audio/translations",
)

_MEMBERS = frozenset({"model", "stream"})


def read_auxiliary(loads: Loads, body: bytes, budget: Budget, usage: UsageKind) -> Steps[ParsedBody]:
    """Read model and stream from a JSON object or a form; of anything else nothing is known."""
    if body.startswith(FORM_MARK):
        fields = yield from read_fields(body, _MEMBERS)
        if fields is None:
            return ParsedBody()
        document: dict[str, object] = {name: value for name, (value, _) in fields.items()}
        span: tuple[int, int] | None = fields["model"][1] if "model" in fields else (0, 0)
    else:
        try:
            document, span = whole_object(loads, body, "") or (yield from read_object(body, _MEMBERS, {}, budget, ""))
        except InvalidRequestError:
            return ParsedBody()
    return ParsedBody(
        model=read_model(document),
        stream=read_flag(document.get("stream")),
        can_rewrite=True,
        model_span=span,
        usage=usage,
    )
