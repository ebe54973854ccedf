"""What the API server says when it refuses: objects of kind Status, in its words. Imported as a module."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from inferencepool.errors import ApiServerError, Issue
from inferencepool.lab.apiserver._resources import Document, Resource

__all__ = [
    "RefusedError",
    "already_exists",
    "bad_request",
    "conflict",
    "expired",
    "forbidden",
    "initializing",
    "invalid",
    "make",
    "method_not_allowed",
    "no_such_resource",
    "not_acceptable",
    "not_found",
    "too_large_revision",
    "too_many_requests",
    "unauthorized",
    "unsupported_media_type",
]


@final
class RefusedError(ApiServerError):
    """
    Raised when the API server refuses what a test asks of it; over HTTP it is the response.

    Attributes:
        reason: The word for machines, such as ``AlreadyExists``.
        document: The whole object of kind Status.
    """

    def __init__(self, document: Document) -> None:
        self.reason: str = document["reason"]
        self.document = document
        seconds = document.get("details", {}).get("retryAfterSeconds")
        super().__init__(document["message"], status=document["code"], retry_after=seconds)


def make(code: int, reason: str, message: str, details: Document | None = None, *, next_page: str = "") -> RefusedError:
    """Make any refusal; *next_page* is a token that still works where the one that was sent does not."""
    document: Document = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {"continue": next_page} if next_page else {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    if details:
        document["details"] = details
    return RefusedError(document)


def _about(resource: Resource, name: str, **more: object) -> Document:
    group = {"group": resource.group} if resource.group else {}
    return {"name": name, **group, "kind": resource.plural, **more}


def bad_request(message: str) -> RefusedError:
    """The request itself makes no sense."""
    return make(400, "BadRequest", message)


def unauthorized() -> RefusedError:
    """The request has no token, or one that is not valid any more."""
    return make(401, "Unauthorized", "Unauthorized")


def forbidden(resource: Resource | None, name: str, user: str, action: str) -> RefusedError:
    """*user* has no right to *action*."""
    if resource is None:
        return make(403, "Forbidden", f'forbidden: User "{user}" cannot {action}', {})
    quoted = f' "{name}"' if name else ""
    message = f'{resource.qualified}{quoted} is forbidden: User "{user}" cannot {action}'
    return make(403, "Forbidden", message, _about(resource, name))


def not_found(resource: Resource, name: str) -> RefusedError:
    """There is no such object."""
    return make(404, "NotFound", f'{resource.qualified} "{name}" not found', _about(resource, name))


def no_such_resource() -> RefusedError:
    """The path is that of no resource that is served."""
    return make(404, "NotFound", "the server could not find the requested resource", {})


def method_not_allowed(resource: Resource | None = None) -> RefusedError:
    """The path has no such verb."""
    what = f" on resource of type {resource.plural!r}" if resource else ""
    message = f"the server does not allow this method{what or ' on the requested resource'}"
    return make(405, "MethodNotAllowed", message, {})


def already_exists(resource: Resource, name: str) -> RefusedError:
    """An object of the name is there."""
    return make(409, "AlreadyExists", f'{resource.qualified} "{name}" already exists', _about(resource, name))


def conflict(
    resource: Resource, name: str, why: str = "", causes: Iterable[Document] = (), *, subresource: str = ""
) -> RefusedError:
    """The object changed since it was read, or belongs to somebody else."""
    changed = "the object has been modified; please apply your changes to the latest version and try again"
    what = f"{resource.qualified}/{subresource}" if subresource else resource.qualified
    message = f'Operation cannot be fulfilled on {what} "{name}": {why or changed}'
    listed = list(causes)
    return make(409, "Conflict", message, _about(resource, name, **({"causes": listed} if listed else {})))


def expired(message: str, *, next_page: str = "") -> RefusedError:
    """What was asked for is of a time that is forgotten."""
    return make(410, "Expired", message, next_page=next_page)


def unsupported_media_type(allowed: Iterable[str]) -> RefusedError:
    """The body is of a type that is not taken."""
    accepted = ", ".join(allowed)
    message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
    return make(415, "UnsupportedMediaType", message, {})


def not_acceptable(written: Iterable[str]) -> RefusedError:
    """The response would be of no type that the client takes."""
    message = f"only the following media types are accepted: {', '.join(written)}"
    return make(406, "NotAcceptable", message, {})


def invalid(
    resource: Resource | None, name: str, issues: Iterable[Issue], *, kind: str = "ListOptions.meta.k8s.io"
) -> RefusedError:
    """The object breaks rules of its kind; without *resource* that is *kind*, the options of the request by default."""
    listed = list(issues)
    kind = resource.qualified_kind if resource else kind
    causes = [{"reason": _cause(issue), "message": issue.reason, "field": issue.field} for issue in listed]
    texts = [str(issue) for issue in listed]
    told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    plain, _, group = kind.partition(".")
    about: Document = {"name": name, "kind": plain}
    details = {**about, **({"group": group} if group else {}), "causes": causes}
    return make(422, "Invalid", f'{kind} "{name}" is invalid: {told}', details)


# What an issue says, and the word for it; the first that is in it counts.
_CAUSES = (
    (("Required value", "is required", "must not be empty"), "FieldValueRequired"),
    (("Forbidden",), "FieldValueForbidden"),
    (("has no domain",), "FieldValueInvalid"),
    (("Unsupported value", "is not one of"), "FieldValueNotSupported"),
    (("is that of",), "FieldValueDuplicate"),
    (("is not a string", "is not an object", "is not a list", "is not a whole number"), "FieldValueTypeInvalid"),
    (("neither true nor false",), "FieldValueTypeInvalid"),
    (("bytes of keys and values",), "FieldValueTooLong"),
)


def _cause(issue: Issue) -> str:
    for words, cause in _CAUSES:
        if any(word in issue.reason for word in words):
            return cause
    # Names and labels in metadata are invalid where they are too long, says the API server.
    if "allowed are at most" in issue.reason and not issue.field.startswith("metadata."):
        return "FieldValueTooMany" if " items," in issue.reason else "FieldValueTooLong"
    return "FieldValueInvalid"


def initializing() -> RefusedError:
    """The server has just started, and does not know the objects yet."""
    return make(429, "TooManyRequests", "storage is (re)initializing", {"retryAfterSeconds": 1})


def too_many_requests(seconds: int) -> RefusedError:
    """The client should come back after *seconds*."""
    message = "Too many requests, please try again later."
    return make(429, "TooManyRequests", message, {"retryAfterSeconds": seconds})


def too_large_revision(asked: int, current: int) -> RefusedError:
    """A resource version that is not there yet; the server waited for it in vain."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return make(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1})
