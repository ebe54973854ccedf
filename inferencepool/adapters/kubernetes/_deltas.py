"""What a reflector learned."""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

import attrs

from inferencepool.adapters.kubernetes._feed import cut

__all__ = ["Deleted", "Delta", "Foreign", "Listed", "Unreadable", "Upserted"]

_T = TypeVar("_T")


@attrs.frozen
class Unreadable:
    """
    An object is there and cannot be read, whatever was read of it before.

    Attributes:
        name: Its name.
        reason: What is wrong with it.
    """

    name: str = attrs.field(converter=cut)
    reason: str = attrs.field(converter=cut)


@attrs.frozen
class Listed(Generic[_T]):
    """
    These objects, and no others, exist.

    Attributes:
        objects: Those that can be read.
        unreadable: Those that cannot.
    """

    objects: tuple[_T, ...]
    unreadable: tuple[Unreadable, ...] = ()


@attrs.frozen
class Upserted(Generic[_T]):
    """An object was created or changed."""

    object: _T


@attrs.frozen
class Deleted:
    """The object of this name is gone, or no longer matches the selector."""

    name: str


@attrs.frozen
class Foreign:
    """
    The server told of an object that was not asked for, which changes nothing; told once for each list and watch.

    Attributes:
        reason: What it is.
    """

    reason: str = attrs.field(converter=cut)


Delta: TypeAlias = Listed[_T] | Upserted[_T] | Deleted | Unreadable | Foreign
