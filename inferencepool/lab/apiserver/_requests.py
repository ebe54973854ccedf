"""Requests: what a method, a path and a query ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._catalog import Catalog
from inferencepool.lab.apiserver._resources import Document, Resource
from inferencepool.lab.apiserver._shapes import check_shapes

__all__ = ["ApiRequest", "Headers", "Target", "find_target", "read_request"]

#: Headers by their names in lower case.
Headers: TypeAlias = Mapping[str, str]

_JSON = "application/json"
_MOST_DIGITS = 20
_SUBRESOURCES = ("status",)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_FALSE = ("false", "0")


@attrs.frozen(kw_only=True)
class Target:
    """
    What a path names.

    Attributes:
        group: API group; empty for the core.
        version: Version of the group; empty where the path is not that of a resource.
        plural: Resource; empty where the path is not that of one.
        namespace: Namespace; empty for all.
        name: Object; empty for all.
        subresource: What of the object; empty for all of it.
    """

    group: str = ""
    version: str = ""
    plural: str = ""
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@attrs.frozen(kw_only=True)
class ApiRequest:
    """
    One request.

    Attributes:
        method: Method of HTTP.
        path: Path, without the query.
        query: Parameters of the query; of several with one name the last.
        headers: Headers by their names in lower case.
        body: The body.
        verb: As rights have it: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete``,
            ``deletecollection``; for paths of no resource the method in lower case.
        target: What the path names.
    """

    method: str
    path: str
    query: Mapping[str, str] = attrs.field(factory=dict)
    headers: Headers = attrs.field(factory=dict)
    body: bytes = b""
    verb: str
    target: Target = attrs.field(factory=Target)

    @property
    def token(self) -> str:
        """The bearer token; empty where there is none."""
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""

    @property
    def content_type(self) -> str:
        """Type of the body, in lower case and without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def flag(self, name: str) -> bool:
        """Read a parameter of the query that is true or false."""
        return _is_true(self.query, name)

    def whole(self, name: str) -> int:
        """
        Read a parameter of the query that is a whole number; 0 where it is absent.

        Raises:
            RefusedError: 400, it is none.
        """
        text = self.query.get(name, "")
        if not text:
            return 0
        try:
            number = int(text) if text.isascii() and "_" not in text and len(text) <= _MOST_DIGITS else None
        except ValueError:
            number = None
        if number is None:
            message = f'strconv.ParseInt: parsing "{text[:100]}": invalid syntax'
            raise refusals.bad_request(message)
        return number

    def document(self) -> Document:
        """
        Read the body as a JSON object.

        Raises:
            RefusedError: 400, it is none.
        """
        found = self.json()
        if not isinstance(found, dict):
            message = "the object provided is unrecognized: it must be an object of JSON"
            raise refusals.bad_request(message)
        return found

    def options(self) -> Document:
        """
        Read the body as an object of a built-in type that is not kept, such as the options of a deletion.

        Raises:
            RefusedError: 400, it is none; an empty body is one without fields.
        """
        found = self.document() if self.body.strip() else {}
        check_shapes(found)
        return found

    def json(self) -> Any:
        """
        Read the body as JSON.

        Raises:
            RefusedError: 400, it is none; 415, it says that it is of another type, and is no patch.
        """
        if self.content_type not in ("", _JSON) and self.verb != "patch":
            raise refusals.unsupported_media_type((_JSON,))
        try:
            return json.loads(self.body)
        except ValueError as error:
            message = f"the object provided is unrecognized (must be of type JSON): {error}"
            raise refusals.bad_request(message) from None


def read_request(method: str, target: str, headers: Headers, body: bytes) -> ApiRequest:
    """Make a request of what HTTP has: *target* is the path with the query."""
    split = urlsplit(target)
    query = dict(parse_qsl(split.query, keep_blank_values=True))
    path = unquote(split.path)
    named = _read_path([part for part in path.split("/") if part])
    return ApiRequest(
        method=method,
        path=path,
        query=query,
        headers=headers,
        body=body,
        verb=_verb(method, named, query),
        target=named,
    )


def find_target(catalog: Catalog, request: ApiRequest) -> Resource:
    """
    Find the resource that *request* names.

    Raises:
        RefusedError: 404 where it is not served, 405 where it has no such verb.
    """
    target = request.target
    resource = catalog.find(target.group, target.version, target.plural) if target.plural else None
    if resource is None or (target.namespace and not resource.namespaced):
        raise refusals.no_such_resource()
    acts = target.subresource in resource.actions
    if target.subresource and not acts and not (resource.status and target.subresource in _SUBRESOURCES):
        raise refusals.no_such_resource()
    allowed = ("create",) if acts else ("get", "patch", "update") if target.subresource else resource.verbs
    needs_name = acts or request.verb in ("get", "update", "patch", "delete")
    if request.verb not in allowed or (bool(target.name) is not needs_name and request.verb != "watch"):
        raise refusals.method_not_allowed(resource)
    return resource


def _read_path(parts: list[str]) -> Target:
    match parts:
        case ["api", version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            return Target()
    namespace = ""
    # `namespaces/x` is the object itself, and so is what hangs on it; `namespaces/x/pods` are the pods in it.
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in (*_SUBRESOURCES, "finalize"):  # noqa: PLR2004 - what is in the namespace stands third
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return Target(
        group=group,
        version=version,
        plural=plural,
        namespace=namespace,
        name=name,
        subresource="/".join([subresource, *rest[3:]]) if rest[3:] else subresource,
    )


def _verb(method: str, target: Target, query: Mapping[str, str]) -> str:
    if not target.plural:
        return method.lower()
    if method in ("GET", "HEAD"):
        if _is_true(query, "watch"):
            return "watch"
        return "get" if target.name else "list"
    if method == "DELETE":
        return "delete" if target.name else "deletecollection"
    return _VERBS.get(method, method.lower())


def _is_true(query: Mapping[str, str], name: str) -> bool:
    # As the API server reads it: whatever is there and is not false, is true.
    return name in query and query[name].lower() not in _FALSE
