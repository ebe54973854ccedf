"""The built-in strategies by the type names of configuration documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any

import attrs

from inferencepool._checks import refusal
from inferencepool.errors import ConfigurationError, InferencePoolError
from inferencepool.plugins._building import (
    active_request_scorer,
    inflight_load_producer,
    label_selector_filter,
    load_aware_scorer,
    no_hit_lru_scorer,
    prefix_cache_affinity_filter,
    prefix_cache_producer,
    prefix_cache_scorer,
    session_affinity_filter,
    session_affinity_scorer,
    token_load_scorer,
)
from inferencepool.plugins._consistent_hash import ConsistentHashPicker
from inferencepool.plugins._context_length import ContextLengthAware
from inferencepool.plugins._filters import ByLabel, DecodeFilter, EncodeFilter, PrefillFilter
from inferencepool.plugins._lora_affinity import LoraAffinityScorer
from inferencepool.plugins._pickers import (
    LeastRequestPicker,
    PowerOfTwoChoicesPicker,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
)
from inferencepool.plugins._scorers import (
    KvCacheUtilizationScorer,
    QueueScorer,
    RunningRequestsSizeScorer,
)
from inferencepool.plugins._warm_up import WarmUpFilter
from inferencepool.scheduling import Filter, MaxScorePicker, Picker, Producer, Scorer

__all__ = ["CATALOG", "BuiltStrategy", "StrategyType", "build_strategy"]

_COUNT = "maxNumOfEndpoints"


@attrs.frozen
class BuiltStrategy:
    """
    A strategy that was built from configuration.

    Attributes:
        strategy: The strategy, or the producer.
        max_num_of_endpoints: What a picker's ``maxNumOfEndpoints`` says, 1 or more; None for all others.
    """

    strategy: Filter | Scorer | Picker | Producer
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
        producers: Name of a parameter that names a producer to the type of the one that is used by default.
        optional: Those of them that are left out where there is no such producer, instead of making one.
    """

    build: Callable[..., Any]
    parameters: Mapping[str, str] = attrs.field(factory=dict)
    required: tuple[str, ...] = ()
    is_picker: bool = attrs.field(default=False, kw_only=True)
    producers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    optional: tuple[str, ...] = attrs.field(default=(), kw_only=True)

    @property
    def allowed(self) -> tuple[str, ...]:
        """Names of all parameters that configuration documents may give, sorted."""
        return tuple(sorted((*self.parameters, _COUNT) if self.is_picker else self.parameters))


def _picker(build: Callable[..., Picker], **parameters: str) -> StrategyType:
    return StrategyType(build, parameters, is_picker=True)


_PREFIX = "prefixMatchInfoProducerName"
_LOAD = "inFlightLoadProducerName"
_TO_PREFIX = {_PREFIX: "approx-prefix-cache-producer"}
_TO_LOAD = {_LOAD: "inflight-load-producer"}
_USES_PREFIX = {_PREFIX: "producer"}
_BOUND = {"loadFactor": "load_factor", "loadSlack": "load_slack"}
_SESSION = {
    "strategy": "strategy",
    "encodedEndpointHeaderConfig": "encoded_endpoint_header_config",
    "sessionIdConfig": "session_id_config",
    **_BOUND,
}
_SELECTOR = StrategyType(label_selector_filter, {"matchExpressions": "matchExpressions", "matchLabels": "matchLabels"})
_BY_LABEL = {"allowsNoLabel": "allows_no_label", "label": "label", "validValues": "valid_values"}

