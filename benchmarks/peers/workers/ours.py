"""`inferencepool` itself, as it is installed in the environment that runs the benchmark."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from benchmarks.fleets import make_registry
from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, serve
from inferencepool import EndpointPicker, EndpointRegistry, InferencePool, InferenceRequest, Pod
from inferencepool.model import nth_slot

__all__ = ["WAYS", "looks_at_prompts"]


class DefaultProfile(InProcess):
    """``picker.pick(request)`` and ``release()`` with the default profile; each pick reserves."""

    def __init__(self, size: int) -> None:
        registry = make_registry(size)
        self._picker = EndpointPicker(registry)
        # A subset of one endpoint sends the system prompt to each of them in turn.
        for endpoint in registry.endpoints():
            self._picker.pick(self.request(SYSTEM), subset=[endpoint.destination]).release()

    def request(self, text: str) -> InferenceRequest:
        """Give a request for the prompt as bytes."""
        return InferenceRequest(model="llama", prompt=text.encode())

    def pick_all(self, requests: Sequence[InferenceRequest]) -> list[int]:
        """Pick and release."""
        pick, picked = self._picker.pick, []
        for request in requests:
            result = pick(request)
            result.release()
            picked.append(result.slot)
        return picked


class PrefixAwareProfile(DefaultProfile):
    """The same, asked for prompts."""

    def __init__(self, size: int) -> None:
        if not looks_at_prompts():
            message = "the default profile of this version looks at no prompt"
            raise NotImplementedError(message)
        super().__init__(size)


class TreeAlone(InProcess):
    """The prefix tree without any load: a lookup, one of those that hold most at random, an insert."""

    def __init__(self, size: int) -> None:
        try:
            self._tree: Any = import_module("inferencepool.prefix").PrefixTree()
        except ImportError:
            message = "this version has no prefix tree"
            raise NotImplementedError(message) from None
        self._size = size
        for slot in range(size):
            self._tree.insert(self._tree.match(SYSTEM.encode()), slot)

    def request(self, text: str) -> bytes:
        """Give the prompt as bytes."""
        return text.encode()

    def pick_all(self, requests: Sequence[bytes]) -> list[int]:
        """Look up, choose, insert."""
        tree, picked = self._tree, []
        for text in requests:
            match = tree.match(text)
            slot = self._choose(match)
            tree.insert(match, slot)
            picked.append(slot)
        return picked

    def _choose(self, match: Any) -> int:
        if not match.levels:
            return random.randrange(self._size)
        holders = match.levels[0][1]
        return nth_slot(holders, random.randrange(holders.bit_count()))


def looks_at_prompts() -> bool:
    """Tell whether the default profile sends a prompt back to where it went; it would by chance once in 6 million."""
    registry = EndpointRegistry(InferencePool(name="pool", selector={}, target_ports=[8000]))
    registry.resync(Pod(name=f"idle-{i}", ip=f"10.0.0.{i}", ready=True) for i in range(50))
    picker = EndpointPicker(registry)
    slots = set()
    for _ in range(5):
        with picker.pick(InferenceRequest(model="llama", prompt=SYSTEM.encode())) as result:
            slots.add(result.slot)
    return len(slots) == 1


WAYS: Mapping[str, Callable[[int], Way]] = {
    "default profile, load": DefaultProfile,
    "default profile, prefix": PrefixAwareProfile,
    "prefix tree alone": TreeAlone,
}

if __name__ == "__main__":
    serve(WAYS)
