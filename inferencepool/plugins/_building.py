"""Strategies whose parameters in configuration documents are not those of their constructors."""

from __future__ import annotations

from typing import Any

from inferencepool._checks import refusal
from inferencepool.errors import ConfigurationError
from inferencepool.model import LabelSelector
from inferencepool.plugins._filters import LabelSelectorFilter
from inferencepool.plugins._in_flight import ActiveRequestScorer, InflightLoadProducer, TokenLoadScorer
from inferencepool.plugins._load_bound import LoadBound
from inferencepool.plugins._no_hit_lru import NoHitLruScorer
from inferencepool.plugins._prefix import PrefixCacheAffinityFilter, PrefixCacheScorer
from inferencepool.plugins._prefix_producer import ApproxPrefixCacheProducer
from inferencepool.plugins._scorers import LoadAwareScorer
from inferencepool.plugins._session_affinity import SessionAffinityFilter, SessionAffinityScorer
from inferencepool.plugins._sessions import EncodedEndpoint, SessionBindings, SessionHome

__all__ = [
    "active_request_scorer",
    "inflight_load_producer",
    "label_selector_filter",
    "load_aware_scorer",
    "no_hit_lru_scorer",
    "prefix_cache_affinity_filter",
    "prefix_cache_producer",
    "prefix_cache_scorer",
    "session_affinity_filter",
    "session_affinity_scorer",
    "token_load_scorer",
]


def _or_default(value: Any, default: int) -> Any:
    """Read a number of 0 or less as the default, as the reference does; what is no number is refused later."""
    return default if type(value) is int and value <= 0 else value


def load_aware_scorer(threshold: Any = 128) -> LoadAwareScorer:
    """Build one; a threshold of 0 or less stands for the default."""
    return LoadAwareScorer(_or_default(threshold, 128))


def label_selector_filter(**selector: Any) -> LabelSelectorFilter:
    """Build one from the fields of a label selector."""
    return LabelSelectorFilter(LabelSelector.from_dict(selector, unknown="error"))


def active_request_scorer(
    *,
    producer: object = None,
    request_timeout: object = None,
    idle_threshold: Any = 0,
    max_busy_score: Any = 1.0,
) -> ActiveRequestScorer:
    """Build one; what is out of range stands for the default, and the scheduler counts without a producer."""
    del producer, request_timeout
    is_outside = type(max_busy_score) in (int, float) and not 0 <= max_busy_score <= 1
    return ActiveRequestScorer(_or_default(idle_threshold, 0), 1.0 if is_outside else max_busy_score)


def prefix_cache_producer(
    *,
    block_size: Any = 0,
    block_size_tokens: Any = 16,
    lru_capacity_per_server: Any = 31_250,
    auto_tune: Any = True,
    **parameters: Any,
) -> ApproxPrefixCacheProducer:
    """
    Build one; the old name of the block size counts where the new one has its default.

    A block size and a capacity of 0 or less stand for the defaults, the size only where the engines' is looked at.
    """
    if block_size_tokens == 16 and _or_default(block_size, 0) != 0:  # noqa: PLR2004 - the default
        block_size_tokens = block_size
    return ApproxPrefixCacheProducer(
        _or_default(block_size_tokens, 16) if auto_tune is True else block_size_tokens,
        _or_default(lru_capacity_per_server, 31_250),
        auto_tune,
        **parameters,
    )


def inflight_load_producer(
    *, sync_cross_replica_state: Any = True, max_estimated_output_tokens: Any = None, **parameters: Any
) -> InflightLoadProducer:
    """Build one; a limit below 0 stands for none, and there are no other replicas whose state could be had."""
    if not isinstance(sync_cross_replica_state, bool):
        plugin, rule = "inflight-load-producer", "is neither true nor false"
        raise refusal(plugin, "syncCrossReplicaState", sync_cross_replica_state, rule)
    most = max_estimated_output_tokens
    return InflightLoadProducer(
        max_estimated_output_tokens=None if type(most) is int and most < 0 else most, **parameters
    )


def token_load_scorer(*, queue_threshold_tokens: Any = 4_194_304, **parameters: Any) -> TokenLoadScorer:
    """Build one; a threshold of 0 or less stands for the default."""
    return TokenLoadScorer(queue_threshold_tokens=_or_default(queue_threshold_tokens, 4_194_304), **parameters)


def no_hit_lru_scorer(
    *, prefix_plugin_name: object = None, prefix_plugin_type: object = None, lru_size: Any = 1024, **parameters: Any
) -> NoHitLruScorer:
    """Build one; a size of 0 or less stands for the default, and the old names of its producer change nothing."""
    del prefix_plugin_name, prefix_plugin_type
    return NoHitLruScorer(lru_size=_or_default(lru_size, 1024), **parameters)


def prefix_cache_scorer(
    *,
    match_length_weight: Any = 0.0,
    match_length_scale_tokens: Any = 8192,
    load_factor: Any = None,
    load_slack: Any = None,
    **parameters: Any,
) -> PrefixCacheScorer:
    """Build one, with a bound on load where one is given; the scale matters only where it has a weight."""
    if match_length_weight == 0:
        match_length_scale_tokens = _or_default(match_length_scale_tokens, 8192)
    return PrefixCacheScorer(
        match_length_weight=match_length_weight,
        match_length_scale_tokens=match_length_scale_tokens,
        load_bound=_bound("prefix-cache-scorer", load_factor, load_slack),
        **parameters,
    )


