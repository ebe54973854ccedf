"""Contract checks: does a strategy keep what its protocol promises, on fleets that are likely to show it if not?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import isfinite, isnan
from numbers import Real
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.model import Candidate, Candidates
from inferencepool.scheduling import MAX_LOAD, Demand, Filter, LinearLoad, NamedFilter, Scorer, WeightedScorer
from inferencepool.testing._cases import Case, CaseCandidates, cases, picture, requests

__all__ = ["Subject", "check_filter", "check_scorer"]

# (high - low) * (1 / (high - low)) may miss 1 by a rounding error; this is far above it and far below any real fault.
_ROUNDING = 1e-9


@attrs.frozen
class Subject:
    """
    The strategy under check, and what it is asked about: the subject of the sentence that says what is wrong.

    Attributes:
        name: The strategy's role and name, such as ``scorer queue-scorer``.
        asked: What it is asked about.
    """

    name: str
    asked: str

    def require(self, condition: object, fault: str) -> None:
        """
        Expect *condition*.

        Raises:
            AssertionError: It does not hold; the message names the strategy, *fault* and the input.
        """
        if not condition:
            message = f"{self.name}: {fault}, asked about {self.asked}"
            raise AssertionError(message)

    def ask(self, method: Callable[..., Any], *inputs: Any, read: Callable[[Any], Any] = lambda given: given) -> Any:
        """
        Call *method* with *inputs* and *read* what it gives, which may be lazy.

        Raises:
            AssertionError: It raised an error, gave what cannot be read, or changed an input.
        """
        before = picture(*inputs)
        try:
            given = read(method(*inputs))
        except AssertionError:
            raise
        except Exception as error:
            message = f"{self.name}: raised {type(error).__name__}: {error}, asked about {self.asked}"
            raise AssertionError(message) from error
        self.require(picture(*inputs) == before, "changed its input")
        return given


def check_scorer(scorer: Scorer) -> None:
    """
    Check that *scorer*, of any kind, keeps its contract.

    It must give the right number of scores, numbers from 0 to 1, the same for equal input, and leave the input alone.
    Scores out of that range are clamped in a pick, yet reported here: they hide a mistake.

    Raises:
        AssertionError: It does not; the message says what is wrong, and with which input.
    """
    try:
        weighted = WeightedScorer(scorer)
    except ConfigurationError as error:
        raise AssertionError(str(error)) from error
    ask = {
        "score_endpoints": _fleet_scores,
        "score_load": _load_scores,
        "affinities": _affinities,
        "affinities_among": _affinities_among,
        "score": _plain_scores,
    }[weighted.kind]
    _check_twice(f"scorer {weighted.name}", lambda subject, case: ask(subject, weighted, case))


def check_filter(filter: Filter) -> None:
    """
    Check that *filter*, of any kind, keeps its contract.

    ``keep`` must give a bool; ``narrow`` a set of endpoints; ``filter`` candidates it was asked about, none twice. All
    must answer equal input equally, and leave it alone.

    Raises:
        AssertionError: It does not; the message says what is wrong, and with which input.
    """
    try:
        named = NamedFilter(filter)
    except ConfigurationError as error:
        raise AssertionError(str(error)) from error
    ask = {"keep": _kept, "narrow": _narrowed, "filter": _filtered}[named.kind]
    _check_twice(f"filter {named.name}", lambda subject, case: ask(subject, named, case))


def _check_twice(name: str, answer: Callable[[Subject, Case], object]) -> None:
    """Compare the answers about fleets that are equal and share no object: nothing but their values may count."""
    for case, again in zip(cases(), cases(), strict=True):
        subject = Subject(name, case.label)
        first = answer(subject, case)
        second = answer(subject, again)
        subject.require(first == second, f"gave {_short(first)}, then {_short(second)} for equal input")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:196]} ..."  # noqa: PLR2004  # what fits a few lines of a terminal


def _fleet_scores(subject: Subject, scorer: WeightedScorer, case: Case) -> object:
    candidates = case.candidates()
    scores = _check_scores(subject, subject.ask(scorer.ask, candidates), len(candidates))
    if getattr(scorer.scorer, "pointwise", False):
        for slot, score in zip(case.slots, scores, strict=True):
            alone = list(subject.ask(scorer.ask, Candidates(case.snapshot, [slot], case.pending)))
            fault = f"is pointwise, yet gave {case.snapshot.fleet.at(slot)} {score} among others and {alone} alone"
            subject.require(alone == [score], fault)
    return scores


def _plain_scores(subject: Subject, scorer: WeightedScorer, case: Case) -> object:
    candidates = case.candidates()
    return [
        _check_scores(_with(subject, request.model), subject.ask(scorer.ask, request, candidates), len(candidates))
        for request in requests()
    ]


def _with(subject: Subject, model: str) -> Subject:
    return attrs.evolve(subject, asked=f"{subject.asked} for the model {model!r}")


def _check_scores(subject: Subject, scores: Any, count: int) -> list[float]:
    is_list = hasattr(scores, "__len__") and hasattr(scores, "__iter__")
    subject.require(
        is_list and not isinstance(scores, str | Mapping | AbstractSet), f"gave {_short(scores)}, not a sequence"
    )
    subject.require(len(scores) == count, f"gave {len(scores)} scores for {count} candidates")
    for index, score in enumerate(scores):
        _check_score(subject, score, f"candidate {index} of {count}")
    return list(scores)


def _check_score(subject: Subject, score: Any, whose: str) -> None:
    subject.require(isinstance(score, Real), f"gave {score!r} for {whose}, not a number")
    subject.require(not isnan(score), f"gave NaN for {whose}")
    subject.require(0 <= float(score) <= 1, f"gave {score!r} for {whose}, not a score from 0 to 1")


def _load_scores(subject: Subject, scorer: WeightedScorer, case: Case) -> object:
    candidates = case.candidates()
    load = subject.ask(scorer.ask, candidates)
    subject.require(isinstance(load, LinearLoad), f"gave {_short(load)}, not a LinearLoad")
    if load.of is not None:
        subject.require(not load.is_relative, "gave a load of a measure that is relative to the candidates")
        _check_measure(subject, load.of, case)
    loads, zero, step = list(load.loads), load.zero, load.step
    subject.require(len(loads) == len(candidates), f"gave {len(loads)} loads for {len(candidates)} candidates")
    fault = f"gave the loads {_short(loads)} and the zero {zero!r}, not whole numbers"
    subject.require(all(type(number) is int for number in [*loads, zero]), fault)
    fault = f"gave the step {step!r}, not a finite number of 0 or more"
    subject.require(isinstance(step, Real) and isfinite(step) and float(step) >= 0, fault)
    pending_step = load.cost_of_pending
    fault = f"gave the pending_step {pending_step!r}, not None or a finite number of 0 or more"
    subject.require(isinstance(pending_step, Real) and isfinite(pending_step) and float(pending_step) >= 0, fault)
    for index, held in enumerate(loads):
        score = (zero - held) * step
        fault = f"gave candidate {index} the score {score!r} with nothing pending, not one from 0 to 1"
        subject.require(-_ROUNDING <= score <= 1 + _ROUNDING, fault)
    if not load.is_relative:
        alone = subject.ask(scorer.ask, Candidates(case.snapshot, case.slots[:1], case.pending))
        fault = "gave a zero or a step that depends on which endpoints are candidates, and is_relative is not set"
        subject.require((alone.zero, alone.step, alone.cost_of_pending) == (zero, step, pending_step), fault)
    return loads, zero, step, pending_step, load.is_relative


def _check_measure(subject: Subject, measure: Any, case: Case) -> None:
    for request in requests():
        about = _with(subject, request.model)
        demand = about.ask(measure.amounts, request, case.snapshot)
        about.require(isinstance(demand, Demand), f"has a measure that gave {_short(demand)}, not a Demand")
        for amount in (demand.amount, *(less for less, _ in demand.less)):
            fault = f"has a measure that gave the amount {amount!r}, not a whole number from 0 to {MAX_LOAD}"
            about.require(type(amount) is int and 0 <= amount <= MAX_LOAD, fault)


def _affinities(subject: Subject, scorer: WeightedScorer, case: Case) -> object:
    return _sets_of(subject, scorer, lambda: case.snapshot)


def _affinities_among(subject: Subject, scorer: WeightedScorer, case: Case) -> object:
    return _sets_of(subject, scorer, lambda: CaseCandidates.of(case))


def _sets_of(subject: Subject, scorer: WeightedScorer, shown: Callable[[], object]) -> object:
    answers = []
    for request in requests():
        about = _with(subject, request.model)
        given = about.ask(scorer.ask, request, shown())
        about.require(isinstance(given, Sequence) and not isinstance(given, str), f"gave {_short(given)}, not a list")
        for pair in given:
            is_pair = isinstance(pair, Sequence) and len(pair) == len(("score", "set"))
            about.require(is_pair, f"gave {_short(pair)}, not a pair of a score and an EndpointSet")
            score, members = pair
            _check_score(about, score, f"the set {_short(members)}")
            fault = f"gave {_short(members)}, not an EndpointSet, which is an int of 0 or more"
            about.require(isinstance(members, int) and not isinstance(members, bool) and members >= 0, fault)
        answers.append([tuple(pair) for pair in given])
    return answers


def _kept(subject: Subject, item: NamedFilter, case: Case) -> object:
    answers = []
    for slot in case.slots:
        endpoint = case.snapshot.fleet.at(slot)
        kept = subject.ask(item.ask, endpoint)
        subject.require(isinstance(kept, bool), f"gave {_short(kept)} for {endpoint}, not a bool")
        answers.append(kept)
    return answers


def _narrowed(subject: Subject, item: NamedFilter, case: Case) -> object:
    answers = []
    for request in requests():
        about, candidates = _with(subject, request.model), CaseCandidates.of(case)
        kept = about.ask(item.ask, request, candidates)
        is_set = isinstance(kept, int) and not isinstance(kept, bool) and kept >= 0
        about.require(is_set, f"gave {_short(kept)}, not an EndpointSet, which is an int of 0 or more")
        answers.append(kept & candidates.members)
    return answers


def _filtered(subject: Subject, item: NamedFilter, case: Case) -> object:
    answers = []
    for request in requests():
        about, candidates = _with(subject, request.model), case.candidates()
        kept = about.ask(item.ask, request, candidates, read=_listed)
        for candidate in kept:
            is_asked = isinstance(candidate, Candidate) and any(candidate is known for known in candidates)
            about.require(is_asked, f"gave {candidate!r}, which is none of the candidates")
        slots = [candidate.slot for candidate in kept]
        about.require(len(set(slots)) == len(slots), f"gave a candidate twice: the slots {_short(slots)}")
        answers.append(sorted(slots))
    return answers


def _listed(given: Iterable[Any]) -> list[Any]:
    return list(given)
