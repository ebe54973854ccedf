"""Where each model server keeps what the picker wants to know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import attrs

from inferencepool.adapters.exposition._samples import Sample, iterate_samples
from inferencepool.adapters.exposition._specs import MetricSpec
from inferencepool.errors import ConfigurationError, InvalidMetricsError

__all__ = ["ENGINES", "Engine", "Engines", "detect_engine", "engine_named", "match_engine"]


# Where Triton serves its metrics unless told otherwise.
_TRITON_PORT: Final = 8002
_LEGACY_LABEL = "inference.networking.k8s.io/engine-type"


def _to_spec(value: MetricSpec | str | None) -> MetricSpec | None:
    if isinstance(value, str):
        return MetricSpec.parse(value) if value.strip() else None
    return value


def _freeze(labels: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(labels))


@attrs.frozen(kw_only=True)
class Engine:
    """
    The metrics of one kind of model server. A specification may be given as text; an empty one disables its metric.

    The fields follow the engine configurations of the reference's ``core-metrics-extractor``.

    Attributes:
        name: The value of the pod label ``llm-d.ai/engine-type``.
        queued_requests: Requests that wait.
        running_requests: Requests that run.
        kv_usage: Used share of the KV cache, 0 to 1.
        lora: Series whose labels list the LoRA adapters and whose value is the time of the list.
        cache_info: Series with the two labels below.
        cache_block_size_label: Label with the tokens in one block of the KV cache.
        cache_num_blocks_label: Label with the number of blocks.
        cache_block_size: Metric with the tokens in one block, for servers without such labels.
        cache_num_blocks: Metric with the number of blocks.
        path: Path of the page; None for ``/metrics``.
        port: Port of the page; None for the port of the endpoint.
        shard_labels: Labels in which the series of the shards of one engine differ. Each shard tells the load of the
            whole, so one of them counts.
        only: Labels of the one engine that counts where a page has several. A series that has another value for one of
            them does not count; one without that label does.

    Raises:
        ConfigurationError: A specification cannot be read.
    """

    name: str
    queued_requests: MetricSpec | None = attrs.field(default=None, converter=_to_spec)
    running_requests: MetricSpec | None = attrs.field(default=None, converter=_to_spec)
    kv_usage: MetricSpec | None = attrs.field(default=None, converter=_to_spec)
    lora: MetricSpec | None = attrs.field(default=None, converter=_to_spec)
    cache_info: MetricSpec | None = attrs.field(default=None, converter=_to_spec)
    cache_block_size_label: str = "block_size"
    cache_num_blocks_label: str = "num_gpu_blocks"
    cache_block_size: MetricSpec | None = attrs.field(default=None, converter=_to_spec)
    cache_num_blocks: MetricSpec | None = attrs.field(default=None, converter=_to_spec)
    path: str | None = None
    port: int | None = None
    shard_labels: tuple[str, ...] = ()
    only: Mapping[str, str] = attrs.field(factory=dict, converter=_freeze, hash=False)

    @property
    def specs(self) -> tuple[MetricSpec, ...]:
        """Give every specification that is not disabled."""
        every = (
            self.queued_requests,
            self.running_requests,
            self.kv_usage,
            self.lora,
            self.cache_info,
            self.cache_block_size,
            self.cache_num_blocks,
        )
        return tuple(spec for spec in every if spec is not None)

    @property
    def names(self) -> frozenset[str]:
        """Give all names of its metrics."""
        return frozenset(name for spec in self.specs for name in spec.names)

    def concerns(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a series with these *labels* is of the engine that counts."""
        return not self.only or all(labels.get(key, value) == value for key, value in self.only.items())


