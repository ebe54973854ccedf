"""What a server refuses just after its start, as the real one does while it fills its caches."""

from __future__ import annotations

from collections import Counter
from threading import Lock
from typing import final

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._access import ADMIN, action_of
from inferencepool.lab.apiserver._requests import ApiRequest
from inferencepool.lab.apiserver._resources import Resource

__all__ = ["StartUp"]

_READING = ("list", "watch")


@final
class StartUp:
    """
    Refuses the first requests after a start, counted for each user and each resource. Thread-safe.

    Roles are not known yet: users other than the administrator have no rights. Then caches are empty: lists and watches
    are to come back in a second.
    """

    def __init__(self, refused: int) -> None:
        """Refuse *refused* requests of each kind after every `begin`; none before the first."""
        self._refused = refused
        self._lock = Lock()
        self._left: Counter[str] = Counter()
        self._begun = False

    def begin(self) -> None:
        """Start anew."""
        with self._lock:
            self._left.clear()
            self._begun = True

    def check(self, user: str, request: ApiRequest, resource: Resource) -> None:
        """
        Let a request pass, or not yet.

        Raises:
            RefusedError: 403, the roles of *user* are not known yet; 429, the objects of *resource* are not.
        """
        if user != ADMIN and self._is_early(f"user {user}"):
            raise refusals.forbidden(resource, request.target.name, user, str(action_of(request)))
        if request.verb in _READING and self._is_early(f"resource {resource.qualified}"):
            raise refusals.initializing()

    def _is_early(self, what: str) -> bool:
        with self._lock:
            early = self._begun and self._left[what] < self._refused
            self._left[what] += early
            return early
