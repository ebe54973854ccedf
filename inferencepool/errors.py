"""
Every error this library raises, as one tree.

    InferencePoolError
    ├── InvalidDocumentError      a manifest or file is not what the API allows      (also ValueError)
    ├── InvalidSelectorError      a label selector cannot be read                    (also ValueError)
    ├── InvalidMetricsError       metrics hold an impossible value or cannot be read (also ValueError)
    ├── ConfigurationError        a strategy, weight, profile or option is wrong     (also ValueError)
    ├── InvalidRequestError       the body of an inference request cannot be used    (400; also ValueError)
    │   ├── RequestTooLargeError      it is longer than allowed                       (413)
    │   └── UnreadableBodyError       it has to be read and its encoding is not known (415)
    ├── InvalidMessageError       a message of ext_proc cannot be read               (also ValueError)
    ├── RequestTimeoutError       a request did not arrive whole in time             (408; also TimeoutError)
    ├── UnknownEndpointError      metrics are told of an endpoint that does not exist (also KeyError)
    ├── StrategyError             a user's strategy broke its contract during a pick (500)
    ├── ApiServerError            a Kubernetes API server refuses, or cannot be reached
    │   └── RefusedError              the one for tests does; in `inferencepool.lab.apiserver`
    ├── NotCachedError            nothing of a prompt is cached where it would go    (412)
    ├── MissingExtraError         an optional dependency is not installed            (also ImportError)
    ├── OverloadedError           the picker holds as much as it may                 (503)
    └── NoEndpointsError          nothing to pick from                               (503)
        └── EndpointsFilteredError    there were candidates; the filters kept none   (429)

`http_status` is what an edge should answer with; `dropped_reason` is the value of the response header
``x-llm-d-request-dropped-reason`` of the Endpoint Picker Protocol, or None where it defines none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, Self

import attrs

__all__ = [
    "ApiServerError",
    "ConfigurationError",
    "EndpointsFilteredError",
    "InferencePoolError",
    "InvalidDocumentError",
    "InvalidMessageError",
    "InvalidMetricsError",
    "InvalidRequestError",
    "InvalidSelectorError",
    "Issue",
    "MissingExtraError",
    "NoEndpointsError",
    "NotCachedError",
    "OverloadedError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "StrategyError",
    "UnknownEndpointError",
    "UnreadableBodyError",
]


# How vLLM and SGLang call what a status says.
_KINDS = {
    400: "BadRequestError",
    404: "NotFoundError",
    408: "RequestTimeoutError",
    412: "PreconditionFailedError",
    413: "RequestEntityTooLargeError",
    415: "UnsupportedMediaTypeError",
    429: "RateLimitError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
}
_LONGEST_MESSAGE = 2000
# Namespace, name of a pod and rank; what is longer is no id.
_LONGEST_ID = 330


class InferencePoolError(Exception):
    """Root of all errors of this library."""

    http_status: ClassVar[int] = 500
    dropped_reason: ClassVar[str | None] = None

    def to_json(self) -> bytes:
        """
        Give the body of an answer that tells a client of this error in the form of OpenAI's API, as model servers do.

        It is ``{"error": {"message", "type", "param", "code"}}`` with *code* `http_status`; the message is cut behind
        2,000 characters, as it may quote what the client sent.
        """
        # Whoever raises no errors need not wait for it.
        import json  # noqa: PLC0415 - as above

        text = str(self)
        message = text if len(text) <= _LONGEST_MESSAGE else f"{text[:_LONGEST_MESSAGE]}..."
        kind = _KINDS.get(self.http_status, "InternalServerError")
        error = {"message": message, "type": kind, "param": None, "code": self.http_status}
        return json.dumps({"error": error}).encode()


@attrs.frozen
class Issue:
    """
    One thing that is wrong in a document.

    Attributes:
        field: Path from the document's root, such as ``spec.targetPorts[1].number``; empty for the document itself.
        reason: What is wrong and what is allowed, without the path.
        value: The offending value; None where the field is absent.
    """

    field: str
    reason: str
    value: Any = None

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}" if self.field else self.reason


class InvalidDocumentError(InferencePoolError, ValueError):
    """
    Raised when a document is not what its API allows; carries everything that is wrong with it.

    Attributes:
        source: What was read, such as ``InferencePool default/llama``; empty when unknown.
        issues: All problems found, in document order; never empty.
    """

    http_status: ClassVar[int] = 400

    def __init__(self, issues: Iterable[Issue], source: str = "") -> None:
        self.issues = tuple(issues)
        self.source = source
        lead = f"{source}: " if source else ""
        super().__init__("\n".join(f"{lead}{issue}" for issue in self.issues))


class InvalidSelectorError(InferencePoolError, ValueError):
    """Raised when a label selector cannot be read; the message shows the text and where it stops making sense."""

    http_status: ClassVar[int] = 400


class InvalidMetricsError(InferencePoolError, ValueError):
    """Raised when metrics hold a value that cannot be (NaN, negative, above 1) or a metrics page cannot be read."""


class ConfigurationError(InferencePoolError, ValueError):
    """
    Raised when a strategy, weight, profile or option is wrong; names it, its value and what is allowed.

    Attributes:
        owner: What the field belongs to, such as ``scraping``; empty where the error is of no single field.
        field: The field, or the path to it; empty as above.
        reason: What is wrong, and what is allowed.
        value: What was given; None where the error is of no single value.
    """

    def __init__(self, message: str, *, owner: str = "", field: str = "", value: object = None) -> None:
        lead = "".join(f"{part}: " for part in (owner, field) if part)
        super().__init__(f"{lead}{message}")
        self.owner, self.field, self.reason, self.value = owner, field, message, value

    @classmethod
    def of(cls, owner: str, field: str, reason: str, value: object = None) -> Self:
        """Name the *field* of *owner* that is wrong; the text is ``owner: field: reason``."""
        return cls(reason, owner=owner, field=field, value=value)


class InvalidRequestError(InferencePoolError, ValueError):
    """Raised when the body of an inference request cannot be used: no JSON, no model, or a field of the wrong kind."""

    http_status: ClassVar[int] = 400


class RequestTooLargeError(InvalidRequestError):
    """Raised when the body of an inference request is longer than allowed."""

    http_status: ClassVar[int] = 413


class UnreadableBodyError(InvalidRequestError):
    """Raised when a request's body would have to be rewritten, and has a ``content-encoding`` that is not known."""

    http_status: ClassVar[int] = 415


