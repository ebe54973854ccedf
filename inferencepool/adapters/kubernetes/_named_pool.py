"""A pool that is known by its name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import attrs

from inferencepool.adapters.kubernetes._resources import LEGACY_POOLS, POOLS, ApiResource
from inferencepool.errors import ConfigurationError

__all__ = ["NamedPool"]

_POOLS = {resource.group: resource for resource in (POOLS, LEGACY_POOLS)}
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def _named(pattern: re.Pattern[str], what: str) -> Callable[[object, attrs.Attribute[Any], str], None]:
    def check(_: object, attribute: attrs.Attribute[Any], value: str) -> None:
        if not pattern.fullmatch(value):
            message = f"pool: {attribute.name}: {value!r} is no {what}"
            raise ConfigurationError(message)

    return check


def _in_group(_: object, __: object, group: str) -> None:
    if group not in _POOLS:
        message = f"pool: group: {group!r} is not one of {', '.join(_POOLS)}"
        raise ConfigurationError(message)


@attrs.frozen
class NamedPool:
    """
    The pool of this name, whatever it says, and whether or not it exists yet.

    Attributes:
        name: Its name.
        namespace: Its namespace.
        group: Its API group: that of v1, or that of v1alpha2 where only the older one is served.

    Raises:
        ConfigurationError: The name, the namespace or the group cannot be one.
    """

    name: str = attrs.field(validator=_named(_NAME, "name of an object"))
    namespace: str = attrs.field(default="default", validator=_named(_NAMESPACE, "name of a namespace"))
    group: str = attrs.field(default=POOLS.group, validator=_in_group)

    @property
    def resource(self) -> ApiResource:
        """The kind of object that it is."""
        return _POOLS[self.group]
