"""Who is compared, and what each one does in a pick."""

from __future__ import annotations

from pathlib import Path

import attrs

__all__ = ["OURS", "PEERS", "Peer", "Way"]


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
    load: str = "no"
    prefix: str = "no"
    reserves: str = "no"
    memory: str = ""
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


def _requirements(name: str) -> Path:
    return Path(__file__).parent / "requirements" / f"{name}.txt"


_OUR_LOAD = "queue, KV cache"
_OUR_TREE = "radix tree of bytes"
_OUR_BOUNDS = "blocks per endpoint, bytes in all"

OURS = Peer(
    name="inferencepool",
    worker="ours",
    distribution="inferencepool",
    ways=(
        Way("default profile, load", "load", load=_OUR_LOAD, reserves="yes"),
        Way(
            "default profile, prefix",
            "prefix",
            load=_OUR_LOAD,
            prefix=_OUR_TREE,
            reserves="yes",
            memory=_OUR_BOUNDS,
        ),
        Way("prefix tree alone", "prefix", prefix=_OUR_TREE, memory=_OUR_BOUNDS),
    ),
)


def _proxy(name: str, tree: str = "radix tree of text") -> Peer:
    return Peer(
        name=name,
        worker="http_router",
        distribution=name,
        requirements=_requirements(name),
        ways=(
            Way("power_of_two", "load", load="in flight, of two", reserves="yes", proxied=True),
            Way(
                "cache_aware",
                "prefix",
                load="in flight, where uneven",
                prefix=tree,
                reserves="yes",
                memory="characters in all, checked at intervals",
                proxied=True,
            ),
            Way("round_robin", "prefix", proxied=True),
        ),
    )


PEERS: tuple[Peer, ...] = (
    OURS,
    Peer(
        name="litellm",
        worker="litellm_router",
        distribution="litellm",
        requirements=_requirements("litellm"),
        ways=(
            Way("simple-shuffle", "load", load="no; weights"),
            Way("least-busy", "load", load="in flight", reserves="in a callback before the call"),
            Way(
                "simple-shuffle, prompt_caching",
                "prefix",
                load="no; weights",
                prefix="hash of marked messages",
                memory="200 entries, 5 minutes",
            ),
        ),
    ),
    Peer(
        name="ray",
        worker="ray_serve",
        distribution="ray",
        requirements=_requirements("ray"),
        ways=(
            Way("power of two choices", "load", load="queue, of two", reserves="yes"),
            Way(
                "PrefixCacheAffinityRouter",
                "prefix",
                load="queue, of those that match",
                prefix="radix tree of text, in an actor",
                reserves="yes",
                memory="nothing by default; characters by option",
            ),
            Way("PrefixTree alone", "prefix", prefix="radix tree of text", memory="nothing"),
        ),
    ),
    Peer(
        name="ai-dynamo-runtime",
        worker="dynamo_selection",
        distribution="ai-dynamo-runtime",
        requirements=_requirements("ai-dynamo-runtime"),
        ways=(
            Way("select", "load", load="booked tokens and blocks", prefix="hashes of token blocks"),
            Way(
                "select_and_reserve",
                "prefix",
                load="booked tokens and blocks",
                prefix="hashes of token blocks",
                reserves="yes",
                memory="time, 2 minutes",
            ),
        ),
    ),
    Peer(
        name="kvfleet",
        worker="kvfleet_affinity",
        distribution="kvfleet",
        requirements=_requirements("kvfleet"),
        ways=(
            Way("hybrid_score", "load", load="health, configured figures"),
            Way("KVAffinityScorer", "prefix", prefix="hash of the first 128 words", memory="nothing"),
        ),
    ),
    Peer(
        name="gorgo-lb",
        worker="gorgo_policies",
        distribution="gorgo-lb",
        requirements=_requirements("gorgo-lb"),
        ways=(
            Way("least-request", "load", load="running, in flight", reserves="the caller counts"),
            Way(
                "gorgo",
                "prefix",
                load="round trip, queued tokens",
                prefix="radix tree of token ids",
                reserves="the caller counts",
                memory="nothing",
            ),
        ),
    ),
    Peer(
        name="production-stack",
        worker="production_stack",
        distribution="vllm-router",
        requirements=_requirements("production-stack"),
        ways=(
            Way("RoundRobinRouter", "load"),
            Way("PrefixAwareRouter", "prefix", prefix="trie of hashes of text", memory="nothing"),
        ),
    ),
    _proxy("sglang-router"),
    _proxy("vllm-router", "radix tree, after all model servers made tokens"),
    _proxy("smg"),
    Peer(name="AIBrix", missing="a plug-in of Envoy Gateway in Go; there is nothing of it to install in Python"),
    Peer(name="llm-d-router", missing="a server in Go; there is nothing of it to install in Python"),
)
