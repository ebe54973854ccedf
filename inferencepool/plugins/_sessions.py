"""Where the requests of a session go: in a token that the client brings back, or remembered here."""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import inf
from threading import Lock
from typing import Any, Protocol

import attrs

from inferencepool._checks import checked_number, checked_text, checked_whole_number, refusal
from inferencepool._lock import tolerant_lock
from inferencepool.model import InferenceRequest, Snapshot
from inferencepool.scheduling import PickResult

__all__ = ["EncodedEndpoint", "SessionBindings", "SessionHome"]

_NAME = "session-affinity"

# The names of a pod and its namespace have at most 253 characters each; four characters carry three of them.
_LONGEST_TOKEN = 1024

# Most sessions that one pick forgets; each brings one at most.
_AT_ONCE = 16

# Ids that are longer are kept as a digest, so that they take no more memory than others.
_LONGEST_ID = 128


def _digest_of(name: str) -> str:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _to_lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _to_names(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) and name for name in names):
        raise refusal(_NAME, "headers", value, "is not a list of one or more header names")
    return tuple(name.lower() for name in names)


class SessionHome(Protocol):
    """**Protocol:** knows which endpoint the earlier requests of a session went to."""

    def slot_of(self, request: InferenceRequest, snapshot: Snapshot, /) -> int | None:
        """Find the endpoint in *snapshot* that the request's session is at home at; None when there is none."""
        ...


@attrs.frozen(eq=False)
class EncodedEndpoint:
    """
    The endpoint in a token that the response carries and later requests bring back: the Base64 of its id.

    Keeps nothing: any number of pickers agree, and a restart forgets no session. A token that cannot be read, or names
    an endpoint that is gone, is no preference.

    Attributes:
        header: Name of the header of requests and responses; kept in lower case.
    """

    header: str = attrs.field(default="x-session-token", converter=_to_lower, validator=checked_text(_NAME))

    def slot_of(self, request: InferenceRequest, snapshot: Snapshot, /) -> int | None:
        """Read the request's token, in O(1)."""
        token = request.headers.get(self.header)
        if not token or len(token) > _LONGEST_TOKEN:
            return None
        try:
            return snapshot.fleet.by_id.get(b64decode(token, validate=True).decode())
        except ValueError:
            return None

    def response_headers(self, result: PickResult, /) -> Mapping[str, str]:
        """Give the token of the endpoint that was picked."""
        return {self.header: b64encode(result.endpoint.id.encode()).decode()}


@attrs.define(eq=False)
class _Binding:
    """
    Where a session is. Of what is looked up without a lock, nothing changes but *expires*.

    Attributes:
        endpoint_id: Its endpoint.
        slot: Its slot when it was picked last.
        birth: Tells it from others in that slot.
        expires: When the session is forgotten.
        former: The endpoint that is away and that it returns to, the birth that it had, and until when.
    """

    endpoint_id: str
    slot: int
    birth: int
    expires: float
    former: tuple[str, int, float] | None

    def moved_from(self, endpoint_id: str, now: float) -> tuple[str, int, float] | None:
        """Give where a session returns to that was picked to *endpoint_id*; None for nowhere."""
        former = self.former
        if former is None and self.endpoint_id != endpoint_id:
            former = (self.endpoint_id, self.birth, self.expires)
        return None if former is None or former[0] == endpoint_id or former[2] <= now else former


