"""How an error is told to the client: section "failure responses" of the Endpoint Picker Protocol."""

from __future__ import annotations

from inferencepool.adapters.extproc._messages import ImmediateResponse
from inferencepool.adapters.extproc._options import ErrorFormat
from inferencepool.errors import InferencePoolError, UnreadableBodyError
from inferencepool.model._protocol import DROPPED_REASON

__all__ = ["code_of", "refuse"]

_CODES = {
    400: "BadRequest",
    408: "RequestTimeout",
    412: "PreconditionFailed",
    413: "PayloadTooLarge",
    415: "UnsupportedMediaType",
    429: "ResourceExhausted",
    503: "ServiceUnavailable",
}

_OTHER = "Internal"

_JSON = ("content-type", "application/json")
_PLAIN = ("content-type", "text/plain; charset=utf-8")
# What would have been read, for clients that can choose: RFC 9110, 15.5.16.
_ACCEPTED = ("accept-encoding", "gzip, deflate")

# Longer messages are cut: they may quote what the client sent.
_LONGEST = 2000


def code_of(error: BaseException) -> str:
    """Give the word that the reference has for *error*, ``Internal`` for whatever is no refusal."""
    return _CODES.get(error.http_status, _OTHER) if isinstance(error, InferencePoolError) else _OTHER


def refuse(error: InferencePoolError, form: ErrorFormat) -> ImmediateResponse:
    """Give the response for a request that *error* ended."""
    code = code_of(error)
    if form is ErrorFormat.JSON:
        kind, body = _JSON, error.to_json()
    else:
        text = f"inference error: {code} - {error}"
        if len(text) > _LONGEST:
            text = text[:_LONGEST] + "..."
        kind, body = _PLAIN, text.encode("utf-8", "replace")
    headers: tuple[tuple[str, str], ...]
    headers = (kind,) if error.dropped_reason is None else (kind, (DROPPED_REASON, error.dropped_reason))
    if isinstance(error, UnreadableBodyError):
        headers += (_ACCEPTED,)
    reason = error.dropped_reason or code
    return ImmediateResponse(error.http_status, body, headers, f"endpoint_picker:{reason}")
