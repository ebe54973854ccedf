"""What a model server said about its own load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import product
from math import inf
from typing import Any, Final

import attrs

from inferencepool.errors import InvalidMetricsError
from inferencepool.model._schema import quoted

__all__ = ["SIGNALS", "UNTOLD_COUNT", "UNTOLD_SHARE", "EndpointMetrics"]


def _refuse(name: str, value: object, allowed: str) -> None:
    message = f"metrics field {name}: {quoted(value)} is not {allowed}"
    raise InvalidMetricsError(message)


# No server has more of anything, and sums of scores stay exact.
_MOST = 2**31 - 1


class _UntoldCount(int):
    """A count that nobody told. It is in a class of its own, so that it stays untold when metrics are copied."""

    __slots__ = ()


class _UntoldShare(float):
    """A share that nobody told, likewise."""

    __slots__ = ()


#: What stands for a signal that was not told.
UNTOLD_COUNT: Final = _UntoldCount(0)
UNTOLD_SHARE: Final = _UntoldShare(0.0)

#: The signals that make up the load, by their fields.
SIGNALS: Final = ("waiting_queue_size", "running_requests", "kv_cache_usage")

_COUNTS: Final = frozenset({int, _UntoldCount})
# By which of the signals were not told: the same object each time, so that it is cheap to see whether that changed.
_UNKNOWN: Final = {
    told: frozenset(name for name, is_told in zip(SIGNALS, told, strict=True) if not is_told)
    for told in product((False, True), repeat=len(SIGNALS))
}
# By the types of the signals that are as they should be, which of them were not told.
_PLAIN_TYPES: Final[Mapping[tuple[type, ...], frozenset[str]]] = {
    types: _UNKNOWN[tuple(each in (int, float) for each in types)]
    for types in product((int, _UntoldCount), (int, _UntoldCount), (float, _UntoldShare))
}


def _check_count(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if type(value) not in _COUNTS or not 0 <= value <= _MOST:
        _refuse(attribute.name, value, f"a whole number from 0 to {_MOST}")


def _check_optional_count(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _check_count(instance, attribute, value)


def _check_fraction(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    # `not 0 <= value <= 1` also refuses NaN, for which every comparison is false.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        _refuse(attribute.name, value, "a number from 0 to 1")


def _check_time(_: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not -inf < value < inf:
        _refuse(attribute.name, value, "a finite number of seconds")


def _to_names(value: object) -> frozenset[str]:
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        message = f"metrics field active_models or waiting_models: {value!r} is not a list of names"
        raise InvalidMetricsError(message)
    names = list(value)
    for name in names:
        if not isinstance(name, str):
            _refuse("active_models or waiting_models", name, "a string")
    return frozenset(names)


@attrs.frozen(kw_only=True)
class EndpointMetrics:
    """
    The load of one endpoint as its model server reported it.

    Attributes:
        waiting_queue_size: Requests that wait to be scheduled by the engine.
        running_requests: Requests that the engine works on.
        kv_cache_usage: Used share of the KV cache, 0 to 1.
        active_models: LoRA adapters that run at least one request.
        waiting_models: LoRA adapters with requests that wait.
        max_active_models: How many LoRA adapters fit at a time; 0 when the server reports none.
        cache_block_size: Tokens in one block of the KV cache.
        cache_num_blocks: Blocks in the KV cache.
        observed_at: When the observation *began*, in seconds of the registry's clock; a pick made before that moment
            is taken to be part of what was observed. None stands for the moment at which the registry is told.
        knows_loras: Whether the server reported anything about LoRA adapters.
        unknown: Which of `waiting_queue_size`, `running_requests` and `kv_cache_usage` were not given, and are 0. Where
            other endpoints tell such a signal, this one is scored as their mean.

    Raises:
        InvalidMetricsError: A field holds a value that cannot be; the message names the field and what is allowed.
    """

    waiting_queue_size: int = attrs.field(default=UNTOLD_COUNT, validator=_check_count)
    running_requests: int = attrs.field(default=UNTOLD_COUNT, validator=_check_count)
    kv_cache_usage: float = attrs.field(default=UNTOLD_SHARE, validator=_check_fraction)
    active_models: frozenset[str] = attrs.field(default=frozenset(), converter=_to_names)
    waiting_models: frozenset[str] = attrs.field(default=frozenset(), converter=_to_names)
    max_active_models: int = attrs.field(default=0, validator=_check_count)
    cache_block_size: int | None = attrs.field(default=None, validator=_check_optional_count)
    cache_num_blocks: int | None = attrs.field(default=None, validator=_check_optional_count)
    observed_at: float | None = attrs.field(default=None, validator=_check_time)
    knows_loras: bool = attrs.field(init=False, eq=False, repr=False)

    @knows_loras.default
    def _knows_loras(self) -> bool:
        return bool(self.active_models or self.waiting_models or self.max_active_models)

    unknown: frozenset[str] = attrs.field(init=False, eq=False, repr=False)

    @unknown.default
    def _unknown(self) -> frozenset[str]:
        return _unknown_of(self.waiting_queue_size, self.running_requests, self.kv_cache_usage)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> EndpointMetrics:
        """
        Build metrics from a mapping of field names to values.

        Raises:
            InvalidMetricsError: A name is no field of metrics, or a value cannot be.
        """
        allowed = [field.name for field in attrs.fields(cls) if field.init]
        for name in document:
            if name not in allowed:
                message = f"unknown metrics field {name!r}; allowed: {', '.join(allowed)}"
                raise InvalidMetricsError(message)
        return cls(**document)

    def with_load(
        self, waiting_queue_size: int, running_requests: int, kv_cache_usage: float, observed_at: float | None
    ) -> EndpointMetrics:
        """
        Give the same metrics with another load, at a third of the cost of building them anew.

        Raises:
            InvalidMetricsError: As when they are built.
        """
        types = type(waiting_queue_size), type(running_requests), type(kv_cache_usage)
        is_plain = (
            types in _PLAIN_TYPES
            and type(observed_at) is float
            and 0 <= waiting_queue_size <= _MOST
            and 0 <= running_requests <= _MOST
            and 0 <= kv_cache_usage <= 1
            and -inf < observed_at < inf
        )
        if not is_plain:
            return attrs.evolve(
                self,
                waiting_queue_size=waiting_queue_size,
                running_requests=running_requests,
                kv_cache_usage=kv_cache_usage,
                observed_at=observed_at,
            )
        # What was checked when these metrics were built need not be checked again.
        metrics, put = object.__new__(EndpointMetrics), object.__setattr__
        put(metrics, "waiting_queue_size", waiting_queue_size)
        put(metrics, "running_requests", running_requests)
        put(metrics, "kv_cache_usage", kv_cache_usage)
        put(metrics, "observed_at", observed_at)
        put(metrics, "active_models", self.active_models)
        put(metrics, "waiting_models", self.waiting_models)
        put(metrics, "max_active_models", self.max_active_models)
        put(metrics, "cache_block_size", self.cache_block_size)
        put(metrics, "cache_num_blocks", self.cache_num_blocks)
        put(metrics, "knows_loras", self.knows_loras)
        put(metrics, "unknown", _PLAIN_TYPES[types])
        return metrics

    def scored_as(self, waiting_queue_size: int, running_requests: int, kv_cache_usage: float) -> EndpointMetrics:
        """Give the same metrics with the load that they count for; what is unknown stays so."""
        unknown = self.unknown
        return self.with_load(
            _UntoldCount(waiting_queue_size) if "waiting_queue_size" in unknown else waiting_queue_size,
            _UntoldCount(running_requests) if "running_requests" in unknown else running_requests,
            _UntoldShare(kv_cache_usage) if "kv_cache_usage" in unknown else kv_cache_usage,
            self.observed_at,
        )

    def has_room(self) -> bool:
        """Tell whether one more LoRA adapter fits: active and waiting ones together are below the maximum."""
        return len(self.active_models) + len(self.waiting_models) < self.max_active_models


def _unknown_of(waiting: int, running: int, usage: float) -> frozenset[str]:
    counts = type(waiting) is not _UntoldCount, type(running) is not _UntoldCount
    return _UNKNOWN[*counts, type(usage) is not _UntoldShare]
