"""
Calls beside generating, of which only the model matters: to rank, to score, to count tokens, to write down speech.

Whatever such a call holds, it is passed on: the server knows better what is allowed. Its prompt is no prefix of others.
"""

from __future__ import annotations

from inferencepool.adapters.bodies._body import ParsedBody, Route, UsageKind
from inferencepool.adapters.bodies._decoding import Loads
from inferencepool.adapters.bodies._fields import read_flag, read_model
from inferencepool.adapters.bodies._multipart import FORM_MARK, read_fields, usual_charset
from inferencepool.adapters.bodies._pieces import read_object, whole_object
from inferencepool.adapters.bodies._steps import Budget, Steps
from inferencepool.errors import InvalidRequestError

__all__ = ["AUXILIARY_CLAIMS", "read_auxiliary"]

#: Ends of the paths of such calls in the APIs of OpenAI, vLLM and Cohere, and of SageMaker's, which is for any of them.
AUXILIARY_CLAIMS = (
    "rerank",
    "score",
    "pooling",
    "classify",
    "tokenize",
    "detokenize",
    "audio/transcriptions",
    "audio/translations",
    "invocations",
)

_MEMBERS = frozenset({"model", "stream"})
_FAILURE = "invalid request"


def read_auxiliary(loads: Loads, body: bytes, route: Route, budget: Budget, usage: UsageKind) -> Steps[ParsedBody]:
    """Read model and stream from a JSON object or a form; of anything else nothing is known but why."""
    document: dict[str, object]
    span: tuple[int, int] | None
    if route.content_type or body.startswith(FORM_MARK):
        fields = (yield from read_fields(body, _MEMBERS)) if usual_charset(route.content_type) else None
        if fields is None:
            return ParsedBody(unread=f"{_FAILURE}: no form, or one that servers could read in several ways")
        document = {name: value for name, (value, _) in fields.items()}
        span = fields["model"][1] if "model" in fields else (0, 0)
    else:
        try:
            document, span = whole_object(loads, body, _FAILURE) or (
                yield from read_object(body, _MEMBERS, {}, budget, _FAILURE)
            )
        except InvalidRequestError as error:
            return ParsedBody(unread=str(error))
    return ParsedBody(
        model=read_model(document),
        stream=read_flag(document.get("stream")),
        can_rewrite=True,
        model_span=span,
        usage=usage,
    )
