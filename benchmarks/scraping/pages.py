"""Metrics pages as vLLM serves them, about 39 KB long, one scrape after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random

__all__ = ["vllm_pages"]

_LABELS = 'engine="0",model_name="meta-llama/Llama-3.1-8B-Instruct"'
_BOUNDS = (
    *("0.001", "0.005", "0.01", "0.02", "0.04", "0.06", "0.08", "0.1", "0.25", "0.5", "0.75", "1.0", "2.5", "5.0"),
    *("7.5", "10.0", "20.0", "40.0", "80.0", "160.0", "640.0", "+Inf"),
)
_HISTOGRAMS = (
    *("iteration_tokens", "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds"),
    *("request_queue_time_seconds", "request_inference_time_seconds", "request_prefill_time_seconds"),
    *("request_decode_time_seconds", "request_prompt_tokens", "request_generation_tokens", "request_params_n"),
    "request_params_max_tokens",
)
_COUNTERS = ("prefix_cache_queries", "prefix_cache_hits", "num_preemptions", "prompt_tokens", "generation_tokens")
_PROCESS = ("virtual_memory_bytes", "resident_memory_bytes", "cpu_seconds_total", "open_fds", "max_fds")
_CACHE = (
    'block_size="16",cache_dtype="auto",calculate_kv_scales="False",cpu_offload_gb="0",enable_prefix_caching="True",'
    'engine="0",gpu_memory_utilization="0.9",num_cpu_blocks="None",num_gpu_blocks="31250",swap_space="4"'
)


def vllm_pages(count: int, seed: int = 1, *, adapters_move: bool = False, idle: bool = False) -> list[bytes]:
    """
    Write the pages of *count* scrapes, between which load, counters and histograms move.

    Args:
        count: How many.
        seed: Where the numbers start.
        adapters_move: Whether the time of the LoRA series moves as well.
        idle: Whether nothing waits and nothing runs.
    """
    server = _Server(seed, idle=idle)
    pages = []
    for number in range(count):
        server.run()
        lines = [line for family in server.families(1.7712345e9 + number * adapters_move) for line in family]
        pages.append("\n".join([*lines, ""]).encode())
    return pages


class _Server:
    """Numbers that grow."""

    def __init__(self, seed: int, *, idle: bool) -> None:
        self._rng = Random(seed)
        self._idle = idle
        self._observations = {name: [self._rng.randrange(5000) for _ in _BOUNDS] for name in _HISTOGRAMS}
        self._sums = {name: self._rng.uniform(0, 1e5) for name in _HISTOGRAMS}
        self._totals = {name: self._rng.randrange(10**7) for name in _COUNTERS}

    def run(self) -> None:
        """Serve for the time between two scrapes: a few requests."""
        for name, buckets in self._observations.items():
            for _ in range(3):
                buckets[self._rng.randrange(len(buckets))] += 1
            self._sums[name] += self._rng.random()
        for name in _COUNTERS:
            self._totals[name] += self._rng.randrange(1000)

    def families(self, adapters_at: float) -> Iterator[list[str]]:
        rng = self._rng
        for name in _PROCESS:
            yield _family(f"process_{name}", "gauge", [f"process_{name} {rng.randrange(10**5, 10**6)}.0"])
        for name, value in (
            ("num_requests_running", f"{0 if self._idle else rng.randrange(10, 100)}.0"),
            ("num_requests_waiting", f"{0 if self._idle else rng.randrange(10)}.0"),
            ("kv_cache_usage_perc", str(rng.random())),
        ):
            yield _family(f"vllm:{name}", "gauge", [f"vllm:{name}{{{_LABELS}}} {value}"])
        for name, total in self._totals.items():
            yield _family(f"vllm:{name}", "counter", [f"vllm:{name}_total{{{_LABELS}}} {total}.0"])
        for name, buckets in self._observations.items():
            yield _family(f"vllm:{name}", "histogram", list(self._histogram(f"vllm:{name}", name, buckets)))
        yield _family("vllm:cache_config_info", "gauge", [f"vllm:cache_config_info{{{_CACHE}}} 1.0"])
        series = (
            f'max_lora="4",running_lora_adapters="sql,chat",waiting_lora_adapters="legal"}} {adapters_at!r}',
            f'max_lora="4",running_lora_adapters="",waiting_lora_adapters=""}} {adapters_at - 60!r}',
        )
        yield _family("vllm:lora_requests_info", "gauge", [f"vllm:lora_requests_info{{{each}" for each in series])

    def _histogram(self, family: str, name: str, buckets: list[int]) -> Iterator[str]:
        for bound, total in zip(_BOUNDS, accumulate(buckets), strict=True):
            yield f'{family}_bucket{{{_LABELS},le="{bound}"}} {total}.0'
        yield f"{family}_count{{{_LABELS}}} {sum(buckets)}.0"
        yield f"{family}_sum{{{_LABELS}}} {self._sums[name]}"
        yield f"{family}_created{{{_LABELS}}} 1.7712341234567e+09"


def _family(name: str, kind: str, samples: list[str]) -> list[str]:
    return [f"# HELP {name} {name.replace('_', ' ')} of the server.", f"# TYPE {name} {kind}", *samples]
