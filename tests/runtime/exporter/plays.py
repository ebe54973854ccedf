"""Requests as they may go, played against a processor whose metrics are looked at."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from random import Random
from typing import Any

import attrs
from hypothesis import strategies as st

from inferencepool.adapters.extproc import (
    ExchangeObservers,
    ExternalProcessor,
    ProcessorOptions,
    RequestBody,
    RequestTraits,
    ResponseBody,
    ResponseHeaders,
)
from inferencepool.model import InferenceModelRewrite, InferenceObjective, InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.exporter import RequestMetrics
from inferencepool.scheduling import SchedulingProfile
from inferencepool.testing import ManualClock, make_pod, make_pool
from tests.adapters.extproc.sessions import FULL, Kept, body, feed, head, subset

__all__ = ["Bench", "Play", "plays"]

VERSION = "llm-d.ai/v1alpha2"
OBJECTIVE = InferenceObjective.from_dict(
    {
        "apiVersion": VERSION,
        "kind": "InferenceObjective",
        "metadata": {"name": "batch"},
        "spec": {"priority": -5, "poolRef": {"name": "pool"}},
    }
)
REWRITE = InferenceModelRewrite.from_dict(
    {
        "apiVersion": VERSION,
        "kind": "InferenceModelRewrite",
        "metadata": {"name": "canary"},
        "spec": {
            "poolRef": {"name": "pool"},
            "rules": [{"matches": [{"model": {"value": "old"}}], "targets": [{"modelRewrite": "new"}]}],
        },
    }
)


class Failing:
    """A scorer that fails for one model."""

    def score(self, request: InferenceRequest, candidates: Sequence[object]) -> list[float]:
        """Fail, or prefer nobody."""
        if request.model == "broken":
            raise ZeroDivisionError
        return [1.0] * len(candidates)


@attrs.define
class Bench:
    """A processor with metrics, and an observer that keeps all it is told."""

    endpoints: int = 2
    clock: ManualClock = attrs.field(factory=ManualClock)
    metrics: RequestMetrics = attrs.field(factory=RequestMetrics)
    kept: Kept = attrs.field(factory=Kept)
    processor: ExternalProcessor = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        registry = EndpointRegistry(make_pool(), clock=self.clock)
        registry.resync([make_pod(f"p{number}", ip=f"10.0.0.{number + 1}") for number in range(self.endpoints)])
        picker = EndpointPicker(
            registry,
            profile=SchedulingProfile(scorers=[Failing()]),
            rng=Random(1),
            observer=self.metrics,
        )
        self.processor = ExternalProcessor(
            picker,
            options=ProcessorOptions(usage=True),
            objectives=[OBJECTIVE],
            rewrites=[REWRITE],
            observer=ExchangeObservers(self.metrics, self.kept),
            clock=self.clock,
        )


@attrs.frozen
class Play:
    """
    One request, and how it goes.

    Attributes:
        model: The model asked for; "broken" makes the picker fail.
        fairness_id: Whose request it is.
        batch: Whether it is of low priority.
        readable: Whether its body is.
        routable: Whether the proxy names an endpoint that exists.
        status: The response's status; None where the client is gone before.
        events: Whether the response is a stream of events.
        chunks: How many chunks it has.
        tells: Whether the response tells its tokens.
        tokens: How many those are: of the prompt, of the output, and from the cache.
        waits: Seconds before the request's body, before the response's headers, and before each of its chunks.
    """

    model: str = "llama"
    fairness_id: str = "default-flow"
    batch: bool = False
    readable: bool = True
    routable: bool = True
    status: int | None = 200
    events: bool = False
    chunks: int = 2
    tells: bool = True
    tokens: tuple[int, int, int] = (30, 20, 10)
    waits: tuple[float, float, float] = (0.01, 1.0, 0.5)

    @property
    def outcome(self) -> str:
        """What goes wrong before there is a response; empty if nothing does."""
        if not self.readable:
            return "BadRequest"
        if not self.routable:
            return "ServiceUnavailable"
        return "Internal" if self.model == "broken" else ""

    @property
    def traits(self) -> RequestTraits:
        """What is known of it."""
        if not self.readable:
            return RequestTraits()
        target = "new" if self.model == "old" else self.model
        return RequestTraits(self.model, target, self.fairness_id, -5 if self.batch else 0)

    @property
    def request_size(self) -> int:
        """Length of its body."""
        return len(self._body)

    @property
    def response(self) -> list[bytes]:
        """The chunks of the response's body."""
        document: dict[str, Any] = {"text": "x" * 50}
        if self.tells:
            prompt, output, cached = self.tokens
            details = {"cached_tokens": cached}
            document["usage"] = {"prompt_tokens": prompt, "completion_tokens": output, "prompt_tokens_details": details}
        text = json.dumps(document).encode()
        data = b"data: " + text + b"\n\n" if self.events else text
        cuts = [len(data) * number // self.chunks for number in range(self.chunks + 1)]
        return [data[begin:end] for begin, end in itertools.pairwise(cuts)]

    @property
    def seconds(self) -> float:
        """How long it takes from its headers to its end."""
        before, until, between = self.waits
        return before + until + self.chunks * between

    @property
    def _body(self) -> bytes:
        return body(self.model) if self.readable else b"{"

    def run(self, bench: Bench) -> None:
        """Let it happen."""
        before, until, between = self.waits
        headers = {"x-llm-d-inference-fairness-id": self.fairness_id}
        if self.batch:
            headers["x-llm-d-inference-objective"] = "batch"
        session = bench.processor.session()
        hint = subset([] if not self.routable else ["10.0.0.1", "10.0.0.2"])
        feed(session, head(FULL, FULL, headers=headers, metadata=hint))
        bench.clock.advance(before)
        try:
            feed(session, RequestBody(self._body, end_of_stream=True))
        except ZeroDivisionError:
            assert self.outcome == "Internal"
        if not self.outcome and self.status is not None:
            bench.clock.advance(until)
            kind = "text/event-stream" if self.events else "application/json"
            feed(session, ResponseHeaders({":status": str(self.status), "content-type": kind}))
            for number, chunk in enumerate(self.response, 1):
                bench.clock.advance(between)
                feed(session, ResponseBody(chunk, end_of_stream=number == self.chunks))
        session.close(finished=False)


def plays() -> st.SearchStrategy[Play]:
    """Make requests that go in all sorts of ways."""
    seconds = st.sampled_from([0.0, 0.0005, 0.004, 0.3, 7.0])
    tokens = st.integers(0, 3) | st.sampled_from([8, 9, 32768, 32769])
    return st.builds(
        Play,
        model=st.sampled_from(["llama", "old", "broken", "other"]),
        fairness_id=st.sampled_from(["default-flow", "team-a"]),
        batch=st.booleans(),
        readable=st.sampled_from([True, True, True, False]),
        routable=st.sampled_from([True, True, True, False]),
        status=st.sampled_from([200, 200, 404, 503, None]),
        events=st.booleans(),
        chunks=st.integers(1, 4),
        tells=st.booleans(),
        tokens=st.tuples(tokens, tokens, tokens),
        waits=st.tuples(seconds, seconds, seconds),
    )
