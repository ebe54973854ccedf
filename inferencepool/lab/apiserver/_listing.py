"""Lists: whole or in pages, of now or of an earlier revision."""

from __future__ import annotations

import base64
import json

from inferencepool.errors import Issue
from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._refusals import RefusedError
from inferencepool.lab.apiserver._requests import ApiRequest
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.lab.apiserver._selectors import Scope
from inferencepool.lab.apiserver._store import Key, ObjectStore

__all__ = ["list_objects", "parse_revision"]

_MATCHES = ("Exact", "NotOlderThan")
# A token with this revision goes on with what is there now, whatever changed since the first page.
_INCONSISTENT = -1
_TOO_OLD_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def list_objects(store: ObjectStore, resource: Resource, scope: Scope, request: ApiRequest) -> Document:
    """
    Give the list that *request* asks for.

    Raises:
        RefusedError: 400 or 422 for options that do not go together, 410 for a revision or a token that is too old,
            504 for a revision that is not there yet.
    """
    # A list of what is cached has no pages.
    limit = 0 if request.query.get("resourceVersion") == "0" else max(0, request.whole("limit"))
    request.whole("timeoutSeconds")
    with store.locked():
        wanted, start = _read_start(store, request, limit)
        try:
            objects = store.snapshot(resource, wanted)
        except RefusedError:
            if start is None:
                message = "The resourceVersion for the provided list is too old."
                raise refusals.expired(message) from None
            next_page = _write_token(_INCONSISTENT, start)
            raise refusals.expired(_TOO_OLD_PAGE, next_page=next_page) from None
        revision = store.revision if wanted is None else wanted
    found = [(key, stored) for key, stored in objects if scope.covers(stored.document)]
    if start is not None:
        found = [(key, stored) for key, stored in found if key > start]
    page = found[:limit] if limit else found
    metadata: Document = {"resourceVersion": str(revision)}
    if len(page) < len(found):
        metadata["continue"] = _write_token(revision, page[-1][0])
        if not scope.selects:
            metadata["remainingItemCount"] = len(found) - len(page)
    return {
        "kind": f"{resource.kind}List",
        "apiVersion": resource.api_version,
        "metadata": metadata,
        "items": [_item(resource, stored.document) for _, stored in page],
    }


def parse_revision(text: str) -> int:
    """
    Read a resource version; 0 where *text* is empty.

    Raises:
        RefusedError: 400, it is none.
    """
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        message = f'invalid resource version: strconv.ParseUint: parsing "{text}": invalid syntax'
        raise refusals.bad_request(message)
    return int(text)


def _item(resource: Resource, document: Document) -> Document:
    # The items of a list of a built-in type do not repeat what the list says; those of custom resources do.
    if resource.custom:
        return document
    return {name: value for name, value in document.items() if name not in ("apiVersion", "kind")}


def _read_start(store: ObjectStore, request: ApiRequest, limit: int) -> tuple[int | None, Key | None]:
    """Read the revision to list, None for the latest, and the key behind which to start."""
    token, given = request.query.get("continue", ""), request.query.get("resourceVersion", "")
    match = request.query.get("resourceVersionMatch", "")
    _check_options(request, match, given, token)
    if token:
        revision, start = _read_token(token)
        return (None if revision == _INCONSISTENT else revision), start
    revision = parse_revision(given)
    if revision > store.revision:
        raise refusals.too_large_revision(revision, store.revision)
    exact = match == "Exact" or (not match and bool(limit) and revision > 0)
    return (revision if exact else None), None


def _check_options(request: ApiRequest, match: str, given: str, token: str) -> None:
    wrong = ""
    if "sendInitialEvents" in request.query:
        option = "sendInitialEvents"
        raise _forbidden(option, f"{option} is forbidden for list")
    if match and token:
        wrong = "resourceVersionMatch is forbidden when continue is provided"
    elif match and not given:
        wrong = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match and match not in _MATCHES:
        message = f'Unsupported value: "{match}": supported values: "Exact", "NotOlderThan"'
        raise refusals.invalid(None, "", [Issue("resourceVersionMatch", message, match)])
    elif match == "Exact" and given == "0":
        wrong = 'resourceVersionMatch "Exact" is forbidden for resourceVersion "0"'
    if wrong:
        option = "resourceVersionMatch"
        raise _forbidden(option, wrong)
    if token and given not in ("", "0"):
        message = "specifying resource version is not allowed when using continue"
        raise refusals.bad_request(message)


def _forbidden(option: str, why: str) -> RefusedError:
    return refusals.invalid(None, "", [Issue(option, f"Forbidden: {why}")])


def _write_token(revision: int, key: Key) -> str:
    content = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": list(key)})
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def _read_token(token: str) -> tuple[int, Key]:
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = content["start"]
        return int(content["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError):
        message = "continue key is not valid"
        raise refusals.bad_request(message) from None