CATALOG: Mapping[str, StrategyType] = MappingProxyType(
    {
        "active-request-scorer": StrategyType(
            active_request_scorer,
            {
                "idleThreshold": "idle_threshold",
                "maxBusyScore": "max_busy_score",
                "requestTimeout": "request_timeout",
                _LOAD: "producer",
            },
            producers=_TO_LOAD,
            optional=(_LOAD,),
        ),
        "approx-prefix-cache-producer": StrategyType(
            prefix_cache_producer,
            {
                "autoTune": "auto_tune",
                "blockSize": "block_size",
                "blockSizeTokens": "block_size_tokens",
                "compatibility": "compatibility",
                "fingerprints": "fingerprints",
                "insertAt": "insert_at",
                "lruCapacityPerServer": "lru_capacity_per_server",
                "maxBytes": "max_bytes",
                "maxPrefixBlocksToMatch": "max_prefix_blocks_to_match",
                "maxPrefixTokensToMatch": "max_prefix_tokens_to_match",
                "maxPromptsToMatch": "max_prompts_to_match",
            },
        ),
        "by-label": StrategyType(ByLabel, _BY_LABEL, ("label",)),
        "by-label-selector": _SELECTOR,
        "consistent-hash-picker": _picker(
            ConsistentHashPicker, header="header", loadFactor="load_factor", virtualNodes="virtual_nodes"
        ),
        "context-length-aware": StrategyType(
            ContextLengthAware, {"enableFiltering": "enable_filtering", "label": "label"}
        ),
        "decode-filter": StrategyType(DecodeFilter),
        "encode-filter": StrategyType(EncodeFilter),
        "inflight-load-producer": StrategyType(
            inflight_load_producer,
            {
                "addEstimatedOutputTokens": "add_estimated_output_tokens",
                "maxEstimatedOutputTokens": "max_estimated_output_tokens",
                "outputRatio": "output_ratio",
                "syncCrossReplicaState": "sync_cross_replica_state",
                _PREFIX: "prefix",
            },
            producers=_TO_PREFIX,
            optional=(_PREFIX,),
        ),
        "kv-cache-utilization-scorer": StrategyType(KvCacheUtilizationScorer),
        "label-selector-filter": _SELECTOR,
        "least-request-picker": _picker(LeastRequestPicker),
        "load-aware-scorer": StrategyType(load_aware_scorer, {"threshold": "threshold"}),
        "lora-affinity-scorer": StrategyType(LoraAffinityScorer, {"idleAdapters": "idle_adapters"}),
        "max-score-picker": _picker(MaxScorePicker, tieBreak="tie_break"),
        "no-hit-lru-scorer": StrategyType(
            no_hit_lru_scorer,
            {
                "lruSize": "lru_size",
                "prefixPluginName": "prefix_plugin_name",
                "prefixPluginType": "prefix_plugin_type",
                **_USES_PREFIX,
            },
            producers=_TO_PREFIX,
        ),
        "power-of-two-choices-picker": _picker(PowerOfTwoChoicesPicker),
        "prefill-filter": StrategyType(PrefillFilter),
        "prefix-cache-affinity-filter": StrategyType(
            prefix_cache_affinity_filter,
            {
                "affinityThreshold": "affinity_threshold",
                "explorationProbability": "exploration_probability",
                "maxTTFTPenaltyMs": "max_ttft_penalty_ms",
                "peakPrefillThroughput": "peak_prefill_throughput",
                "ttftSource": "ttft_source",
                _LOAD: "load",
                **_USES_PREFIX,
            },
            producers={**_TO_PREFIX, **_TO_LOAD},
        ),
        "prefix-cache-scorer": StrategyType(
            prefix_cache_scorer,
            {
                "matchLengthScaleTokens": "match_length_scale_tokens",
                "matchLengthWeight": "match_length_weight",
                **_USES_PREFIX,
                **_BOUND,
            },
            producers=_TO_PREFIX,
        ),
        "queue-scorer": StrategyType(QueueScorer, {"pendingSpan": "pending_span"}),
        "random-picker": _picker(RandomPicker),
        "round-robin-picker": _picker(RoundRobinPicker),
        "running-requests-size-scorer": StrategyType(RunningRequestsSizeScorer, {"pendingSpan": "pending_span"}),
        "session-affinity-filter": StrategyType(session_affinity_filter, _SESSION),
        "session-affinity-scorer": StrategyType(session_affinity_scorer, _SESSION),
        "token-load-scorer": StrategyType(
            token_load_scorer,
            {"queueThresholdTokens": "queue_threshold_tokens", _LOAD: "producer"},
            producers=_TO_LOAD,
        ),
        "warm-up-filter": StrategyType(WarmUpFilter, {"durationSeconds": "duration", "share": "share"}),
        "weighted-random-picker": _picker(WeightedRandomPicker),
    }
)
"""Type name to how strategies of the type are built."""


