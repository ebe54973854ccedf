"""Building strategies from the names and parameters of configuration documents."""

from __future__ import annotations

from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.plugins import (
    CATALOG,
    ByLabel,
    ConsistentHashPicker,
    LabelSelectorFilter,
    LoadAwareScorer,
    MaxScorePicker,
    build_strategy,
)
from inferencepool.scheduling import strategy_name
from tests.strategies.fleets import endpoint

NEEDED: dict[str, dict[str, Any]] = {"by-label": {"label": "zone", "validValues": ["a"]}}
ALIASES = {"by-label-selector": "label-selector-filter"}


@pytest.mark.parametrize("type_name", CATALOG)
class TestEveryType:
    """What holds for all types."""

    def test_builds_with_its_defaults(self, type_name: str) -> None:
        """The strategy has the name of the type; pickers give one endpoint by default."""
        built = build_strategy(type_name, NEEDED.get(type_name))
        assert strategy_name(built.strategy) == ALIASES.get(type_name, type_name)
        assert built.max_num_of_endpoints == (1 if type_name.endswith("-picker") else None)

    def test_refuses_an_unknown_parameter(self, type_name: str) -> None:
        """The error names the strategy, the parameter, its value and what is allowed."""
        with pytest.raises(ConfigurationError) as caught:
            build_strategy(type_name, {**NEEDED.get(type_name, {}), "treshold": 7})
        message = str(caught.value)
        assert message.startswith(f"{type_name}: treshold: 7 is for a parameter that it does not have, ")
        allowed = CATALOG[type_name].allowed
        assert message.endswith(f"allowed are {', '.join(allowed)}" if allowed else "it takes none")

    def test_documents_itself(self, type_name: str) -> None:
        """The docstring tells when to choose it, what it looks at, and how to configure it."""
        text = type(build_strategy(type_name, NEEDED.get(type_name)).strategy).__doc__ or ""
        assert text
        if type_name != "max-score-picker":
            assert all(part in text for part in ("*When to choose it:*", "*Looks at:*", "*Configuration:*"))
            assert all(f"``{name}``" in text for name in CATALOG[type_name].allowed)


class TestParameters:
    """Parameters by their names in configuration documents."""

    def test_all_are_passed_on(self) -> None:
        """Camel case becomes the attribute."""
        hashing = build_strategy(
            "consistent-hash-picker",
            {"header": "X-User", "loadFactor": 2, "virtualNodes": 8, "maxNumOfEndpoints": 3},
        )
        assert isinstance(hashing.strategy, ConsistentHashPicker)
        assert (hashing.strategy.header, hashing.strategy.load_factor, hashing.strategy.virtual_nodes) == (
            "x-user",
            2,
            8,
        )
        assert hashing.max_num_of_endpoints == 3
        by_label = build_strategy("by-label", {"label": "zone", "validValues": ["a"], "allowsNoLabel": True})
        assert by_label.strategy == ByLabel("zone", ["a"], allows_no_label=True)
        rotating = build_strategy("max-score-picker", {"tieBreak": "rotation"}).strategy
        assert isinstance(rotating, MaxScorePicker)
        assert rotating.tie_break == "rotation"

    @pytest.mark.parametrize(("count", "expected"), [(-3, 1), (0, 1), (1, 1), (5, 5)])
    def test_at_least_one_endpoint(self, count: int, expected: int) -> None:
        """A count of 0 or less stands for 1."""
        assert build_strategy("random-picker", {"maxNumOfEndpoints": count}).max_num_of_endpoints == expected

    @pytest.mark.parametrize(("threshold", "expected"), [(-1, 128), (0, 128), (1, 1), (64, 64)])
    def test_threshold_of_zero_stands_for_the_default(self, threshold: int, expected: int) -> None:
        """As in the reference, a threshold of 0 or less is the default."""
        assert build_strategy("load-aware-scorer", {"threshold": threshold}).strategy == LoadAwareScorer(expected)

    @pytest.mark.parametrize("type_name", ["label-selector-filter", "by-label-selector"])
    def test_label_selectors(self, type_name: str) -> None:
        """The parameters are those of a Kubernetes label selector."""
        expressions = [{"key": "zone", "operator": "In", "values": ["a", "b"]}]
        strategy = build_strategy(type_name, {"matchExpressions": expressions}).strategy
        assert isinstance(strategy, LabelSelectorFilter)
        assert [strategy.keep(endpoint(slot)) for slot in range(3)] == [True, True, False]

    @pytest.mark.parametrize(
        ("type_name", "parameters", "message"),
        [
            ("load-aware-scorer", {"threshold": "many"}, "load-aware-scorer: threshold: 'many' is not a whole number"),
            ("load-aware-scorer", {"threshold": True}, "load-aware-scorer: threshold: True is not a whole number"),
            ("random-picker", {"maxNumOfEndpoints": 1.5}, "random-picker: maxNumOfEndpoints: 1.5 is not a whole"),
            ("random-picker", {"maxNumOfEndpoints": True}, "random-picker: maxNumOfEndpoints: True is not a whole"),
            ("consistent-hash-picker", {"loadFactor": 0}, "consistent-hash-picker: loadFactor: 0 is not a finite"),
            ("max-score-picker", {"tieBreak": "first"}, "max-score-picker: tieBreak: 'first' is neither"),
            ("by-label", {"validValues": ["a"]}, "by-label: label: is missing, but required"),
            ("by-label", {"label": "zone"}, r"by-label: validValues: \[\] keeps nothing"),
            ("by-label", {"label": "zone", "validValues": {"a": 1}}, "by-label: validValues: .* is not a list"),
            ("by-label", {"label": "zone", "allowsNoLabel": "yes"}, "by-label: allowsNoLabel: 'yes' is neither"),
            ("label-selector-filter", {"matchLabels": 3}, "label-selector-filter: .*matchLabels.*3"),
            ("label-selector-filter", {"matchExpressions": [{"key": "a"}]}, r"filter: .*matchExpressions\[0\]"),
            (
                "by-label-selector",
                {"matchExpressions": [{"key": "a", "operator": "Exists", "value": 1}]},
                r"by-label-selector: .*matchExpressions\[0\].value",
            ),
            ("queue-scorer", ["threshold"], r"queue-scorer: parameters: \['threshold'\] is not a mapping"),
            ("queue-scorer", {3: 4}, "queue-scorer: 3: 4 is for a parameter that it does not have"),
        ],
    )
    def test_refuses(self, type_name: str, parameters: Any, message: str) -> None:
        """The error names the strategy, the parameter as the document does, the value and what is allowed."""
        with pytest.raises(ConfigurationError, match=message):
            build_strategy(type_name, parameters)


@pytest.mark.parametrize("type_name", ["queue_scorer", "", None, ["queue-scorer"]])
def test_unknown_types(type_name: Any) -> None:
    """The error shows the type and lists those there are."""
    with pytest.raises(ConfigurationError) as caught:
        build_strategy(type_name)
    assert str(caught.value).startswith(
        f"type: {type_name!r} is no known strategy, allowed are active-request-scorer, "
    )
