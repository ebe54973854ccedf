"""The ``/metrics`` page of a simulated model server, with the names and labels of vLLM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from inferencepool.lab.model_servers._engine import EngineLoad
from inferencepool.lab.model_servers._options import SimulatorOptions

__all__ = ["render_metrics"]

_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def render_metrics(options: SimulatorOptions, load: EngineLoad, time: float) -> str:
    """
    Write the page.

    Of LoRA adapters there is one series, with the lists of now, and only when the server has adapters.

    Args:
        options: What the server is like.
        load: What its engine tells.
        time: Unix time in seconds, the value of the LoRA series.
    """
    return "".join(_families(options, load, time))


def _families(options: SimulatorOptions, load: EngineLoad, time: float) -> Iterator[str]:
    model = {"engine": "0", "model_name": options.models[0]}
    gauge, counter = "gauge", "counter"
    yield _family("vllm:num_requests_running", gauge, "Requests in the batch.", load.running, model)
    yield _family("vllm:num_requests_waiting", gauge, "Requests in the queue.", load.waiting, model)
    yield _family("vllm:kv_cache_usage_perc", gauge, "Used share of the KV cache, 0 to 1.", load.kv_usage, model)
    cache = {"block_size": str(options.kv_block_size), "engine": "0", "num_gpu_blocks": str(options.kv_blocks)}
    yield _family("vllm:cache_config_info", gauge, "Size of the KV cache.", 1, cache)
    if options.adapters:
        adapters = {
            "max_lora": str(options.max_adapters),
            "running_lora_adapters": ",".join(load.running_adapters),
            "waiting_lora_adapters": ",".join(load.waiting_adapters),
        }
        yield _family("vllm:lora_requests_info", gauge, "LoRA adapters of requests.", time, adapters)
    yield _family("vllm:num_preemptions_total", counter, "Preempted requests.", load.preemptions, model)
    yield _family("vllm:prompt_tokens_total", counter, "Prompt tokens computed.", load.prompt_tokens, model)
    yield _family("vllm:generation_tokens_total", counter, "Tokens written.", load.generation_tokens, model)
    if options.keeps_prefixes:
        asked, found = load.prefix_queries, load.prefix_hits
        yield _family("vllm:prefix_cache_queries_total", counter, "Prompt tokens of requests begun.", asked, model)
        yield _family("vllm:prefix_cache_hits_total", counter, "Those that were in the cache.", found, model)


def _family(name: str, kind: str, text: str, value: float, labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{key}="{label.translate(_ESCAPES)}"' for key, label in labels.items())
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name}{{{pairs}}} {float(value)!r}\n"
