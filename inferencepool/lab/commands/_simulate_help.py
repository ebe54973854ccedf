"""What ``simulate --help`` teaches beyond its options."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Iterable, Iterator
from textwrap import wrap

import attrs

from inferencepool.lab.simulation import PROFILES, WORKLOADS
from inferencepool.plugins import CATALOG

__all__ = ["HelpFormatter", "epilog"]

_WIDTH = 100
_EXAMPLES = (
    "inferencepool simulate",
    "inferencepool simulate --workload chats --endpoints 16 --profile default --profile round-robin",
    "inferencepool simulate --workload 'bursts(burst_requests=500)' --profile default --profile least-request",
    "inferencepool simulate --profile default --profile 'queues=4*queue-scorer + kv-cache-utilization-scorer'",
    "inferencepool simulate --change 20s:join:4 --change 40s:speed:0:0.3 --plot result.svg",
    "inferencepool simulate --workload lora-mix --save-trace lora.jsonl --duration 30s",
    "inferencepool simulate --trace lora.jsonl --profile random --profile lora-affinity-scorer+queue-scorer",
)


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Wraps the description, and leaves what is below the options as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)  # noqa: SLF001 - the way argparse is extended


def epilog() -> str:
    """Tell which workloads and profiles there are, and how they are written."""
    return "\n".join(_epilog())


def _epilog() -> Iterator[str]:
    yield "workloads, with parameters and their defaults:"
    for name, kind in WORKLOADS.items():
        yield from _entry(name, (inspect.getdoc(kind) or "").partition("\n\n")[0].replace("\n", " "))
        yield from _indented(f"{field.name}={json.dumps(field.default)}" for field in attrs.fields(kind))
    yield "  Some of them may be given in parentheses: 'chats(turns=10, groups=1)'."
    yield ""
    yield "profiles:"
    yield from _indented(PROFILES)
    yield "  or strategies with + between them, each scorer with its weight, if that is not 1, and in parentheses"
    yield "  what else it needs: '2*queue-scorer + load-aware-scorer(threshold=64) + max-score-picker'. There are:"
    yield from _indented(CATALOG)
    yield ""
    yield "examples:"
    yield from (f"  {example}" for example in _EXAMPLES)


def _entry(name: str, text: str) -> Iterator[str]:
    yield from wrap(f"{name}: {text}", _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _indented(words: Iterable[str]) -> Iterator[str]:
    yield from wrap(", ".join(words), _WIDTH, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)
