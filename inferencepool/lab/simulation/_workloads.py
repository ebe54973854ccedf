"""
Synthetic workloads: each a value with parameters, which makes the same requests for the same seed.

Requests come at random, by a Poisson process, unless a workload says otherwise. Lengths follow an exponential
distribution around their mean, cut off at eight times the mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.lab.simulation._arrival import Arrival
from inferencepool.lab.simulation._bursts import Bursts
from inferencepool.lab.simulation._chats import Chats
from inferencepool.lab.simulation._grouped import LongDocuments, LoraMix, SharedPrompts, ZipfPrompts
from inferencepool.lab.simulation._notation import Scanner

__all__ = ["WORKLOADS", "Workload", "parse_workload"]


class Workload(Protocol):
    """**Protocol:** makes requests."""

    @property
    def rate_per_endpoint(self) -> float:
        """Requests per second that an endpoint with the default options serves with ease."""
        ...

    def arrivals(self, *, rate: float, duration: float, seed: int) -> Iterator[Arrival]:
        """
        Make requests in order of time, from 0 to *duration*.

        Args:
            rate: Requests per second, on average. Above 0.
            duration: Seconds.
            seed: The same one makes the same requests.
        """
        ...


WORKLOADS: Mapping[str, type[Any]] = MappingProxyType(
    {
        "bursts": Bursts,
        "chats": Chats,
        "long-documents": LongDocuments,
        "lora-mix": LoraMix,
        "shared-prompts": SharedPrompts,
        "zipf-prompts": ZipfPrompts,
    }
)
"""The synthetic workloads by name."""


def parse_workload(text: str) -> Workload:
    """
    Read a workload: one of `WORKLOADS`, with parameters in parentheses if need be, such as ``chats(turns=4)``.

    Raises:
        ConfigurationError: The text makes no sense, or names what is not there; the message tells what is allowed.
    """
    scanner = Scanner("workload", text)
    name = scanner.name("workload")
    if name not in WORKLOADS:
        message = f"workload {text!r}: {name!r} is no known workload, allowed are {', '.join(WORKLOADS)}"
        raise ConfigurationError(message)
    parameters = scanner.parameters()
    if not scanner.at_end:
        scanner.fail("something is left over")
    allowed = [field.name for field in attrs.fields(WORKLOADS[name])]
    for parameter in parameters:
        if parameter not in allowed:
            message = f"workload {text!r}: {parameter!r} is no parameter of it, allowed are {', '.join(allowed)}"
            raise ConfigurationError(message)
    made: Workload = WORKLOADS[name](**parameters)
    return made