def prefix_cache_affinity_filter(
    *,
    ttft_source: Any = "prefillThroughput",
    max_ttft_penalty_ms: Any = 18_000,
    peak_prefill_throughput: Any = 15_928,
    **parameters: Any,
) -> PrefixCacheAffinityFilter:
    """Build one; the throughput may be 0 where it is not looked at, and there is no predictor to take times from."""
    if ttft_source != "prefillThroughput":
        plugin, rule = "prefix-cache-affinity-filter", "is not 'prefillThroughput', which is the only source there is"
        raise refusal(plugin, "ttftSource", ttft_source, rule)
    if max_ttft_penalty_ms == 0 and peak_prefill_throughput == 0:
        peak_prefill_throughput = 15_928
    return PrefixCacheAffinityFilter(
        max_ttft_penalty_ms=max_ttft_penalty_ms, peak_prefill_throughput=peak_prefill_throughput, **parameters
    )


def session_affinity_scorer(**parameters: Any) -> SessionAffinityScorer:
    """Build one by its strategy."""
    return SessionAffinityScorer(*_session_parts("session-affinity-scorer", **parameters))


def session_affinity_filter(**parameters: Any) -> SessionAffinityFilter:
    """Build one by its strategy."""
    return SessionAffinityFilter(*_session_parts("session-affinity-filter", **parameters))


def _bound(plugin: str, factor: Any, slack: Any) -> LoadBound | None:
    if factor is None:
        if slack is not None:
            raise refusal(plugin, "loadSlack", slack, "has no effect without loadFactor")
        return None
    try:
        return LoadBound(factor) if slack is None else LoadBound(factor, slack)
    except ConfigurationError as error:
        message = str(error).replace("load bound: factor", f"{plugin}: loadFactor")
        raise ConfigurationError(message.replace("load bound: slack", f"{plugin}: loadSlack")) from error


def _session_parts(
    plugin: str,
    *,
    strategy: Any = "encoded_endpoint_header",
    encoded_endpoint_header_config: Any = None,
    session_id_config: Any = None,
    load_factor: Any = None,
    load_slack: Any = None,
) -> tuple[SessionHome, LoadBound | None]:
    encoded = _fields(plugin, "encodedEndpointHeaderConfig", encoded_endpoint_header_config, "header")
    by_id = _fields(
        plugin,
        "sessionIdConfig",
        session_id_config,
        "sources",
        "evictionTtlSeconds",
        "evictionSweepSeconds",
        "capacity",
    )
    bound = _bound(plugin, load_factor, load_slack)
    if strategy == "encoded_endpoint_header":
        return _reworded(plugin, "encodedEndpointHeaderConfig", EncodedEndpoint, encoded, {"header": "header"}), bound
    if strategy != "session_id":
        raise refusal(plugin, "strategy", strategy, "is neither 'encoded_endpoint_header' nor 'session_id'")
    _check_sweep(plugin, by_id.pop("evictionSweepSeconds", 10))
    if "sources" in by_id:
        by_id["sources"] = _headers_of(plugin, by_id["sources"])
    names = {"sources": "headers", "evictionTtlSeconds": "ttl", "capacity": "capacity"}
    return _reworded(plugin, "sessionIdConfig", SessionBindings, by_id, names), bound


def _fields(plugin: str, parameter: str, value: Any, *allowed: str) -> dict[str, Any]:
    """Read an object of a document whose fields are all *allowed*."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refusal(plugin, parameter, value, f"is not an object with any of {', '.join(allowed)}")
    for name, item in value.items():
        if name not in allowed:
            rule = f"is for a field that it does not have, allowed are {', '.join(allowed)}"
            raise refusal(plugin, f"{parameter}.{name}", item, rule)
    return {name: item for name, item in value.items() if item is not None}


def _check_sweep(plugin: str, value: Any) -> None:
    if type(value) not in (int, float) or not value > 0:
        raise refusal(plugin, "sessionIdConfig.evictionSweepSeconds", value, "is not a number above 0")


def _headers_of(plugin: str, sources: Any) -> list[Any]:
    """Read a list of sources of session ids, of which headers are the only ones there are."""
    path = "sessionIdConfig.sources"
    if not isinstance(sources, list) or not sources:
        raise refusal(plugin, path, sources, "is not a list of one or more sources")
    headers = []
    for index, source in enumerate(sources):
        fields = _fields(plugin, f"{path}[{index}]", source, "header")
        if not isinstance(fields.get("header"), str) or not fields["header"]:
            raise refusal(plugin, f"{path}[{index}].header", fields.get("header"), "is not the name of a header")
        headers.append(fields["header"])
    return headers


def _reworded(plugin: str, parameter: str, build: Any, fields: dict[str, Any], names: dict[str, str]) -> Any:
    """Build a session home from *fields*, by *names*; let errors name the field as the document does."""
    try:
        return build(**{names[name]: value for name, value in fields.items()})
    except ConfigurationError as error:
        message = str(error)
        for field, name in names.items():
            message = message.replace(f"session-affinity: {name}: ", f"{plugin}: {parameter}.{field}: ")
        raise ConfigurationError(message) from error