class RequestTimeoutError(InferencePoolError, TimeoutError):
    """Raised when an inference request did not arrive whole in time."""

    http_status: ClassVar[int] = 408


class InvalidMessageError(InferencePoolError, ValueError):
    """Raised when a message of ext_proc cannot be read, or comes where the protocol does not allow it."""


class StrategyError(InferencePoolError):
    """Raised when a strategy broke its contract during a pick: a wrong number of scores, NaN, or no candidate."""


class NotCachedError(InferencePoolError):
    """Raised when a request wants to be refused where nothing of its prompt is cached, and nothing is."""

    http_status: ClassVar[int] = 412


class UnknownEndpointError(InferencePoolError, KeyError):
    """
    Raised when metrics are told of an endpoint that does not exist; the message gives the nearest id there is.

    Attributes:
        endpoint_id: The id that no endpoint has.
    """

    def __init__(self, endpoint_id: str, known: Collection[str] = ()) -> None:
        # Rarely needed, and slow to import.
        from difflib import get_close_matches  # noqa: PLC0415 - as said above

        self.endpoint_id = endpoint_id
        shown = endpoint_id[:_LONGEST_ID]
        near = get_close_matches(shown, known, n=1)
        hint = f"the nearest there is is {near[0]!r}" if near else f"none of the {len(known)} there are is near"
        super().__init__(f"no endpoint has the id {shown!r}, {hint}")

    def __str__(self) -> str:
        # That of `KeyError` would quote the message.
        return str(self.args[0])


class OverloadedError(InferencePoolError):
    """Raised when a request is refused because the picker itself holds as much as it may."""

    http_status: ClassVar[int] = 503


class ApiServerError(InferencePoolError):
    """
    Raised when a Kubernetes API server refuses a request, or cannot be reached.

    Attributes:
        status: HTTP status of the answer; None where there was none.
        retry_after: Seconds to wait before another try, where the server said so.
    """

    http_status: ClassVar[int] = 502

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        self.status = status
        self.retry_after = retry_after
        super().__init__(message)


class MissingExtraError(InferencePoolError, ImportError):
    """Raised when an optional dependency is missing; the message says which extra to install."""


class NoEndpointsError(InferencePoolError):
    """Raised when there is nothing to pick from: an empty pool, or a subset hint that matches no ready endpoint."""

    http_status: ClassVar[int] = 503
    dropped_reason: ClassVar[str | None] = "rejected-no-endpoints"


class EndpointsFilteredError(NoEndpointsError):
    """Raised when there were candidates and the profile's filters kept none of them."""

    http_status: ClassVar[int] = 429
    dropped_reason: ClassVar[str | None] = "rejected-saturated"
