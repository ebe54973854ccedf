"""The picker that the ranking is made for: the highest score wins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.model import EndpointSet, InferenceRequest, any_slot, next_slot
from inferencepool.scheduling._candidate_set import Standing

__all__ = ["MaxScorePicker"]


@attrs.define(eq=False, on_setattr=attrs.setters.NO_OP)
class MaxScorePicker:
    """
    Pick the endpoint with the highest score; fallbacks follow in order of score.

    *When to choose it:* nearly always; picks that reserve spread a burst without any randomness beyond ties.

    *Looks at:* the scores.

    *Configuration:* type ``max-score-picker``; ``maxNumOfEndpoints`` (default 1), ``tieBreak`` (default ``random``).

    Equal scores are settled by *tie_break*: ``random`` draws one of them uniformly, ``rotation`` takes them in turn
    (the next slot after the one taken last). The rotation's position is the only state; the scheduler's lock guards it.

    Raises:
        ConfigurationError: *tie_break* is neither ``random`` nor ``rotation``.
    """

    tie_break: Literal["random", "rotation"] = attrs.field(default="random", kw_only=True)
    _last: int = attrs.field(default=-1, init=False, repr=False)

    @tie_break.validator
    def _check_tie_break(self, _: object, value: object) -> None:
        if value not in ("random", "rotation"):
            message = f"max-score-picker: tie_break: {value!r} is neither 'random' nor 'rotation'"
            raise ConfigurationError(message)

    def choose(self, _request: InferenceRequest, standing: Standing, count: int, /) -> Sequence[int]:
        """Choose the *count* best members, in O(count) searches."""
        if count == 1 and self.tie_break == "random":
            return [standing.any_best()]
        among, tied, chosen = standing.members, standing.best(), list[int]()
        while among and len(chosen) < count:
            tied = tied or standing.best(among)
            slot = self._one_of(tied, standing)
            chosen.append(slot)
            tied ^= 1 << slot
            among ^= 1 << slot
        self._last = chosen[0]
        return chosen

    def _one_of(self, tied: EndpointSet, standing: Standing) -> int:
        return any_slot(tied, standing.rng) if self.tie_break == "random" else next_slot(tied, self._last)
