"""Objects that are read one by one, and what a list of them adds up to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, final

from inferencepool.adapters.kubernetes._deltas import Deleted, Listed, Unreadable, Upserted
from inferencepool.adapters.kubernetes._feed import Failure
from inferencepool.errors import InvalidDocumentError

__all__ = [
    "KnownObjects",
    "Listing",
    "bound",
    "check_version",
    "failure_of",
    "metadata_of",
    "read_one",
    "uid_of",
    "version_of",
]

# Characters of a resource version, at most: it goes into queries.
_MAX_VERSION = 1024

_T = TypeVar("_T")


def metadata_of(document: Any) -> Mapping[str, Any]:
    """Give the metadata of an object; empty where it has none that could be looked at."""
    metadata = document.get("metadata") if isinstance(document, dict) else None
    return metadata if isinstance(metadata, dict) else {}


def uid_of(metadata: Mapping[str, Any]) -> str:
    """Give the uid of an object; empty where it has none."""
    uid = metadata.get("uid")
    return uid if isinstance(uid, str) else ""


def version_of(metadata: Mapping[str, Any]) -> str:
    """Give the resource version of an object; empty where it has none that could be asked for."""
    version = metadata.get("resourceVersion")
    return version if isinstance(version, str) and len(version) <= _MAX_VERSION else ""


def read_one(read: Callable[[Mapping[str, Any]], _T], document: object, name: object) -> Upserted[_T] | Unreadable:
    """Read the object that calls itself *name*."""
    if not isinstance(document, Mapping):
        return Unreadable("", "is no object")
    try:
        return Upserted(read(document))
    except InvalidDocumentError as error:
        return Unreadable(name if isinstance(name, str) else "", "; ".join(map(str, error.issues)))


@final
class Listing(Generic[_T]):
    """The objects of a list that has not come to its end."""

    def __init__(self, read: Callable[[Mapping[str, Any]], _T]) -> None:
        """Begin with none; *read* reads one."""
        self._read = read
        self._found: dict[str, _T] = {}
        self._unreadable: dict[str, Unreadable] = {}
        self._uids: dict[str, str] = {}

    def add(self, document: Any) -> None:
        """Take an object; one of the same name that came before does not count."""
        metadata = metadata_of(document)
        name = metadata.get("name")
        one = read_one(self._read, document, name)
        if name in self._uids:
            self.remove(name)
        if isinstance(one, Upserted):
            key = str(name)
            self._found[key] = one.object
        else:
            key = one.name
            self._unreadable[key] = one
        self._uids[key] = uid_of(metadata)

    def remove(self, name: Any) -> None:
        """Take back the object called *name*."""
        self._found.pop(name, None)
        self._unreadable.pop(name, None)
        self._uids.pop(name, None)

    @property
    def uids(self) -> dict[str, str]:
        """The uid of each object by its name; empty where it has none."""
        return self._uids

    def __len__(self) -> int:
        return len(self._uids)

    def finish(self) -> Listed[_T]:
        """Give what there is."""
        return Listed(tuple(self._found.values()), tuple(self._unreadable.values()))


@final
class KnownObjects:
    """Which objects there are: the uid of each by its name, empty where it has none."""

    def __init__(self, limit: int) -> None:
        """Begin with none; there may be *limit*."""
        self._limit = limit
        self._uids: dict[str, str] = {}

    def replace(self, uids: dict[str, str]) -> None:
        """Know these, and no others."""
        self._uids = uids

    def add(self, metadata: Mapping[str, Any]) -> None:
        """Know the object of *metadata*."""
        self._uids[metadata["name"]] = uid_of(metadata)
        bound("it", len(self._uids), self._limit, "objects")

    def remove(self, metadata: Mapping[str, Any]) -> Deleted | None:
        """Hear that the object of *metadata* is gone; None where there is another of its name by now."""
        name, uid = metadata["name"], uid_of(metadata)
        if not isinstance(name, str):
            message = "an object without a name is gone"
            raise TypeError(message)
        known = self._uids.get(name, "")
        if uid and known and uid != known:
            return None
        self._uids.pop(name, None)
        return Deleted(name)


def bound(what: str, count: int, limit: int, of: str) -> None:
    """Refuse a *count* above *limit* with a `ValueError`."""
    if count > limit:
        message = f"{what} has more than {limit} {of}"
        raise ValueError(message)


def check_version(version: object) -> str:
    """Refuse a resource version that a list cannot have with a `ValueError`."""
    if not (version and isinstance(version, str)):
        # Without one the server would tell all objects again, and never which are gone.
        message = "it has no resource version"
        raise ValueError(message)
    bound("its resource version", len(version), _MAX_VERSION, "characters")
    return version


def failure_of(status: Mapping[str, Any]) -> Failure:
    """Read the Status that an API server sends instead of what was wanted; parts that are malformed count as absent."""
    code, message, details = status.get("code"), status.get("message"), status.get("details")
    retry_after = details.get("retryAfterSeconds") if isinstance(details, Mapping) else None
    return Failure(
        message if isinstance(message, str) and message else "the server ended the watch with an error",
        code if type(code) is int else None,
        float(retry_after) if type(retry_after) is int else None,
    )
