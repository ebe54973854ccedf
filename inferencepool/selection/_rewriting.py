"""Model rewrites: which model a request gets that asked for another."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate
from random import Random

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import InferenceModelRewrite, RewriteRule

__all__ = ["ModelRewrites", "RewriteDecision"]


_OLDEST = datetime.min.replace(tzinfo=UTC)


@attrs.frozen
class RewriteDecision:
    """
    What a rewrite decided.

    Attributes:
        model: The model that the request gets.
        rewrite: Name of the `InferenceModelRewrite` that decided so.
    """

    model: str
    rewrite: str


@attrs.frozen
class _Choice:
    """The targets of a rule: a decision for each, and the weights up to and with each."""

    decisions: tuple[RewriteDecision, ...]
    weights: tuple[int, ...]


class ModelRewrites:
    """
    Decides rewrites by the rules of the reference, in constant time. Never changes.

    A rule that names the model wins over one for all models; then that of the oldest object, then the first in its
    object's list. Objects of the same age are taken by namespace and name, which the reference leaves open; one without
    a time counts as the oldest, as there.

    Of the targets of a rule one is chosen by weight. If none has a weight, all are alike; if some have, the others are
    never chosen. A rule without targets says nothing to rewrite to, so it is passed over as if it were not there; the
    reference refuses the requests it fits.

    Args:
        rewrites: The rewrites of one pool.

    Raises:
        InvalidDocumentError: The time of an object's creation is not one.

    Attributes:
        models: The names of models in all rules: those asked for and those given.
    """

    def __init__(self, rewrites: Iterable[InferenceModelRewrite] = ()) -> None:
        exact: dict[str, _Choice] = {}
        generic: _Choice | None = None
        for rewrite in sorted(rewrites, key=_age):
            for rule in rewrite.rules:
                if not rule.targets:
                    continue
                choice = _to_choice(rule, rewrite.metadata.name)
                for model in rule.models:
                    exact.setdefault(model, choice)
                if not rule.models and generic is None:
                    generic = choice
        self._exact = exact
        self._generic = generic
        choices = (*exact.values(), *([generic] if generic is not None else []))
        given = (decision.model for choice in choices for decision in choice.decisions)
        self.models: frozenset[str] = frozenset((*exact, *given))

    def __bool__(self) -> bool:
        """Tell whether there is any rule."""
        return bool(self.models)

    def resolve(self, model: str | None, rng: Random) -> RewriteDecision | None:
        """
        Decide what a request gets that asked for *model*.

        Args:
            model: The model asked for; None where the request names none, which only a rule for all models fits.
            rng: Chooses among several targets.

        Returns:
            The decision; None when no rule fits.
        """
        choice = self._generic if model is None else self._exact.get(model, self._generic)
        if choice is None:
            return None
        if len(choice.decisions) == 1:
            return choice.decisions[0]
        return choice.decisions[bisect_right(choice.weights, rng.randrange(choice.weights[-1]))]


def _age(rewrite: InferenceModelRewrite) -> tuple[datetime, str, str]:
    meta = rewrite.metadata
    created = _OLDEST if meta.creation_timestamp is None else _to_time(meta.creation_timestamp)
    if created is None:
        reason = f"{meta.creation_timestamp!r} is not a time of RFC 3339, such as 2026-01-31T12:00:00Z"
        issue = Issue("metadata.creationTimestamp", reason, meta.creation_timestamp)
        raise InvalidDocumentError([issue], f"InferenceModelRewrite {meta.namespace}/{meta.name}")
    return created, meta.namespace, meta.name


def _to_time(text: str) -> datetime | None:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return None if time.tzinfo is None else time


def _to_choice(rule: RewriteRule, name: str) -> _Choice:
    weighted = [target for target in rule.targets if target.weight]
    chosen = weighted or rule.targets
    return _Choice(
        tuple(RewriteDecision(target.model_rewrite, name) for target in chosen),
        tuple(accumulate(target.weight or 1 for target in chosen)),
    )
