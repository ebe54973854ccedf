"""Endpoints that are made for prompts of a certain length."""

from __future__ import annotations

import re
from collections.abc import Sequence

import attrs

from inferencepool._checks import checked_flag, checked_text
from inferencepool.model import EndpointSet, Fleet, InferenceRequest, Snapshot, to_endpoint_set
from inferencepool.plugins._tokens import estimate_tokens
from inferencepool.scheduling import CandidateSet

__all__ = ["CONTEXT_LENGTH_LABEL", "ContextLengthAware"]

CONTEXT_LENGTH_LABEL = "llm-d.ai/context-length-range"
"""The pod label that tells which lengths of prompts a model server is made for, ``min-max`` in tokens."""

_NAME = "context-length-aware"
_RANGE = re.compile(r"\s*(\d{1,18})\s*-\s*(\d{1,18})\s*", re.ASCII)

# Lowest and highest number of tokens; None for a label that cannot be read.
_Range = tuple[int, int] | None


@attrs.define(eq=False)
class ContextLengthAware:
    """
    Prefer endpoints that are made for prompts of this length, or keep only those.

    A scorer, and a filter where *enable_filtering* is set; list it as both to have both. A label ``min-max`` tells for
    how many tokens an endpoint is made. Within its range a score is 0.3 and more: the narrower the range, and the more
    of it is left, the higher; outside of it below 0.3, the less the farther. Endpoints without the label score 0.5, and
    those whose label cannot be read 0. As a filter it keeps those without the label, and those whose range holds the
    prompt.

    *When to choose it:* when some endpoints are set up for long contexts, and short prompts should not fill them.

    *Looks at:* the length of the prompt, and a label of the endpoints.

    *Configuration:* type ``context-length-aware``; ``label`` (default ``llm-d.ai/context-length-range``) and
    ``enableFiltering`` (default false).

    The ranges of the current fleet are its only state, replaced as a whole.

    Attributes:
        label: Name of the label.
        enable_filtering: Whether it drops endpoints, where it is used as a filter.

    Raises:
        ConfigurationError: *label* is empty, or a parameter has the wrong type.
    """

    label: str = attrs.field(default=CONTEXT_LENGTH_LABEL, validator=checked_text(_NAME))
    enable_filtering: bool = attrs.field(default=False, validator=checked_flag(_NAME))
    _known: tuple[Fleet, EndpointSet, dict[_Range, EndpointSet]] | None = attrs.field(
        default=None, init=False, repr=False
    )

    def affinities(self, request: InferenceRequest, snapshot: Snapshot, /) -> Sequence[tuple[float, EndpointSet]]:
        """Give one set for each range, in O(different ranges)."""
        unlabeled, by_range = self._sets_of(snapshot.fleet)
        tokens = estimate_tokens(request)
        sets = [(_score(tokens, item), members) for item, members in by_range.items() if item is not None]
        return [(0.5, unlabeled), *sets]

    def narrow(self, request: InferenceRequest, candidates: CandidateSet, /) -> EndpointSet:
        """Keep whose range holds the prompt, in O(different ranges); all where filtering is not enabled."""
        if not self.enable_filtering:
            return candidates.members
        kept, by_range = self._sets_of(candidates.snapshot.fleet)
        tokens = estimate_tokens(request)
        for item, members in by_range.items():
            if item is not None and item[0] <= tokens <= item[1]:
                kept |= members
        return kept

    def prepare(self, snapshot: Snapshot, /) -> None:
        """Sort the endpoints of a new fleet by their ranges, in O(endpoints)."""
        self._sets_of(snapshot.fleet)

    def _sets_of(self, fleet: Fleet) -> tuple[EndpointSet, dict[_Range, EndpointSet]]:
        known = self._known
        if known is None or known[0] is not fleet:
            slots: dict[str | None, list[int]] = {}
            for slot in fleet.slots:
                slots.setdefault(fleet.at(slot).labels.get(self.label), []).append(slot)
            unlabeled = to_endpoint_set(slots.pop(None, ()))
            by_range: dict[_Range, EndpointSet] = {}
            for text, found in slots.items():
                item = _read(text or "")
                by_range[item] = by_range.get(item, 0) | to_endpoint_set(found)
            known = self._known = (fleet, unlabeled, by_range)
        return known[1], known[2]


def _read(text: str) -> _Range:
    found = _RANGE.fullmatch(text)
    if found is None or int(found[1]) > int(found[2]):
        return None
    return int(found[1]), int(found[2])


def _score(tokens: int, item: tuple[int, int]) -> float:
    """Score a prompt against a range; the constants are the reference's."""
    low, high = item
    if not low <= tokens <= high:
        return 0.3 / (1 + (low - tokens if tokens < low else tokens - high) / 1000)
    width = high - low
    if not width:
        return 1.0
    return 0.3 + 0.7 * (0.7 / (1 + width / 10_000) + 0.3 * (high - tokens) / width)
