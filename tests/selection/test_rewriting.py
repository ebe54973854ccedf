"""Which model a request gets that asked for another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import InferenceModelRewrite, ObjectMeta, PoolReference, RewriteRule, TargetModel
from inferencepool.selection import ModelRewrites, RewriteDecision

OLD, NEW = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"


def rule(*models: str, to: str | Sequence[TargetModel] = "x") -> RewriteRule:
    """Make a rule to one model, or to some with weights."""
    return RewriteRule(models, [TargetModel(to)] if isinstance(to, str) else to)


def rewrite(
    name: str, *rules: RewriteRule, created: str | None = OLD, namespace: str = "default"
) -> InferenceModelRewrite:
    """Make a rewrite."""
    meta = ObjectMeta(name=name, namespace=namespace, creation_timestamp=created)
    return InferenceModelRewrite(metadata=meta, pool_ref=PoolReference(name="pool"), rules=rules)


def resolve(rewrites: Sequence[InferenceModelRewrite], model: str | None) -> tuple[str, str] | None:
    """Give the model and the rewrite that the decision names."""
    decision = ModelRewrites(rewrites).resolve(model, Random(0))
    return None if decision is None else (decision.model, decision.rewrite)


@pytest.mark.parametrize(
    ("rewrites", "model", "expected"),
    [
        pytest.param([], "a", None, id="none"),
        pytest.param([rewrite("r", rule("b"))], "a", None, id="other model"),
        pytest.param([rewrite("r", rule("b"))], None, None, id="no model and no rule for all"),
        pytest.param([rewrite("r", rule())], None, ("x", "r"), id="no model and a rule for all"),
        pytest.param([rewrite("r", rule("", to="y"), rule())], "", ("y", "r"), id="an empty name is a name"),
        pytest.param([rewrite("r", rule("b", "a", to="y"))], "a", ("y", "r"), id="any of the models"),
        pytest.param(
            [rewrite("old", rule(to="all")), rewrite("new", rule("a", to="exact"), created=NEW)],
            "a",
            ("exact", "new"),
            id="exact wins over all models, older or not",
        ),
        pytest.param(
            [rewrite("b", rule("a", to="n"), created=NEW), rewrite("c", rule("a", to="o"))],
            "a",
            ("o", "c"),
            id="oldest",
        ),
        pytest.param(
            [rewrite("b", rule(to="n"), created=NEW), rewrite("c", rule(to="o"))], "a", ("o", "c"), id="oldest for all"
        ),
        pytest.param(
            [
                rewrite("b", rule(to="n"), created="2026-01-01T02:00:00+03:00"),
                rewrite("a", rule(to="o"), created="2025-12-31T23:30:00.5Z"),
            ],
            "a",
            ("n", "b"),
            id="oldest by time, not by text",
        ),
        pytest.param([rewrite("b", rule(to="1")), rewrite("a", rule(to="2"))], "a", ("2", "a"), id="same age: by name"),
        pytest.param(
            [rewrite("a", rule(to="1"), namespace="z"), rewrite("b", rule(to="2"), namespace="y")],
            "a",
            ("2", "b"),
            id="same age: namespace before name",
        ),
        pytest.param(
            [rewrite("a", rule(to="1")), rewrite("b", rule(to="2"), created=None)],
            "a",
            ("2", "b"),
            id="no time: oldest",
        ),
        pytest.param([rewrite("r", rule("a", to="1"), rule("a", to="2"))], "a", ("1", "r"), id="first rule"),
        pytest.param([rewrite("r", rule(to="1"), rule(to="2"))], "a", ("1", "r"), id="first rule for all"),
        pytest.param([rewrite("r", rule("a", to=[]), rule(to="1"))], "a", ("1", "r"), id="no targets: next rule"),
        pytest.param([rewrite("r", rule("a", to=[]))], "a", None, id="no targets at all"),
    ],
)
def test_precedence(
    rewrites: Sequence[InferenceModelRewrite], model: str | None, expected: tuple[str, str] | None
) -> None:
    """Rules win as the reference orders them, in whatever order the objects are given."""
    assert expected == resolve(rewrites, model)
    assert expected == resolve(rewrites[::-1], model)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([("a", 1), ("b", 3)], {"a": 1_000, "b": 3_000}),
        ([("a", None), ("b", None)], {"a": 2_000, "b": 2_000}),
        ([("a", None), ("b", 1), ("c", 1)], {"b": 2_000, "c": 2_000}),
        ([("a", None), ("b", 7)], {"b": 4_000}),
    ],
)
def test_weights(targets: list[tuple[str, int | None]], expected: dict[str, int]) -> None:
    """Targets get their share by weight; without any weight all are alike, and with some the others get nothing."""
    rewrites = ModelRewrites([rewrite("r", rule(to=[TargetModel(name, weight) for name, weight in targets]))])
    rng = Random(7)
    found = Counter(decision.model for _ in range(4_000) if (decision := rewrites.resolve("m", rng)))

    assert expected.keys() == found.keys()
    # About five standard deviations of a count of 4,000 draws.
    assert all(abs(found[name] - expected[name]) < 160 for name in expected)


@given(st.lists(st.integers(1, 5) | st.none(), min_size=1, max_size=5), st.integers(0, 2**32))
def test_some_target_is_always_chosen(weights: list[int | None], seed: int) -> None:
    """Whatever the weights and the random source, a target is chosen, and one with weight if there is any."""
    targets = [TargetModel(str(index), weight) for index, weight in enumerate(weights)]
    decision = ModelRewrites([rewrite("r", rule(to=targets))]).resolve("m", Random(seed))

    assert isinstance(decision, RewriteDecision)
    assert weights[int(decision.model)] is not None or not any(weights)


@pytest.mark.parametrize("created", ["yesterday", "2026-01-01T00:00:00", "2026-01-01T00:00:00+99:00"])
def test_time_that_is_none(created: str) -> None:
    """An object built by hand with a time that is none is named in the error."""
    with pytest.raises(InvalidDocumentError, match=r"InferenceModelRewrite default/r: metadata\.creationTimestamp"):
        ModelRewrites([rewrite("r", rule(), created=created)])
