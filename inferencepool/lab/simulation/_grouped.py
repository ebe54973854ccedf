"""Workloads of prompts that begin alike in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import ClassVar

import attrs

from inferencepool._checks import checked_number, checked_whole_number
from inferencepool.lab.simulation._arrival import Arrival
from inferencepool.lab.simulation._draws import MOST_MEAN, length, poisson_times, zipf_choice
from inferencepool.lab.simulation._prompt import Prompt

__all__ = ["LongDocuments", "LoraMix", "SharedPrompts", "ZipfPrompts"]

_MOST_GROUPS = 10_000_000


def _grouped(
    rng: Random, times: Iterator[float], group: Callable[[], Prompt], prompt_tokens: int, output_tokens: int
) -> Iterator[Arrival]:
    """Make a request at each of *times*: what *group* gives, and a prompt of its own."""
    for index, at in enumerate(times):
        prompt = Prompt(f"prompt-{index}", length(rng, prompt_tokens), group())
        yield Arrival(at, prompt, length(rng, output_tokens))


@attrs.frozen(kw_only=True)
class SharedPrompts:
    """
    Applications with a system prompt each; every request is one of these and a prompt of its own.

    Attributes:
        groups: System prompts; all come up equally often. At least 1.
        prefix_tokens: Length of each system prompt. At least 1.
        prompt_tokens: Mean length of what follows. At least 1.
        output_tokens: Mean length of the answer. At least 1.
    """

    rate_per_endpoint: ClassVar[float] = 10.0

    groups: int = attrs.field(default=32, validator=checked_whole_number("shared-prompts", 1))
    prefix_tokens: int = attrs.field(default=1024, validator=checked_whole_number("shared-prompts", 1, MOST_MEAN))
    prompt_tokens: int = attrs.field(default=256, validator=checked_whole_number("shared-prompts", 1, MOST_MEAN))
    output_tokens: int = attrs.field(default=128, validator=checked_whole_number("shared-prompts", 1, MOST_MEAN))

    def arrivals(self, *, rate: float, duration: float, seed: int) -> Iterator[Arrival]:
        """Make requests (see `Workload`)."""
        rng = Random(seed)
        prefixes = [Prompt(f"system-{index}", self.prefix_tokens) for index in range(self.groups)]
        times = poisson_times(rng, rate, 0, duration)
        return _grouped(rng, times, lambda: rng.choice(prefixes), self.prompt_tokens, self.output_tokens)


@attrs.frozen(kw_only=True)
class ZipfPrompts:
    """
    Very many system prompts, of which few come up often and most hardly ever (Zipf's law).

    Attributes:
        groups: System prompts. At least 1.
        exponent: How uneven they are: number *i* comes up in proportion to ``1 / i ** exponent``. 0 or more.
        prefix_tokens: Length of each system prompt. At least 1.
        prompt_tokens: Mean length of what follows. At least 1.
        output_tokens: Mean length of the answer. At least 1.
    """

    rate_per_endpoint: ClassVar[float] = 10.0

    groups: int = attrs.field(default=2000, validator=checked_whole_number("zipf-prompts", 1, _MOST_GROUPS))
    exponent: float = attrs.field(default=1.0, validator=checked_number("zipf-prompts", 0, 10))
    prefix_tokens: int = attrs.field(default=1024, validator=checked_whole_number("zipf-prompts", 1, MOST_MEAN))
    prompt_tokens: int = attrs.field(default=256, validator=checked_whole_number("zipf-prompts", 1, MOST_MEAN))
    output_tokens: int = attrs.field(default=128, validator=checked_whole_number("zipf-prompts", 1, MOST_MEAN))

    def arrivals(self, *, rate: float, duration: float, seed: int) -> Iterator[Arrival]:
        """Make requests (see `Workload`)."""
        rng = Random(seed)
        prefixes: dict[int, Prompt] = {}
        draw = zipf_choice(rng, self.groups, self.exponent)

        def group() -> Prompt:
            index = draw()
            if index not in prefixes:
                prefixes[index] = Prompt(f"system-{index}", self.prefix_tokens)
            return prefixes[index]

        times = poisson_times(rng, rate, 0, duration)
        return _grouped(rng, times, group, self.prompt_tokens, self.output_tokens)


@attrs.frozen(kw_only=True)
class LongDocuments:
    """
    Questions about long documents: the document comes first, then the question.

    Attributes:
        documents: Documents. At least 1.
        exponent: How uneven interest in them is: number *i* comes up in proportion to ``1 / i ** exponent``. 0 or more.
        document_tokens: Mean length of a document. At least 1.
        prompt_tokens: Mean length of a question. At least 1.
        output_tokens: Mean length of an answer. At least 1.
    """

    rate_per_endpoint: ClassVar[float] = 1.5

    documents: int = attrs.field(default=128, validator=checked_whole_number("long-documents", 1, _MOST_GROUPS))
    exponent: float = attrs.field(default=0.8, validator=checked_number("long-documents", 0, 10))
    document_tokens: int = attrs.field(default=10_000, validator=checked_whole_number("long-documents", 1, MOST_MEAN))
    prompt_tokens: int = attrs.field(default=64, validator=checked_whole_number("long-documents", 1, MOST_MEAN))
    output_tokens: int = attrs.field(default=256, validator=checked_whole_number("long-documents", 1, MOST_MEAN))

    def arrivals(self, *, rate: float, duration: float, seed: int) -> Iterator[Arrival]:
        """Make requests (see `Workload`)."""
        rng = Random(seed)
        documents = [Prompt(f"document-{i}", length(rng, self.document_tokens)) for i in range(self.documents)]
        draw = zipf_choice(rng, self.documents, self.exponent)
        times = poisson_times(rng, rate, 0, duration)
        return _grouped(rng, times, lambda: documents[draw()], self.prompt_tokens, self.output_tokens)


@attrs.frozen(kw_only=True)
class LoraMix:
    """
    Requests for several LoRA adapters of one model, and for the model itself.

    Attributes:
        adapters: LoRA adapters. At least 1.
        base_share: Share of the requests that need no adapter, 0 to 1.
        exponent: How uneven the adapters are: number *i* comes up in proportion to ``1 / i ** exponent``. 0 or more.
        prefix_tokens: Length of the system prompt, of which each adapter has its own. At least 1.
        prompt_tokens: Mean length of what follows. At least 1.
        output_tokens: Mean length of an answer. At least 1.
    """

    rate_per_endpoint: ClassVar[float] = 5.0

    adapters: int = attrs.field(default=12, validator=checked_whole_number("lora-mix", 1, 100_000))
    base_share: float = attrs.field(default=0.2, validator=checked_number("lora-mix", 0, 1))
    exponent: float = attrs.field(default=1.0, validator=checked_number("lora-mix", 0, 10))
    prefix_tokens: int = attrs.field(default=256, validator=checked_whole_number("lora-mix", 1, MOST_MEAN))
    prompt_tokens: int = attrs.field(default=256, validator=checked_whole_number("lora-mix", 1, MOST_MEAN))
    output_tokens: int = attrs.field(default=128, validator=checked_whole_number("lora-mix", 1, MOST_MEAN))

    def arrivals(self, *, rate: float, duration: float, seed: int) -> Iterator[Arrival]:
        """Make requests (see `Workload`)."""
        rng = Random(seed)
        names = ["", *(f"adapter-{index}" for index in range(self.adapters))]
        prefixes = {name: Prompt(f"system-{name or 'base'}", self.prefix_tokens) for name in names}
        draw = zipf_choice(rng, self.adapters, self.exponent)
        for index, at in enumerate(poisson_times(rng, rate, 0, duration)):
            adapter = "" if rng.random() < self.base_share else names[draw() + 1]
            prompt = Prompt(f"prompt-{index}", length(rng, self.prompt_tokens), prefixes[adapter])
            yield Arrival(at, prompt, length(rng, self.output_tokens), adapter=adapter)