def _built_in() -> Iterator[Engine]:
    yield Engine(
        name="vllm",
        queued_requests="vllm:num_requests_waiting",
        running_requests="vllm:num_requests_running",
        # Until 0.10; the release in between has both.
        kv_usage=MetricSpec("vllm:kv_cache_usage_perc", aliases=("vllm:gpu_cache_usage_perc",)),
        lora="vllm:lora_requests_info",
        cache_info="vllm:cache_config_info",
    )
    yield Engine(
        name="sglang",
        # SGLang begins its names with sglang_ since 2026.
        queued_requests=MetricSpec("sglang:num_queue_reqs", aliases=("sglang_num_queue_reqs",)),
        running_requests=MetricSpec("sglang:num_running_reqs", aliases=("sglang_num_running_reqs",)),
        kv_usage=MetricSpec("sglang:token_usage", aliases=("sglang_token_usage",)),
        cache_info=MetricSpec("sglang:cache_config_info", aliases=("sglang_cache_config_info",)),
        cache_block_size_label="page_size",
        cache_num_blocks_label="num_pages",
        shard_labels=("tp_rank", "pp_rank", "moe_ep_rank"),
    )
    yield Engine(
        name="trtllm-serve",
        queued_requests="trtllm_num_requests_waiting",
        running_requests="trtllm_num_requests_running",
        kv_usage="trtllm_kv_cache_utilization",
        cache_block_size="trtllm_kv_cache_tokens_per_block",
        cache_num_blocks="trtllm_kv_cache_max_blocks",
        # What it has at /metrics is JSON.
        path="/prometheus/metrics",
    )
    yield Engine(
        name="triton-tensorrt-llm",
        queued_requests="nv_trt_llm_request_metrics{request_type=waiting}",
        running_requests="nv_trt_llm_request_metrics{request_type=scheduled}",
        kv_usage="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
        cache_block_size="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}",
        cache_num_blocks="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}",
        port=_TRITON_PORT,
    )
    # It does not tell how many requests run: nv_inference_exec_count, which the reference reads, only grows.
    yield Engine(name="triton", queued_requests="nv_inference_pending_request_count", port=_TRITON_PORT)


#: The model servers of the reference by name; the first is its default.
ENGINES: Final[Mapping[str, Engine]] = MappingProxyType({engine.name: engine for engine in _built_in()})


def engine_named(name: str) -> Engine:
    """
    Give the engine of `ENGINES` that is called *name*.

    Raises:
        ConfigurationError: There is none; the message lists those that exist.
    """
    if name not in ENGINES:
        message = f"unknown engine {name!r}; allowed: {', '.join(ENGINES)}"
        raise ConfigurationError(message)
    return ENGINES[name]


_DEFAULT = "default"
_OWNER = "engines"


def _to_engines(value: Iterable[Engine]) -> tuple[Engine, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class Engines:
    """
    Which engine a pod runs: the one that its label names, or the default where it has no label or names none of these.

    Attributes:
        own: Engines of your own; they replace those of `ENGINES` that have the same name.
        default: Name of the engine of all other pods.
        label: Key of the pod label that names the engine; ``inference.networking.k8s.io/engine-type`` is looked at
            where a pod has no such label.

    Raises:
        ConfigurationError: There is no engine called *default*, or one of *own* is called ``default``, which is
            reserved.
    """

    own: Sequence[Engine] = attrs.field(default=(), converter=_to_engines)
    default: str = "vllm"
    label: str = "llm-d.ai/engine-type"
    _by_name: Mapping[str, Engine] = attrs.field(init=False, repr=False, eq=False)

    @_by_name.default
    def _index(self) -> Mapping[str, Engine]:
        return {**ENGINES, **{engine.name: engine for engine in self.own}}

    def __attrs_post_init__(self) -> None:
        if _DEFAULT in self._by_name:
            raise ConfigurationError.of(_OWNER, "own", f"{_DEFAULT!r} is reserved, another name is needed", _DEFAULT)
        if self.default not in self._by_name:
            reason = f"unknown engine {self.default!r}; allowed: {', '.join(self._by_name)}"
            raise ConfigurationError.of(_OWNER, "default", reason, self.default)

    def engine_of(self, labels: Mapping[str, str]) -> Engine:
        """Give the engine of a pod with *labels*."""
        name = labels.get(self.label, labels.get(_LEGACY_LABEL, self.default))
        return self._by_name.get(name, self._by_name[self.default])


def match_engine(samples: tuple[Sample, ...]) -> Engine:
    """Tell which engine of `ENGINES` wrote *samples*, as `detect_engine` does."""
    found = {
        name: sum(any(spec.matches(sample) for sample in samples) for spec in engine.specs)
        for name, engine in ENGINES.items()
    }
    name = max(found, key=found.__getitem__)
    if not found[name]:
        looked_for = dict.fromkeys(spec.name for engine in ENGINES.values() for spec in engine.specs)
        message = f"metrics page: holds no metrics of a known engine; looked for {', '.join(looked_for)}"
        raise InvalidMetricsError(message)
    return ENGINES[name]


def detect_engine(page: str | bytes) -> Engine:
    """
    Tell which engine of `ENGINES` wrote *page*: the one with most of its metrics there, the first of equals.

    A Triton server that runs TensorRT-LLM exports Triton's own metrics too, and is told from a plain one so.

    Raises:
        InvalidMetricsError: The page cannot be read, or holds no metric of any engine.
    """
    names = frozenset[str]().union(*(engine.names for engine in ENGINES.values()))
    return match_engine(tuple(sample for sample in iterate_samples(page) if sample.name in names))
