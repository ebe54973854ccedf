"""Random sequences of changes and faults against a real API server: when they are over, the registry is right."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from inferencepool.lab.apiserver import ApiServer, Fault
from inferencepool.testing import make_pod
from tests.runtime.kubernetes.cluster import FAST, Followed, most_requests, pool_document, until

NAMES = st.sampled_from("abcdefg")
APPS = st.sampled_from(["llama", "llama", "other"])
RESOURCES = st.sampled_from(["pods", "pods", "inferencepools", "inferenceobjectives", None])
FAULTS = st.sampled_from(
    [
        Fault.unauthorized(),
        Fault.forbidden(),
        Fault.expired(),
        Fault.expired_event(),
        Fault.too_many_requests(1),
        Fault.internal_error(),
        Fault.unavailable(),
        Fault.status(422, "Invalid"),
        Fault.status(504, "Timeout", "Too large resource version: 9, current: 1"),
        Fault.garbage(),
        Fault.web_page(),
        Fault.split(1),
        Fault.merge(2),
        Fault.drop("reset"),
        Fault.drop("close"),
        Fault.drop("silence"),
        Fault.break_off("reset", lines=1, bytes=9),
        Fault.break_off("close", lines=1, bytes=9),
        Fault.break_off("silence", lines=1, bytes=9),
        Fault(first=[b"{"]),
    ]
)


class WatchMachine(RuleBasedStateMachine):
    """Changes objects, lets things go wrong, and now and then waits until all is right again."""

    def __init__(self) -> None:
        super().__init__()
        self.resources = ExitStack()

    @initialize(streaming=st.booleans(), expired=st.sampled_from(["event", "status"]), seed=st.integers(0, 9))
    def start(self, streaming: bool, expired: Any, seed: int) -> None:
        """Start with a pool and two pods, in step."""
        self.server = self.resources.enter_context(
            ApiServer(initializing=0, expired=expired, streaming_lists=streaming)
        )
        self.server.pools.add(pool_document())
        for name in "ab":
            self.server.pods.add(make_pod(name, ip=f"10.0.0.{ord(name)}", labels={"app": "llama"}))
        self.watch = self.resources.enter_context(Followed(self.server, options=FAST, seed=seed))
        self.watch.until_synced()
        self.begin_anew()

    def begin_anew(self) -> None:
        """Count from here."""
        self.began = time.monotonic()
        self.disturbances = 1
        self.server.requests.clear()

    @rule(name=NAMES, app=APPS, ready=st.booleans(), again=st.booleans())
    def put_pod(self, name: str, app: str, ready: bool, again: bool) -> None:
        """A pod comes, or is made again with another uid."""
        there = self.server.pods.find(name) is not None
        if there and again:
            self.server.pods.delete(name)
        if not there or again:
            self.server.pods.add(make_pod(name, ip=f"10.0.0.{ord(name)}", labels={"app": app}, ready=ready))

    @precondition(lambda self: len(self.server.pods) > 0)
    @rule(data=st.data(), change=st.sampled_from(["delete", "ready", "unready", "llama", "other"]))
    def change_pod(self, data: st.DataObject, change: str) -> None:
        """A pod goes or changes."""
        name = data.draw(st.sampled_from([pod["metadata"]["name"] for pod in self.server.pods.list()]))
        match change:
            case "delete":
                self.server.pods.delete(name)
            case "ready" | "unready":
                self.server.pods.set_ready(name, ready=change == "ready")
            case _:
                self.server.pods.update(name, {"metadata": {"labels": {"app": change}}})

    @rule(app=APPS, ports=st.sampled_from([(8000,), (8000, 8001), (8001,)]))
    def put_pool(self, app: str, ports: tuple[int, ...]) -> None:
        """The pool comes, or gets another selector or other ports."""
        self.server.apply(pool_document(app, ports))
        self.disturbances += 1

    @precondition(lambda self: len(self.server.pools) > 0)
    @rule()
    def delete_pool(self) -> None:
        """The pool goes."""
        self.server.pools.delete("llama")

    @rule(name=NAMES, priority=st.integers(-2, 2), ours=st.booleans())
    def put_objective(self, name: str, priority: int, ours: bool) -> None:
        """An objective comes or changes."""
        spec = {"poolRef": {"name": "llama" if ours else "other"}, "priority": priority}
        kind = {"apiVersion": "llm-d.ai/v1alpha2", "kind": "InferenceObjective"}
        self.server.apply({**kind, "metadata": {"name": name}, "spec": spec})

    @rule(fault=FAULTS, resource=RESOURCES, times=st.integers(1, 4), at_once=st.booleans())
    def inject(self, fault: Fault, resource: str | None, times: int, at_once: bool) -> None:
        """Requests that come will fail, perhaps at once."""
        match: Any = {} if resource is None else {"resource": resource}
        self.server.inject(fault, times=times, **match)
        self.disturbances += times
        if at_once:
            self.server.end_watches("reset", **match)

    @rule(how=st.sampled_from(["end", "expire", "reset", "close", "silence"]), resource=RESOURCES)
    def end_watches(self, how: Any, resource: str | None) -> None:
        """Watches end, in one way or another."""
        match: Any = {} if resource is None else {"resource": resource}
        self.server.end_watches(how, **match)
        self.disturbances += 1

    @rule()
    def compact(self) -> None:
        """The server forgets the past."""
        self.server.compact()

    @rule(how=st.sampled_from(["close", "reset"]), forgets=st.booleans())
    def restart(self, how: Any, forgets: bool) -> None:
        """The server restarts."""
        self.server.stop(how=how)
        if forgets:
            self.server.compact()
        self.server.start()
        self.disturbances += 1

    @rule()
    def settle(self) -> None:
        """When nothing goes wrong any more, the registry says what is true, and the server was not stormed."""
        self.server.heal()
        self.watch.until_true()
        until(lambda: self.watch.objectives == self.objectives, lambda: (self.watch.objectives, self.objectives))
        allowed = most_requests(time.monotonic() - self.began) + 6 * self.disturbances
        counts = {
            plural: self.server.requests.count(resource=plural)
            for plural in ("pods", "inferencepools", "inferenceobjectives", "inferencemodelrewrites")
        }
        assert {} == {plural: count for plural, count in counts.items() if count > allowed}, allowed
        self.begin_anew()

    @property
    def objectives(self) -> dict[str, int]:
        """What is true of objectives: those of the pool count while it is there."""
        if not len(self.server.pools):
            return {}
        specs = {each["metadata"]["name"]: each["spec"] for each in self.server.objectives.list()}
        return {name: spec["priority"] for name, spec in specs.items() if spec["poolRef"]["name"] == "llama"}

    def teardown(self) -> None:
        """Settle at the end of every sequence, too."""
        with self.resources:
            if hasattr(self, "watch"):
                self.settle()


TestWatchMachine = WatchMachine.TestCase
# An example waits for real connections, some of which must be given up first; the thorough profile takes minutes.
TestWatchMachine.settings = settings(
    max_examples=max(20, settings.default.max_examples // 2 - 50),  # type: ignore[union-attr]  # a profile is loaded
    stateful_step_count=25,
)
