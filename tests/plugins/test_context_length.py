"""Endpoints for prompts of a certain length."""

from __future__ import annotations

from typing import Any

import pytest

from inferencepool.errors import ConfigurationError, EndpointsFilteredError
from inferencepool.model import InferenceRequest, Snapshot
from inferencepool.plugins import CONTEXT_LENGTH_LABEL, ContextLengthAware
from inferencepool.scheduling import Scheduler, SchedulingProfile
from inferencepool.testing import make_endpoint, make_snapshot
from tests.plugins.test_in_flight import scores_of


def labeled(*ranges: str | None, label: str = CONTEXT_LENGTH_LABEL) -> Snapshot:
    """A fleet with these ranges; None for no label."""
    return make_snapshot(
        {
            make_endpoint(f"pod-{slot}", address=f"10.0.0.{slot + 1}", labels={} if text is None else {label: text}): {}
            for slot, text in enumerate(ranges)
        }
    )


def of_length(tokens: int) -> InferenceRequest:
    """A prompt of so many tokens."""
    return InferenceRequest(prompt_tokens=[0] * tokens)


@pytest.mark.parametrize(
    ("text", "tokens", "expected"),
    [
        (None, 500, 0.5),
        ("", 500, 0),
        ("x", 500, 0),
        ("10", 500, 0),
        ("20-10", 15, 0),
        ("-5-10", 5, 0),
        ("1-2-3", 2, 0),
        ("1e3-2e3", 1500, 0),
        ("9" * 19 + "-1", 0, 0),
        ("500-500", 500, 1),
        (" 0 - 1000 ", 0, 0.3 + 0.7 * (0.7 / 1.1 + 0.3)),
        ("0-1000", 1000, 0.3 + 0.7 * 0.7 / 1.1),
        ("0-10000", 2500, 0.3 + 0.7 * (0.35 + 0.3 * 0.75)),
        ("0-1000", 1001, 0.3 / 1.001),
        ("0-1000", 2000, 0.15),
        ("2000-3000", 1000, 0.15),
    ],
)
def test_scores(text: str | None, tokens: int, expected: float) -> None:
    """By the range of the label, as the reference has it."""
    snapshot = labeled(text, None)
    result = Scheduler(SchedulingProfile(scorers=[ContextLengthAware()])).schedule(of_length(tokens), snapshot)
    assert [expected, 0.5] == pytest.approx(scores_of(result, "context-length-aware"))


@pytest.mark.parametrize(
    ("enabled", "tokens", "expected"), [(True, 50, "013"), (True, 100, "013"), (True, 101, "03"), (False, 101, "0123")]
)
def test_filter(enabled: bool, tokens: int, expected: str) -> None:
    """Where it is enabled it keeps those without the label, and those whose range holds the prompt."""
    aware = ContextLengthAware(enable_filtering=enabled)
    scheduler = Scheduler(SchedulingProfile(filters=[aware], scorers=[aware]))
    result = scheduler.schedule(of_length(tokens), labeled(None, "0-100", "many", "50-200"))
    assert set(expected) == {item.endpoint.pod_name[4:] for item in result.explain().candidates}


def test_nobody_is_left() -> None:
    """A rule, not a preference: the request is refused."""
    scheduler = Scheduler(SchedulingProfile(filters=[ContextLengthAware(enable_filtering=True)]))
    with pytest.raises(EndpointsFilteredError, match="context-length-aware"):
        scheduler.schedule(of_length(101), labeled("0-100"))


def test_another_label_and_another_fleet() -> None:
    """The ranges are those of the fleet at hand."""
    aware = ContextLengthAware("size")
    assert [(0.5, 0), (1.0, 1)] == list(aware.affinities(of_length(3), labeled("3-3", label="size")))
    assert [(0.5, 1)] == list(aware.affinities(of_length(3), labeled("3-3")))


@pytest.mark.parametrize("label", ["", None, 3])
def test_bad_labels(label: Any) -> None:
    """The error names the strategy."""
    with pytest.raises(ConfigurationError, match="context-length-aware: label: "):
        ContextLengthAware(label)
