"""Whatever a strategy gives back: a pick, or a `StrategyError` that names the strategy; and nothing stays reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from inferencepool.errors import EndpointsFilteredError, StrategyError
from inferencepool.model import InferenceRequest
from inferencepool.scheduling import (
    Demand,
    LinearLoad,
    NamedFilter,
    PickResult,
    Scheduler,
    SchedulingProfile,
    ScoredCandidate,
    WeightedScorer,
)
from inferencepool.testing import make_snapshot

SNAPSHOT = make_snapshot(3)


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        message = "hostile"
        raise ZeroDivisionError(message)

    def __len__(self) -> int:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[object]:
        raise ZeroDivisionError

    def __bool__(self) -> bool:
        raise ZeroDivisionError

    def __repr__(self) -> str:
        raise ZeroDivisionError


class Pretending:
    """Says that it is an int, and calculates as one."""

    # That is the lie, which no type checker would let it tell.
    vars()["__class__"] = property(lambda _: int)

    def __index__(self) -> int:
        return 0

    def __rrshift__(self, other: int) -> int:
        return other


def _raising(*given: object) -> Iterator[object]:
    yield from given
    raise ZeroDivisionError


VALUES: dict[str, Any] = {
    "None": None,
    "True": True,
    "nan": nan,
    "inf": inf,
    "-inf": -inf,
    "-1": -1,
    "0": 0,
    "7": 7,
    "8": 8,
    "huge": 10**400,
    "-huge": -(10**400),
    "0.5": 0.5,
    "1j": 1j,
    "text": "abc",
    "bytes": b"abc",
    "object": object(),
    "hostile": Hostile(),
    "numpy float": np.float64(0.5),
    "numpy float32": np.float32(0.5),
    "numpy nan": np.float64(nan),
    "numpy int": np.int64(1),
    "numpy bool": np.True_,
    "decimal": Decimal("0.5"),
    "decimal nan": Decimal("sNaN"),
    "fraction": Fraction(1, 3),
    "function": len,
    "type": int,
    "candidate": SNAPSHOT.candidate(0),
    "other candidate": make_snapshot(5).candidate(4),
    "load": LinearLoad([0, 0, 0], 1, 1.0),
    "demand": Demand(1),
    "scored": ScoredCandidate(SNAPSHOT.candidate(0), 1.0),
}
SHAPES: dict[str, Callable[[Any], Any]] = {
    "itself": lambda value: value,
    "list of 1": lambda value: [value],
    "list of 3": lambda value: [value] * 3,
    "mixed": lambda value: [0.5, value, 0.5],
    "array": lambda value: np.array([value] * 3, dtype=object),
    "generator": lambda value: (value for _ in range(3)),
    "raising": _raising,
    "dict": lambda value: {"a": value},
    "pair": lambda value: [(0.5, value)],
    "reverse pair": lambda value: [(value, 1)],
    "pairs": lambda value: [(0.5, 1), (value, 2), (0.25, 4)],
    "triple": lambda value: [(value, value, value)],
    "load": lambda value: LinearLoad(value, 1, 1.0),
    "loads": lambda value: LinearLoad([value] * 3, 1, 1.0),
    "zero": lambda value: LinearLoad([0] * 3, value, 1.0),
    "step": lambda value: LinearLoad([0] * 3, 1, value),
    "relative": lambda value: LinearLoad([0] * 3, 1, 1.0, is_relative=value),
    "pending step": lambda value: LinearLoad([0] * 3, 1, 1.0, pending_step=value),
    "measure": lambda value: LinearLoad([0] * 3, 1, 1.0, of=value),
    "demand": Demand,
    "less": lambda value: Demand(1, value),
    "less amount": lambda value: Demand(1, [(value, 1)]),
    "less set": lambda value: Demand(1, [(0, value)]),
    "scored": lambda value: [ScoredCandidate(value, 1.0)],
    "header": lambda value: {value: "x"} if value.__hash__ else value,
    "header value": lambda value: {"x-a": value},
}
FILTERS = ("keep", "narrow", "filter")
SCORERS = ("score_endpoints", "score_load", "affinities", "affinities_among", "score")
PICKERS = ("choose", "pick")
OTHERS = ("amounts", "response_headers")


def _profile(method: str, give: Callable[..., Any]) -> SchedulingProfile:
    strategy: Any = SimpleNamespace(**{method: give})
    if method in FILTERS:
        return SchedulingProfile(filters=[NamedFilter(strategy, name="odd")])
    if method in SCORERS:
        return SchedulingProfile(scorers=[WeightedScorer(strategy, name="odd")])
    if method in PICKERS:
        return SchedulingProfile(picker=strategy, max_num_of_endpoints=2)
    strategy.affinities = lambda *_: []
    return SchedulingProfile(scorers=[WeightedScorer(strategy, name="odd")])


def _use(scheduler: Scheduler) -> None:
    """Pick, and use everything that a pick offers."""
    with scheduler.schedule(InferenceRequest(), SNAPSHOT) as result:
        assert isinstance(result, PickResult)
        assert result.destination
        result.started()
        str(result.explain())
        headers = dict(result.response_headers)
        assert all(type(name) is str and type(value) is str for name, value in headers.items())


def _make(shape: str, value: Any) -> bool:
    """Tell whether there is such an answer at all."""
    try:
        SHAPES[shape](value)
    except (TypeError, ZeroDivisionError):
        return False
    return True


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", [*FILTERS, *SCORERS, *PICKERS, *OTHERS])
def test_garbage(method: str, shape: str) -> None:
    """The answer makes sense, or the error names who gave it; nothing else is raised, and nothing stays reserved."""
    name = "profile default: picker" if method in PICKERS else "odd" if method not in OTHERS else "simple-namespace"
    for value in VALUES.values():
        if not _make(shape, value):
            continue
        scheduler = Scheduler(_profile(method, lambda *_, value=value: SHAPES[shape](value)))
        with suppress(EndpointsFilteredError) if method in FILTERS else nullcontext():
            try:
                _use(scheduler)
            except StrategyError as error:
                told = str(error)
                if method != "response_headers":
                    assert name in told
        assert 0 == scheduler.in_flight


@pytest.mark.parametrize(
    ("method", "given"),
    [
        ("keep", None),
        ("keep", 1),
        ("keep", "yes"),
        ("narrow", True),
        ("narrow", np.int64(1)),
        ("filter", _raising),
        ("score", [Decimal("sNaN")] * 3),
        ("score", [10**400] * 3),
        ("score_endpoints", [1j] * 3),
        ("score_load", LinearLoad([0] * 3, 1, 10**400)),
        ("score_load", LinearLoad([0] * 3, 1, "1")),  # type: ignore[arg-type]  # wrong on purpose
        ("score_load", LinearLoad([0] * 3, 1, 1.0, pending_step=-1.0)),
        ("affinities", [(0.5, True)]),
        ("affinities", [(0.5, np.int64(1))]),
        ("affinities_among", [(-(10**400), 1)]),
        ("choose", {0: 1}),
        ("choose", [np.True_]),
        ("choose", [np.int64(0)]),
        ("choose", "0"),
        ("choose", [Pretending()]),
        ("pick", None),
        ("pick", 3),
        ("amounts", Demand(1, [(0, -1)])),
        ("amounts", Demand(1, iter([(0, 1)]))),  # type: ignore[arg-type]  # wrong on purpose
        ("amounts", Demand(-1)),
        ("amounts", Demand(True)),
        ("response_headers", None),
        ("response_headers", {"x-a": 1}),
        ("response_headers", [("x-a", b"1")]),
    ],
)
def test_what_is_refused(method: str, given: Any) -> None:
    """These answers make no sense, however they could be read."""
    with pytest.raises(StrategyError):
        _use(Scheduler(_profile(method, given if given is _raising else lambda *_: given)))


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, Fraction])
@pytest.mark.parametrize("method", ["score", "score_endpoints", "affinities", "affinities_among"])
def test_numbers_of_other_kinds(method: str, kind: Callable[[float], Any]) -> None:
    """Scores are as exact as they are when they are floats, whatever kind of number says so."""
    scores = [kind(each) for each in (0.25, 0.75, 0.5)]
    given = [(score, 1 << slot) for slot, score in enumerate(scores)] if method.startswith("aff") else scores
    result = Scheduler(_profile(method, lambda *_: given)).schedule(InferenceRequest(), SNAPSHOT)

    assert 1 == result.slot
    assert [0.75, 0.5, 0.25] == [candidate.total for candidate in result.explain().candidates]
