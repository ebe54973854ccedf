"""Who is compared, and what each one does in a pick."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["OURS", "PEERS", "Peer", "Way"]

_REQUIREMENTS = Path(__file__).parent / "requirements"


@attrs.frozen
class Way:
    """
    One way of picking.

    Attributes:
        name: As the peer's worker knows it.
        workload: ``load`` or ``prefix``.
        load: What it looks at of the endpoints' load.
        prefix: What it looks at of the prompt.
        reserves: Whether a pick counts as load at once.
        memory: What bounds the memory of what it remembers of prompts; empty where it remembers nothing.
        proxied: Whether it is the processor time of a whole proxied request that is measured, and not a pick.
    """

    name: str
    workload: str
    load: str
    prefix: str
    reserves: str
    memory: str
    proxied: bool = False

    @property
    def remembers(self) -> bool:
        """Whether it remembers prompts."""
        return bool(self.memory)


@attrs.frozen
class Peer:
    """
    A router.

    Attributes:
        name: What it is called in the table.
        worker: Module below `benchmarks.peers.workers`; empty where nothing can be run.
        ways: Its ways of picking.
        requirements: What its environment has; None for the environment that runs the benchmark.
        distribution: Name of the installed distribution, which tells the version.
        missing: Why it cannot be run anywhere; empty otherwise.
    """

    name: str
    worker: str = ""
    ways: tuple[Way, ...] = ()
    requirements: Path | None = None
    distribution: str = ""
    missing: str = ""


OURS = Peer(
    name="inferencepool",
    worker="ours",
    distribution="inferencepool",
    ways=(
        Way("default profile, load", "load", "queue, KV cache", "no", "yes", ""),
        Way(
            "default profile, prefix", "prefix", "queue, KV cache", "bytes", "yes", "blocks per endpoint, bytes in all"
        ),
        Way("prefix tree alone", "prefix", "no", "bytes", "no", "blocks per endpoint, bytes in all"),
    ),
)


def _proxy(name: str) -> Peer:
    prefix = ("radix tree of text", "in flight", "characters in all, checked at intervals")
    return Peer(
        name=name,
        worker="http_router",
        distribution=name,
        requirements=_REQUIREMENTS / f"{name}.txt",
        ways=(
            Way("power_of_two", "load", "in flight, of two", "no", "yes", "", proxied=True),
            Way("cache_aware", "prefix", "in flight, where uneven", prefix[0], "yes", prefix[2], proxied=True),
            Way("round_robin", "prefix", "no", "no", "no", "", proxied=True),
        ),
    )


PEERS: tuple[Peer, ...] = (
    OURS,
    Peer(
        name="litellm",
        worker="litellm_router",
        distribution="litellm",
        requirements=_REQUIREMENTS / "litellm.txt",
        ways=(
            Way("simple-shuffle", "load", "no; weights", "no", "no", ""),
            Way("least-busy", "load", "in flight", "no", "in a callback before the call", ""),
            Way(
                "simple-shuffle, prompt_caching",
                "prefix",
                "no; weights",
                "hash of marked messages, and counts tokens",
                "no",
                "200 entries, 5 minutes",
            ),
        ),
    ),
    Peer(
        name="ray",
        worker="ray_serve",
        distribution="ray",
        requirements=_REQUIREMENTS / "ray.txt",
        ways=(
            Way("power of two choices", "load", "queue, of two", "no", "yes", ""),
            Way(
                "PrefixCacheAffinityRouter",
                "prefix",
                "queue, of those that match",
                "radix tree of text, in an actor",
                "yes",
                "nothing by default; characters per endpoint by option",
            ),
            Way("PrefixTree alone", "prefix", "no", "radix tree of text", "no", "nothing"),
        ),
    ),
    Peer(
        name="ai-dynamo-runtime",
        worker="dynamo_selection",
        distribution="ai-dynamo-runtime",
        requirements=_REQUIREMENTS / "ai-dynamo-runtime.txt",
        ways=(
            Way("select", "load", "booked prefill tokens and blocks", "hashes of token blocks", "no", ""),
            Way(
                "select_and_reserve",
                "prefix",
                "booked prefill tokens and blocks",
                "hashes of token blocks",
                "yes",
                "time, 2 minutes",
            ),
        ),
    ),
    Peer(
        name="kvfleet",
        worker="kvfleet_affinity",
        distribution="kvfleet",
        requirements=_REQUIREMENTS / "kvfleet.txt",
        ways=(
            Way("hybrid_score", "load", "health and configured figures", "no", "no", ""),
            Way("KVAffinityScorer", "prefix", "no", "hash of the first 128 words", "no", "nothing"),
        ),
    ),
    Peer(
        name="vLLM production-stack",
        worker="production_stack",
        distribution="vllm-router",
        requirements=_REQUIREMENTS / "production-stack.txt",
        ways=(
            Way("RoundRobinRouter", "load", "no", "no", "no", ""),
            Way("PrefixAwareRouter", "prefix", "no", "trie of hashes of 128 characters", "no", "nothing"),
        ),
    ),
    _proxy("sglang-router"),
    _proxy("vllm-router"),
    _proxy("smg"),
    Peer(name="AIBrix", missing="a plug-in of Envoy Gateway in Go; there is nothing of it to install in Python"),
    Peer(
        name="llm-d-router (the reference EPP)", missing="a server in Go; there is nothing of it to install in Python"
    ),
)
