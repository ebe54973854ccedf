"""The built-in strategies by the type names of configuration documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError, InferencePoolError
from inferencepool.model import LabelSelector
from inferencepool.plugins._consistent_hash import ConsistentHashPicker
from inferencepool.plugins._filters import ByLabel, DecodeFilter, EncodeFilter, LabelSelectorFilter, PrefillFilter
from inferencepool.plugins._parameters import refusal
from inferencepool.plugins._pickers import (
    LeastRequestPicker,
    PowerOfTwoChoicesPicker,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
)
from inferencepool.plugins._scorers import (
    KvCacheUtilizationScorer,
    LoadAwareScorer,
    LoraAffinityScorer,
    QueueScorer,
    RunningRequestsSizeScorer,
)
from inferencepool.scheduling import Filter, MaxScorePicker, Picker, Scorer

__all__ = ["CATALOG", "BuiltStrategy", "StrategyType", "build_strategy"]

_COUNT = "maxNumOfEndpoints"


@attrs.frozen
class BuiltStrategy:
    """
    A strategy that was built from configuration.

    Attributes:
        strategy: The strategy.
        max_num_of_endpoints: What a picker's ``maxNumOfEndpoints`` says, 1 or more; None for filters and scorers.
    """

    strategy: Filter | Scorer | Picker
    max_num_of_endpoints: int | None = None


@attrs.frozen
class StrategyType:
    """
    How strategies of one type are built.

    Attributes:
        build: Builds one from parameters by their Python names.
        parameters: Name of a parameter in configuration documents to its Python name.
        required: Those that must be given, by their names in configuration documents.
        is_picker: Whether it takes ``maxNumOfEndpoints`` too.
    """

    build: Callable[..., Filter | Scorer | Picker]
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    required: tuple[str, ...] = ()
    is_picker: bool = attrs.field(default=False, kw_only=True)

    @property
    def allowed(self) -> tuple[str, ...]:
        """Names of all parameters that configuration documents may give, sorted."""
        return tuple(sorted((*self.parameters, _COUNT) if self.is_picker else self.parameters))


def _picker(build: Callable[..., Picker], **parameters: str) -> StrategyType:
    return StrategyType(build, parameters, is_picker=True)


def _load_aware_scorer(threshold: Any = 128) -> LoadAwareScorer:
    # A threshold of 0 or less stands for the default in configuration documents.
    return LoadAwareScorer(128 if type(threshold) is int and threshold <= 0 else threshold)


def _label_selector_filter(**selector: Any) -> LabelSelectorFilter:
    return LabelSelectorFilter(LabelSelector.from_dict(selector, unknown="error"))


_SELECTOR = StrategyType(_label_selector_filter, {"matchExpressions": "matchExpressions", "matchLabels": "matchLabels"})
_BY_LABEL = {"allowsNoLabel": "allows_no_label", "label": "label", "validValues": "valid_values"}

CATALOG: Mapping[str, StrategyType] = MappingProxyType(
    {
        "by-label": StrategyType(ByLabel, _BY_LABEL, ("label",)),
        "by-label-selector": _SELECTOR,
        "consistent-hash-picker": _picker(
            ConsistentHashPicker, header="header", loadFactor="load_factor", virtualNodes="virtual_nodes"
        ),
        "decode-filter": StrategyType(DecodeFilter),
        "encode-filter": StrategyType(EncodeFilter),
        "kv-cache-utilization-scorer": StrategyType(KvCacheUtilizationScorer),
        "label-selector-filter": _SELECTOR,
        "least-request-picker": _picker(LeastRequestPicker),
        "load-aware-scorer": StrategyType(_load_aware_scorer, {"threshold": "threshold"}),
        "lora-affinity-scorer": StrategyType(LoraAffinityScorer),
        "max-score-picker": _picker(MaxScorePicker, tieBreak="tie_break"),
        "power-of-two-choices-picker": _picker(PowerOfTwoChoicesPicker),
        "prefill-filter": StrategyType(PrefillFilter),
        "queue-scorer": StrategyType(QueueScorer),
        "random-picker": _picker(RandomPicker),
        "round-robin-picker": _picker(RoundRobinPicker),
        "running-requests-size-scorer": StrategyType(RunningRequestsSizeScorer),
        "weighted-random-picker": _picker(WeightedRandomPicker),
    }
)
"""Type name to how strategies of the type are built."""


def build_strategy(type_name: str, parameters: Mapping[str, Any] | None = None) -> BuiltStrategy:
    """
    Build a strategy the way configuration documents describe it.

    Args:
        type_name: Its type, such as ``queue-scorer``.
        parameters: Its parameters, with the names that configuration documents use; None or empty for the defaults.

    Raises:
        ConfigurationError: There is no such type, a parameter is unknown or missing, or a value is not allowed.
    """
    wanted: Any = type_name
    kind = CATALOG.get(wanted) if isinstance(wanted, str) else None
    if kind is None:
        message = f"type: {type_name!r} is no known strategy, allowed are {', '.join(CATALOG)}"
        raise ConfigurationError(message)
    given = _checked(type_name, kind, {} if parameters is None else parameters)
    count = _count(type_name, given.pop(_COUNT, 1)) if kind.is_picker else None
    try:
        strategy = kind.build(**{kind.parameters[name]: value for name, value in given.items()})
    except ConfigurationError as error:
        raise ConfigurationError(_in_document_names(str(error), kind)) from error
    except InferencePoolError as error:
        message = f"{type_name}: {error}"
        raise ConfigurationError(message) from error
    return BuiltStrategy(strategy, count)


def _checked(type_name: str, kind: StrategyType, parameters: Any) -> dict[str, Any]:
    """Copy *parameters*, sure that all names are known and none that is required is missing."""
    if not isinstance(parameters, Mapping):
        raise refusal(type_name, "parameters", parameters, "is not a mapping of parameter names to values")
    rule = f"allowed are {', '.join(kind.allowed)}" if kind.allowed else "it takes none"
    for name, value in parameters.items():
        if name not in kind.allowed:
            raise refusal(type_name, str(name), value, f"is for a parameter that it does not have, {rule}")
    for name in kind.required:
        if name not in parameters:
            message = f"{type_name}: {name}: is missing, but required"
            raise ConfigurationError(message)
    return dict(parameters)


def _count(type_name: str, value: Any) -> int:
    if type(value) is not int:
        raise refusal(type_name, _COUNT, value, "is not a whole number")
    return max(1, value)


def _in_document_names(message: str, kind: StrategyType) -> str:
    """Let *message* name parameters as configuration documents do."""
    for document_name, python_name in kind.parameters.items():
        message = message.replace(f": {python_name}: ", f": {document_name}: ", 1)
    return message
