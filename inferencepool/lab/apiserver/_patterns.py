"""Which requests something is about: a fault, a count, a wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import attrs

from inferencepool.lab.apiserver._requests import ApiRequest

__all__ = ["Match", "Pattern"]


class Match(TypedDict, total=False):
    """
    What a request must be; what is left out may be anything.

    Attributes:
        verb: As rights have it: ``get``, ``list``, ``watch``, ``create``, ``update``, ``patch``, ``delete``.
        resource: The resource's name in paths, such as ``pods``.
        group: The API group; empty for the core.
        namespace: The namespace; empty for requests about all of them.
        name: The object's name; empty for requests about many.
        subresource: Such as ``status``; empty for the object itself.
        path: The whole path, without the query.
        where: Decides by the request itself.
    """

    verb: str
    resource: str
    group: str
    namespace: str
    name: str
    subresource: str
    path: str
    where: Callable[[ApiRequest], bool]


@attrs.frozen(kw_only=True)
class Pattern:
    """A `Match` with None for what may be anything."""

    verb: str | None = None
    resource: str | None = None
    group: str | None = None
    namespace: str | None = None
    name: str | None = None
    subresource: str | None = None
    path: str | None = None
    where: Callable[[ApiRequest], bool] | None = None

    def matches(self, request: ApiRequest) -> bool:
        """Tell whether *request* is as wanted."""
        target = request.target
        pairs = (
            (self.verb, request.verb),
            (self.resource, target.plural),
            (self.group, target.group),
            (self.namespace, target.namespace),
            (self.name, target.name),
            (self.subresource, target.subresource),
            (self.path, request.path),
        )
        if any(wanted not in (None, found) for wanted, found in pairs):
            return False
        return self.where is None or self.where(request)

    def __str__(self) -> str:
        wanted = [f"{name}={value!r}" for name, value in attrs.asdict(self).items() if value is not None]
        return ", ".join(wanted) or "any request"
