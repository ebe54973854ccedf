"""`inferencepool` itself, of the checkout that the benchmark belongs to."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from benchmarks.fleets import make_registry
from benchmarks.peers.prompts import SYSTEM
from benchmarks.peers.protocol import InProcess, Way, serve
from inferencepool import EndpointPicker, EndpointRegistry, InferencePool, InferenceRequest, Pod
from inferencepool.model import nth_slot
from inferencepool.prefix import PrefixTree

__all__ = ["WAYS"]


def _request(text: str) -> InferenceRequest:
    return InferenceRequest(model="llama", prompt=text.encode())


def _idle_fleet(size: int) -> EndpointRegistry:
    registry = EndpointRegistry(InferencePool(name="pool", selector={}, target_ports=[8000]))
    registry.resync(Pod(name=f"pod-{i}", ip=f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", ready=True) for i in range(size))
    return registry


class ByLoad(InProcess):
    """``picker.pick(request)`` and ``release()`` with the default profile; each pick reserves."""

    def __init__(self, size: int) -> None:
        self._picker = EndpointPicker(make_registry(size))

    def request(self, text: str) -> InferenceRequest:
        """Give a request for the prompt as bytes."""
        return _request(text)

    def pick_all(self, requests: Sequence[InferenceRequest]) -> list[int]:
        """Pick and release."""
        pick, picked = self._picker.pick, []
        for request in requests:
            result = pick(request)
            result.release()
            picked.append(result.slot)
        return picked


class ByPrefix(ByLoad):
    """The same with prompts, over a fleet that is idle, as it is for the peers: new prompts spread."""

    def __init__(self, size: int) -> None:
        registry = _idle_fleet(size)
        self._picker = EndpointPicker(registry)
        # A subset of one endpoint sends the system prompt to each of them in turn.
        for endpoint in registry.endpoints():
            self._picker.pick(_request(SYSTEM), subset=[endpoint.destination]).release()


class TreeAlone(InProcess):
    """The prefix tree without any load: a lookup, one of those that hold most at random, an insert."""

    def __init__(self, size: int) -> None:
        self._tree = PrefixTree()
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
            # Somebody always holds the system prompt.
            holders = match.levels[0][1]
            slot = nth_slot(holders, random.randrange(holders.bit_count()))
            tree.insert(match, slot)
            picked.append(slot)
        return picked


WAYS: Mapping[str, Callable[[int], Way]] = {
    "default profile, load": ByLoad,
    "default profile, prefix": ByPrefix,
    "prefix tree alone": TreeAlone,
}

if __name__ == "__main__":
    serve(WAYS)
