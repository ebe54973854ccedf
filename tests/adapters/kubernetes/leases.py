"""A lease on a server without a network: what electors ask is answered when a test wants it."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from random import Random
from typing import Any

from inferencepool.adapters.kubernetes import (
    Create,
    ElectionOptions,
    ElectionStep,
    Failure,
    Get,
    LeaderElector,
    LeaseName,
    Replace,
    Stream,
)
from inferencepool.testing import ManualClock

NAME = LeaseName("epp-default-llama.llm-d.ai", "default")
OPTIONS = ElectionOptions()


class LeaseServer:
    """Has at most one lease, and the rules of the API server for it."""

    def __init__(self) -> None:
        self.document: dict[str, Any] | None = None
        self.revision = 95

    def answer(self, step: ElectionStep) -> bytes | Failure:
        """Do what *step* asks for."""
        match step:
            case Get():
                return self._get()
            case Create(_, document):
                return Failure("exists", 409) if self.document else self.write(document)
            case Replace(_, document):
                if self.document is None:
                    return Failure("gone", 404)
                known = self.document["metadata"]["resourceVersion"]
                return self.write(document) if known == document["metadata"]["resourceVersion"] else Failure("old", 409)
            case _:
                raise AssertionError(step)

    def write(self, document: Any) -> bytes:
        """Write the lease, whatever there is."""
        self.revision += 1
        self.document = copy.deepcopy(dict(document))
        self.document["metadata"]["resourceVersion"] = str(self.revision)
        return self._text()

    def line(self, kind: str = "MODIFIED") -> bytes:
        """Give the event of a watch that tells of the lease as it is."""
        return json.dumps({"type": kind, "object": self.document}).encode() + b"\n"

    def _get(self) -> bytes | Failure:
        return self._text() if self.document else Failure("not found", 404)

    def _text(self) -> bytes:
        return json.dumps(self.document).encode()

    @property
    def holder(self) -> str:
        """Who holds the lease, as the server has it."""
        return str(self.document["spec"]["holderIdentity"]) if self.document else ""


def make_elector(identity: str, clock: ManualClock, *, wrong_by: float = 0.0, **options: Any) -> LeaderElector:
    """Make an elector whose time of day is *wrong_by* seconds off."""
    return LeaderElector(
        NAME,
        identity,
        options=ElectionOptions(**options),
        clock=clock,
        now=lambda: datetime.fromtimestamp(1_800_000_000 + clock() + wrong_by, UTC),
        rng=Random(7),
    )


def hand_over(elector: LeaderElector, outcome: bytes | Failure) -> None:
    """Hand an elector what came of its step."""
    if isinstance(outcome, Failure):
        elector.fail(outcome)
    else:
        elector.receive(outcome)


def ask(elector: LeaderElector, server: LeaseServer) -> ElectionStep | None:
    """Let an elector do one step; one that waits or follows is left to it."""
    step = elector.next_step()
    if isinstance(step, Get | Create | Replace):
        hand_over(elector, server.answer(step))
    return step


def elect(elector: LeaderElector, server: LeaseServer) -> None:
    """Let an elector go on until it leads."""
    for _ in range(5):
        if elector.leading:
            return
        step = ask(elector, server)
        assert not isinstance(step, Stream)
    raise AssertionError(elector)