def build_strategy(
    type_name: str,
    parameters: Mapping[str, Any] | None = None,
    *,
    producers: MutableMapping[str, Any] | None = None,
) -> BuiltStrategy:
    """
    Build a strategy, or a producer, the way configuration documents describe it.

    Args:
        type_name: Its type, such as ``queue-scorer``.
        parameters: Its parameters, with the names that configuration documents use; None or empty for the defaults.
        producers: Producers by name, for parameters that name one. A default one that is missing is made and added, so
            that strategies built with the same mapping share it.

    Raises:
        ConfigurationError: There is no such type, a parameter is unknown or missing, or a value is not allowed.
    """
    shared = {} if producers is None else producers
    wanted: Any = type_name
    kind = CATALOG.get(wanted) if isinstance(wanted, str) else None
    if kind is None:
        message = f"type: {type_name!r} is no known strategy, allowed are {', '.join(CATALOG)}"
        raise ConfigurationError(message)
    given = _checked(type_name, kind, {} if parameters is None else parameters)
    count = _count(type_name, given.pop(_COUNT, 1)) if kind.is_picker else None
    given.update(_producers(type_name, kind, given, shared))
    try:
        strategy = kind.build(**{kind.parameters[name]: value for name, value in given.items()})
    except ConfigurationError as error:
        raise ConfigurationError(_in_document_names(str(error), kind)) from error
    except InferencePoolError as error:
        message = f"{type_name}: {error}"
        raise ConfigurationError(message) from error
    return BuiltStrategy(strategy, count)


def _producers(
    type_name: str, kind: StrategyType, given: dict[str, Any], shared: MutableMapping[str, Any]
) -> dict[str, Any]:
    """Find the producers that parameters name, taking the names out; make those defaults that are missing."""
    found: dict[str, Any] = {}
    for parameter, default in kind.producers.items():
        named = given.pop(parameter, "")
        # An empty name is none, as in the reference.
        name = default if named == "" else named
        if name not in shared and name == default and (named or parameter not in kind.optional):
            shared[name] = build_strategy(default, producers=shared).strategy
        if name in shared:
            found[parameter] = shared[name]
        elif name != default:
            names = ", ".join(sorted({default, *shared}))
            raise refusal(type_name, parameter, name, f"names no producer, there are {names}")
    return found


def _checked(type_name: str, kind: StrategyType, parameters: Any) -> dict[str, Any]:
    """
    Copy *parameters*, sure that all names are known and none that is required is missing.

    One that is null stands for its default, as in the reference.
    """
    if not isinstance(parameters, Mapping):
        raise refusal(type_name, "parameters", parameters, "is not a mapping of parameter names to values")
    rule = f"allowed are {', '.join(kind.allowed)}" if kind.allowed else "it takes none"
    for name, value in parameters.items():
        if name not in kind.allowed:
            raise refusal(type_name, str(name), value, f"is for a parameter that it does not have, {rule}")
    given = {name: value for name, value in parameters.items() if value is not None}
    for name in kind.required:
        if name not in given:
            message = f"{type_name}: {name}: is missing, but required"
            raise ConfigurationError(message)
    return given


def _count(type_name: str, value: Any) -> int:
    if type(value) is not int:
        raise refusal(type_name, _COUNT, value, "is not a whole number")
    return max(1, value)


def _in_document_names(message: str, kind: StrategyType) -> str:
    """Let *message* name parameters as configuration documents do."""
    for document_name, python_name in kind.parameters.items():
        message = message.replace(f": {python_name}: ", f": {document_name}: ", 1)
    return message
