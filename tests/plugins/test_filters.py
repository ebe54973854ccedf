"""Which endpoints the filters keep."""

from __future__ import annotations

from random import Random
from typing import Any

import attrs
import pytest

from inferencepool.errors import ConfigurationError, EndpointsFilteredError
from inferencepool.model import Endpoint, EndpointMetrics, InferenceRequest, LabelSelector
from inferencepool.plugins import (
    ROLE_LABEL,
    ByLabel,
    DecodeFilter,
    EncodeFilter,
    LabelSelectorFilter,
    PrefillFilter,
    RandomPicker,
)
from inferencepool.scheduling import EndpointFilter, Scheduler, SchedulingProfile, strategy_name
from tests.strategies.fleets import endpoint, snapshot_of

ROLES = ["encode", "prefill", "decode", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"]


def labelled(**labels: str) -> Endpoint:
    """An endpoint with these labels."""
    return attrs.evolve(endpoint(0), labels=labels)


@pytest.mark.parametrize(
    ("role_filter", "kept", "keeps_unlabelled"),
    [
        (DecodeFilter(), {"decode", "prefill-decode", "both", "encode-prefill-decode"}, True),
        (PrefillFilter(), {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}, False),
        (EncodeFilter(), {"encode", "encode-prefill", "encode-prefill-decode"}, False),
    ],
)
def test_role_filters(role_filter: EndpointFilter, kept: set[str], *, keeps_unlabelled: bool) -> None:
    """Each keeps the roles that take part in its phase; only decoding needs no label."""
    found = {role for role in [*ROLES, "", "Decode"] if role_filter.keep(labelled(**{ROLE_LABEL: role}))}
    assert found == kept
    assert role_filter.keep(labelled()) is keeps_unlabelled


class TestByLabel:
    """The filter by the value of one label."""

    def test_keeps_the_values_listed(self) -> None:
        """Other values, and a missing label, are dropped."""
        by_label = ByLabel("zone", ["a", "b"])
        assert [by_label.keep(labelled(zone=zone)) for zone in "abc"] == [True, True, False]
        assert not by_label.keep(labelled())

    def test_may_keep_endpoints_without_the_label(self) -> None:
        """With allows_no_label a missing label is fine, but an empty value is a value."""
        by_label = ByLabel("zone", allows_no_label=True)
        assert by_label.keep(labelled())
        assert not by_label.keep(labelled(zone=""))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"label": "", "valid_values": ["a"]}, "by-label: label: '' is not a string of one or more characters"),
            ({"label": "zone"}, r"by-label: valid_values: \[\] keeps nothing: give a value, or allow no label"),
            ({"label": "zone", "valid_values": "ab"}, "by-label: valid_values: 'ab' is not a list of strings"),
            ({"label": "zone", "valid_values": [1]}, r"by-label: valid_values: \[1\] is not a list of strings"),
            ({"label": "zone", "valid_values": 1}, "by-label: valid_values: 1 is not a list of strings"),
            ({"label": "zone", "allows_no_label": 1}, "by-label: allows_no_label: 1 is neither true nor false"),
        ],
    )
    def test_refuses(self, arguments: dict[str, Any], message: str) -> None:
        """The error names the filter, the parameter, the value and what is allowed."""
        with pytest.raises(ConfigurationError, match=message):
            ByLabel(**arguments)


class TestLabelSelectorFilter:
    """The filter by a Kubernetes label selector."""

    def test_keeps_what_the_selector_matches(self) -> None:
        """All conditions must hold."""
        selected = LabelSelectorFilter(LabelSelector.parse("zone in (a, b), tier!=x"))
        assert selected.keep(labelled(zone="a"))
        assert not selected.keep(labelled(zone="a", tier="x"))
        assert not selected.keep(labelled(zone="c"))

    def test_an_empty_selector_keeps_all(self) -> None:
        """As everywhere in Kubernetes."""
        assert LabelSelectorFilter(LabelSelector()).keep(labelled())

    def test_refuses_text(self) -> None:
        """Text must be parsed first."""
        selector: Any = "zone=a"
        with pytest.raises(ConfigurationError, match="label-selector-filter: selector: 'zone=a' is no LabelSelector"):
            LabelSelectorFilter(selector)


def test_filters_decide_who_is_picked() -> None:
    """A pick sees only what the filter keeps; when nothing is left, the error tells."""
    snapshot = snapshot_of([endpoint(slot) for slot in range(9)], [EndpointMetrics()] * 9)
    profile = SchedulingProfile(filters=[ByLabel("zone", ["b"])], picker=RandomPicker())
    scheduler = Scheduler(profile, rng=Random(1))
    picked = {scheduler.schedule(InferenceRequest(), snapshot).slot for _ in range(60)}
    assert picked == {1, 4, 7}
    nobody = Scheduler(SchedulingProfile(filters=[PrefillFilter()]))
    with pytest.raises(EndpointsFilteredError):
        nobody.schedule(InferenceRequest(), snapshot)


def test_class_names_are_type_names() -> None:
    """Explanations name the filters as configurations do."""
    selected = LabelSelectorFilter(LabelSelector())
    filters = (DecodeFilter(), PrefillFilter(), EncodeFilter(), ByLabel("zone", ["a"]), selected)
    assert [strategy_name(item) for item in filters] == [
        "decode-filter",
        "prefill-filter",
        "encode-filter",
        "by-label",
        "label-selector-filter",
    ]
