"""
What the scorers of a profile give, as costs that add up exactly.

A cost is a score negated: the less, the better. Scores are counted in units of 2^-30 (`ONE` of them are the score 1.0)
and held in floats that are whole numbers. Sums of whole floats are exact below 2^53, in whatever order they are added,
so equal scores tie; and floats sort several times as fast as ints of that size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from math import isfinite, isnan
from operator import add, itemgetter
from typing import Any, TypeAlias

import attrs

from inferencepool.errors import StrategyError
from inferencepool.model import Candidates, EndpointSet, InferenceRequest, Snapshot, to_endpoint_set
from inferencepool.scheduling._candidate_set import CandidateSet
from inferencepool.scheduling._load import Demand, LinearLoad
from inferencepool.scheduling._profile import SchedulingProfile, WeightedScorer
from inferencepool.scheduling._strategies import quoted, strategy_name

__all__ = [
    "MAX_LOAD",
    "ONE",
    "Bonuses",
    "Charges",
    "FleetTerms",
    "bonuses",
    "burden_of",
    "demand_of",
    "demand_terms",
    "fleet_terms",
    "load_of",
    "plain_costs",
    "scores_of",
]

ONE = float(1 << 30)
"""The score 1.0 in the units in which scores are summed."""

MAX_LOAD = 2**31 - 1
"""Largest load that a load scorer may tell; keeps every sum exact."""

# How far a load's step may be from a whole number of units, as a part of it, to be rounded: where it is more, sums of
# many steps would be off by more than that part of the weight.
_EXACT = 2.0**-20

# Adding this number and taking it away again rounds a float to a whole one: floats of its size have no fraction.
_ROUND = 1.5 * (1 << 52)

_FIRST = itemgetter(0)

_PLAIN = (float, int)
_SEQUENCES = (tuple, list)
_NOTHING: tuple[()] = ()

Bonuses: TypeAlias = list[list[tuple[float, EndpointSet]]]
"""For each sparse scorer with a preference: its sets with what they take off the cost, best first."""

Charges: TypeAlias = tuple[tuple[int, float], ...]
"""What amounts in flight cost: the number of a measure in the profile, and the cost of one unit, for each scorer."""


def _whole(cost: float) -> float:
    return cost + _ROUND - _ROUND


def burden_of(charges: Charges, amounts: Sequence[Sequence[int]], slot: int) -> float:
    """Tell what the *amounts* in flight (by measure, then by slot) cost the endpoint in *slot*."""
    return sum([_whole(amounts[index][slot] * scale) for index, scale in charges])


def scores_of(scorer: WeightedScorer, scores: Sequence[float], count: int) -> Sequence[float]:
    """
    Check what a scorer gave for *count* candidates, and clamp it to 0..1.

    Raises:
        StrategyError: A wrong number of scores, one that is no number, or NaN.
    """
    try:
        return _scores_of(scorer, scores, count)
    except StrategyError:
        raise
    except Exception as error:
        message = f"scorer {scorer.name}: gave no sequence of numbers: {error}"
        raise StrategyError(message) from error


def _scores_of(scorer: WeightedScorer, scores: Sequence[float], count: int) -> Sequence[float]:
    given, total = len(scores), sum(scores)
    if given != count:
        message = f"scorer {scorer.name}: gave {given} scores for {count} candidates"
        raise StrategyError(message)
    if type(total) not in _PLAIN:
        # Numbers of other kinds may be less exact, or not mix with floats.
        scores = list(map(float, scores))
    if isnan(total):
        for index, score in enumerate(scores):
            if isnan(score):
                message = (
                    f"scorer {scorer.name}: gave NaN for candidate {index} of {count}; scores are numbers from 0 to 1"
                )
                raise StrategyError(message)
    if count and (min(scores) < 0 or max(scores) > 1):
        return [0.0 if score < 0 else min(score, 1.0) for score in scores]
    return scores


def load_of(scorer: WeightedScorer, candidates: Candidates) -> LinearLoad:
    """
    Ask a load scorer and check what it gives.

    Raises:
        StrategyError: A wrong number of loads, one that is no whole number, or a step that is negative or not finite.
    """
    load: Any = scorer.ask(candidates)
    if type(load) is not LinearLoad:
        message = f"scorer {scorer.name}: gave {quoted(load)}, not a LinearLoad"
        raise StrategyError(message)
    try:
        wrong = _wrong_with(load, len(candidates))
    except Exception as error:
        message = f"scorer {scorer.name}: gave a LinearLoad that cannot be read: {error}"
        raise StrategyError(message) from error
    if wrong:
        message = f"scorer {scorer.name}: gave {wrong}"
        raise StrategyError(message)
    if type(load.step) in _PLAIN and (load.pending_step is None or type(load.pending_step) in _PLAIN):
        return load
    pending_step = None if load.pending_step is None else float(load.pending_step)
    return attrs.evolve(load, step=float(load.step), pending_step=pending_step)


def _wrong_with(load: LinearLoad, count: int) -> str:
    """Tell what is wrong with *load* for *count* candidates; empty for nothing."""
    loads: Any = load.loads
    zero: Any = load.zero
    step: Any = load.step
    pending_step: Any = load.pending_step
    is_relative: Any = load.is_relative
    if len(loads) != count or type(sum(loads)) is not int or type(zero) is not int:
        found = f"{len(loads)} loads for {count} candidates"
        return found if len(loads) != count else "loads that are not whole numbers"
    if loads and (min(loads) < -MAX_LOAD or max(loads) > MAX_LOAD or abs(zero) > MAX_LOAD + 1):
        return f"loads or a zero outside -{MAX_LOAD} to {MAX_LOAD}"
    if not (isfinite(step) and step >= 0):
        return f"the step {quoted(step)}, not a finite number of 0 or more"
    if pending_step is not None and not (isfinite(pending_step) and pending_step >= 0):
        return f"the pending_step {quoted(pending_step)}, not None or a finite number of 0 or more"
    if type(is_relative) is not bool:
        return f"is_relative {quoted(is_relative)}, not True or False"
    return "a load of a measure that is relative to the candidates" if load.of is not None and load.is_relative else ""


def demand_of(measure: Any, request: InferenceRequest, snapshot: Snapshot) -> Demand:
    """
    Ask a measure how much *request* adds, and check what it gives.

    Raises:
        StrategyError: It gave no `Demand`, or amounts that are no whole numbers from 0 to 2^31 - 1.
    """
    demand: Any = measure.amounts(request, snapshot)
    if type(demand) is not Demand:
        message = f"measure {strategy_name(measure)}: gave {quoted(demand)}, not a Demand"
        raise StrategyError(message)
    amounts: tuple[Any, ...] = (demand.amount,)
    less: Any = demand.less
    if less is not _NOTHING:
        if type(less) not in _SEQUENCES or not all(map(_is_amount_and_set, less)):
            message = f"measure {strategy_name(measure)}: gave less {quoted(less)}, not pairs of an amount and a set"
            raise StrategyError(message)
        amounts += tuple(map(_FIRST, less))
    for amount in amounts:
        if type(amount) is not int or not 0 <= amount <= MAX_LOAD:
            message = (
                f"measure {strategy_name(measure)}: gave the amount {quoted(amount)}, "
                f"not a whole number from 0 to {MAX_LOAD}"
            )
            raise StrategyError(message)
    return demand


def _is_amount_and_set(pair: Any) -> bool:
    return type(pair) is tuple and len(pair) == 2 and type(pair[1]) is int and pair[1] >= 0  # noqa: PLR2004 - a pair


def demand_terms(charges: Charges, demands: Sequence[Demand]) -> tuple[float, Bonuses]:
    """
    Tell what a request's own *demands* (by measure) cost.

    Returns:
        What they cost every endpoint, and what is taken off that for those that it asks less of.
    """
    toll, found = 0.0, Bonuses()
    for index, scale in charges:
        demand = demands[index]
        most = _whole(demand.amount * scale)
        toll += most
        sets = [(most - _whole(amount * scale), members) for amount, members in demand.less if members]
        sets = [item for item in sets if item[0] > 0]
        if sets:
            sets.sort(key=_FIRST, reverse=True)
            found.append(sets)
    return toll, found


@attrs.frozen(eq=False, slots=False)
class FleetTerms:
    """
    What the scorers that ignore the request give a set of candidates.

    Attributes:
        costs: Cost of each candidate with nothing pending, in their order.
        step: What one more pending request adds to the cost.
        divisible: Whether a part of the candidates that holds all *extremes* costs the same alone as among these.
        charges: What amounts in flight add to the cost.
    """

    costs: list[float]
    step: float
    divisible: bool
    charges: Charges
    _slots: Sequence[int]
    _relative: Sequence[Sequence[int]]

    @cached_property
    def extremes(self) -> tuple[EndpointSet, ...]:
        """For each load that is scored relative to the others: who has the lowest, and who has the highest."""
        return tuple(
            to_endpoint_set(slot for slot, load in zip(self._slots, loads, strict=True) if load == edge)
            for loads in self._relative
            for edge in {min(loads), max(loads)}
        )


def fleet_terms(profile: SchedulingProfile, candidates: Candidates) -> FleetTerms:
    """
    Ask all scorers that ignore the request, in O(candidates).

    Raises:
        StrategyError: A scorer broke its contract.
    """
    costs: list[float] = []
    step, divisible = 0.0, True
    relative, charges = [], []
    for scorer in profile.scorers_of("score_load"):
        load = load_of(scorer, candidates)
        if load.of is not None:
            scale = load.step * scorer.weight * ONE
            charges.append((_index_of(scorer, load, profile), scale))
            costs = _add(costs, [_whole((held - load.zero) * scale) for held in load.loads])
            continue
        scale = load.step * scorer.weight * ONE
        # However small the step: one request more must not cost nothing.
        unit = max(1.0, _whole(scale)) if load.step else 0.0
        costs = _add(costs, _costs_of(load, scale, unit))
        if load.pending_step is not None:
            unit = max(1.0, _whole(load.pending_step * scorer.weight * ONE)) if load.pending_step else 0.0
        step += unit
        if load.is_relative:
            relative.append(load.loads)
    for scorer in profile.scorers_of("score_endpoints"):
        scale = scorer.weight * ONE
        scores = scores_of(scorer, scorer.ask(candidates), len(candidates))
        costs = _add(costs, [_ROUND - (score * scale + _ROUND) for score in scores])
        divisible = divisible and bool(getattr(scorer.scorer, "pointwise", False))
    return FleetTerms(costs or [0.0] * len(candidates), step, divisible, tuple(charges), candidates.slots, relative)


def _index_of(scorer: WeightedScorer, load: LinearLoad, profile: SchedulingProfile) -> int:
    for index, measure in enumerate(profile.parts_with("amounts")):
        if measure is load.of:
            return index
    message = f"scorer {scorer.name}: gave a load of {quoted(load.of)}, which no strategy of the profile names"
    raise StrategyError(message)


def _add(sums: list[float], more: list[float]) -> list[float]:
    return list(map(add, sums, more)) if sums else more


def _costs_of(load: LinearLoad, scale: float, unit: float) -> list[float]:
    """
    Give the cost of each load, where one of it costs *scale*, and *unit* as a whole number.

    Steps that are nearly whole are rounded, so that one waiting request and one pending request cost the same to the
    last unit, and tie. Others span so many loads that the cost of each is rounded instead.
    """
    loads, zero = load.loads, load.zero
    step = unit if abs(unit - scale) <= scale * _EXACT else scale
    if loads and min(loads) >= 0 and (most := max(loads)) < len(loads):
        # Few loads differ, so most are looked up: C does that, and the floats are shared.
        return list(map([(held - zero) * step + _ROUND - _ROUND for held in range(most + 1)].__getitem__, loads))
    return [(held - zero) * step + _ROUND - _ROUND for held in loads]


def bonuses(scorers: Iterable[WeightedScorer], request: InferenceRequest, shown: Snapshot | CandidateSet) -> Bonuses:
    """
    Ask sparse *scorers* about what their kind is *shown*.

    Raises:
        StrategyError: A scorer gave something else than pairs of a number and a set.
    """
    found: Bonuses = []
    for scorer in scorers:
        given = scorer.ask(request, shown)
        scale = scorer.weight * ONE
        try:
            sets = [
                ((score if score < 1 else 1.0) * scale + _ROUND - _ROUND, members)
                for score, members in given
                if type(members) is int and members > 0 and type(score) is float and score > 0
            ]
            if len(sets) != len(given):
                sets = _read_sets(scorer, given, scale)
        except StrategyError:
            raise
        except Exception as error:
            message = f"scorer {scorer.name}: gave {quoted(given)}, not pairs of a score and an EndpointSet"
            raise StrategyError(message) from error
        if sets:
            # Most scorers give the best set first.
            if len(sets) > 1 and not (len(sets) == 2 and sets[0][0] >= sets[1][0]):  # noqa: PLR2004 - a pair
                sets.sort(key=_FIRST, reverse=True)
            found.append(sets)
    return found


def _read_sets(
    scorer: WeightedScorer, given: Iterable[tuple[Any, Any]], scale: float
) -> list[tuple[float, EndpointSet]]:
    """Leave out sets of nobody and scores of 0, and tell them from mistakes; scores may be numbers of any kind."""
    sets = []
    for score, members in given:
        if isnan(score):
            message = f"scorer {scorer.name}: gave NaN for a set of endpoints; scores are numbers from 0 to 1"
            raise StrategyError(message)
        if type(members) is not int or members < 0:
            message = f"scorer {scorer.name}: gave {quoted(members)}, not an EndpointSet"
            raise StrategyError(message)
        if members and score > 0:
            sets.append((_whole(min(float(score), 1.0) * scale), members))
    return sets


def plain_costs(
    scorers: Iterable[WeightedScorer], request: InferenceRequest, candidates: Candidates
) -> Sequence[float]:
    """
    Ask plain *scorers*. Gives the sum of their costs for each candidate.

    Raises:
        StrategyError: A scorer broke its contract.
    """
    costs = [0.0] * len(candidates)
    for scorer in scorers:
        scale = scorer.weight * ONE
        scores = scores_of(scorer, scorer.ask(request, candidates), len(candidates))
        costs = [cost - ((score * scale + _ROUND) - _ROUND) for cost, score in zip(costs, scores, strict=True)]
    return costs