@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class SessionBindings:
    """
    The endpoint of each session, remembered from its first request until none came for a while.

    A session is bound by its first pick, stays bound while it is picked to the same endpoint now and then, and moves
    when its endpoint is gone; it returns when an endpoint of that id (the same pod's name) is back within *ttl* of its
    last pick there. A pick elsewhere while its endpoint is still there moves nothing. The sessions that were not seen
    for longest go first where there are too many.

    Thread-safe: one lock guards the bindings; looking one up takes no lock.

    Attributes:
        headers: Names of the headers that may hold a session's id, the first that is there counts; in lower case.
        ttl: Seconds after which a session that sends nothing is forgotten, above 0.
        capacity: Most sessions that are remembered, 1 or more; each takes about 400 bytes.
        clock: Seconds that never run backwards.
    """

    headers: tuple[str, ...] = attrs.field(default=("x-session-id",), converter=_to_names)
    ttl: float = attrs.field(default=300.0, validator=checked_number(_NAME, 1e-3))
    capacity: int = attrs.field(default=1 << 18, validator=checked_whole_number(_NAME, 1))
    clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    # No session expires before.
    _next_expiry: float = attrs.field(default=-inf, init=False, repr=False)
    _bound: OrderedDict[str, _Binding] = attrs.field(factory=OrderedDict, init=False, repr=False)
    _lock: Lock = attrs.field(factory=tolerant_lock, init=False, repr=False)

    def slot_of(self, request: InferenceRequest, snapshot: Snapshot, /) -> int | None:
        """Look the request's session up, in O(1); the same answer throughout a pick and for its explanation."""
        produced = request.produced
        if produced is None:
            return self._slot_of(self._id_of(request), snapshot)
        found = produced.get(self)
        if found is None:
            name = self._id_of(request)
            found = produced[self] = (name, self._slot_of(name, snapshot))
        slot: int | None = found[1]
        return slot

    def picked(self, result: PickResult, /) -> None:
        """Bind the session, or refresh what binds it."""
        produced = result.produced
        found = produced.get(self) if produced else None
        name = self._id_of(result.request) if found is None else found[0]
        if not name:
            return
        now, bound = self.clock(), self._bound
        with self._lock:
            known = bound.get(name)
            if known is not None and known.former is None and known.slot == result.slot and known.birth == result.birth:
                # Most are where they were.
                known.expires = now + self.ttl
            elif (
                known is not None and self._slot_of(name, result.snapshot) != result.slot and self._stays(name, result)
            ):
                return
            else:
                endpoint_id = result.endpoint.id
                former = None if known is None else known.moved_from(endpoint_id, now)
                bound[name] = _Binding(endpoint_id, result.slot, result.birth, now + self.ttl, former)
            bound.move_to_end(name)
            if now >= self._next_expiry or len(bound) > self.capacity:
                self._forget(now)

    def _stays(self, name: str, result: PickResult) -> bool:
        """Tell whether the session's endpoint is still there, so that a pick elsewhere does not move it."""
        home = self._slot_of(name, result.snapshot)
        return home is not None and not result.departed >> home & 1

    def _forget(self, now: float) -> None:
        """Forget what is over, and what is too many: they are in the order of their time, so it is in front."""
        bound = self._bound
        for _ in range(_AT_ONCE):
            oldest = next(iter(bound))
            self._next_expiry = bound[oldest].expires
            if self._next_expiry > now and len(bound) <= self.capacity:
                break
            del bound[oldest]

    def __len__(self) -> int:
        return len(self._bound)

    def _id_of(self, request: InferenceRequest) -> str:
        for header in self.headers:
            name = request.headers.get(header)
            if name:
                return name if len(name) <= _LONGEST_ID else _digest_of(name)
        return ""

    def _slot_of(self, name: str, snapshot: Snapshot) -> int | None:
        found = self._bound.get(name)
        if found is None:
            return None
        now, fleet, former, slot = self.clock(), snapshot.fleet, found.former, found.slot
        if former is not None and former[2] > now:
            home = fleet.by_id.get(former[0])
            # A snapshot may still have the one that went.
            if home is not None and fleet.births[home] != former[1]:
                return home
        if found.expires <= now:
            return None
        births = fleet.births
        if slot < len(births) and births[slot] == found.birth:
            return slot
        # It is away; or it was, and has another slot.
        return fleet.by_id.get(found.endpoint_id)
