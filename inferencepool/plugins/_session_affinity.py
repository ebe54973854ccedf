"""Strategies that keep the requests of a session at one endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import attrs

from inferencepool._checks import checked_method
from inferencepool.model import EndpointSet, InferenceRequest
from inferencepool.plugins._load_bound import LoadBound, checked_bound
from inferencepool.plugins._sessions import EncodedEndpoint, SessionHome
from inferencepool.scheduling import CandidateSet

__all__ = ["SessionAffinityFilter", "SessionAffinityScorer"]

_SCORER = "session-affinity-scorer"
_FILTER = "session-affinity-filter"


@attrs.frozen(eq=False)
class SessionAffinityScorer:
    """
    Prefer the endpoint that the earlier requests of the session went to.

    It scores 1 and all others 0; without a session, all score 0.

    *When to choose it:* when conversations should stay where their KV cache is, but load may move them: by how much is
    the scorer's weight against those of load scorers, or a *load_bound*.

    *Looks at:* a request header; with a bound at the picks in flight.

    *Configuration:* type ``session-affinity-scorer``; ``strategy`` (``encoded_endpoint_header``, the default, or
    ``session_id``), ``encodedEndpointHeaderConfig`` (``header``, default ``x-session-token``) and ``sessionIdConfig``
    (``sources``, a list of ``header``, default ``x-session-id``; ``evictionTtlSeconds``, default 300;
    ``evictionSweepSeconds``, which changes nothing, since sessions expire on time; and beyond the reference
    ``capacity``, the most sessions, default 262144), and beyond the reference ``loadFactor`` and ``loadSlack``, see
    `LoadBound`.

    Attributes:
        home: Knows where sessions are at home: `EncodedEndpoint` or `SessionBindings`.
        load_bound: From when on endpoints are crowded and score 0; None for never.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    home: SessionHome = attrs.field(
        factory=EncodedEndpoint, validator=checked_method(_SCORER, "slot_of", "session home")
    )
    load_bound: LoadBound | None = attrs.field(default=None, validator=checked_bound(_SCORER))

    @property
    def producers(self) -> tuple[object, ...]:
        """What it shares with other strategies."""
        return (self.home,)

    def affinities_among(
        self, request: InferenceRequest, candidates: CandidateSet, /
    ) -> Sequence[tuple[float, EndpointSet]]:
        """Give the one endpoint, in O(1)."""
        slot = self.home.slot_of(request, candidates.snapshot)
        if slot is None or (self.load_bound is not None and not self.load_bound.allows(slot, candidates)):
            return ()
        return ((1.0, 1 << slot),)

    def notes(self, request: InferenceRequest, candidates: CandidateSet, /) -> Sequence[tuple[str, EndpointSet]]:
        """Tell where the session is at home."""
        return _notes(self.home, self.load_bound, request, candidates)


@attrs.frozen(eq=False)
class SessionAffinityFilter:
    """
    Keep only the endpoint that the earlier requests of the session went to, as long as it is a candidate.

    Without a session, or where its endpoint is gone or not allowed, all are kept. The others remain as fallbacks.

    *When to choose it:* when a session must stay at its endpoint whatever the load; a *load_bound* lets it go at last.

    *Looks at:* a request header; with a bound at the picks in flight.

    *Configuration:* type ``session-affinity-filter``; ``strategy``, ``encodedEndpointHeaderConfig``,
    ``sessionIdConfig``, ``loadFactor`` and ``loadSlack`` as in `SessionAffinityScorer`.

    Attributes:
        home: Knows where sessions are at home.
        load_bound: From when on an endpoint is crowded, so that all are kept; None for never.

    Raises:
        ConfigurationError: A parameter is out of its range or of the wrong type.
    """

    is_preference: ClassVar[bool] = True

    home: SessionHome = attrs.field(
        factory=EncodedEndpoint, validator=checked_method(_FILTER, "slot_of", "session home")
    )
    load_bound: LoadBound | None = attrs.field(default=None, validator=checked_bound(_FILTER))

    @property
    def producers(self) -> tuple[object, ...]:
        """What it shares with other strategies."""
        return (self.home,)

    def narrow(self, request: InferenceRequest, candidates: CandidateSet, /) -> EndpointSet:
        """Keep the one endpoint, in O(1)."""
        members = candidates.members
        slot = self.home.slot_of(request, candidates.snapshot)
        if slot is None or (self.load_bound is not None and not self.load_bound.allows(slot, candidates)):
            return members
        return members & 1 << slot or members

    def notes(self, request: InferenceRequest, candidates: CandidateSet, /) -> Sequence[tuple[str, EndpointSet]]:
        """Tell where the session is at home."""
        return _notes(self.home, self.load_bound, request, candidates)


def _notes(
    home: SessionHome, bound: LoadBound | None, request: InferenceRequest, candidates: CandidateSet
) -> Sequence[tuple[str, EndpointSet]]:
    slot = home.slot_of(request, candidates.snapshot)
    if slot is None:
        return ()
    crowded = bound is not None and not bound.allows(slot, candidates)
    return (("home of the session, but crowded" if crowded else "home of the session", 1 << slot),)
