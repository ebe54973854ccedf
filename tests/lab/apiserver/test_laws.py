"""What holds of every history of writes: a list and a watch from it add up to the next list."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from inferencepool.lab.apiserver import RefusedError
from inferencepool.lab.apiserver._forms import read_form
from inferencepool.lab.apiserver._listing import list_objects
from inferencepool.lab.apiserver._patching import apply_patch, merge
from inferencepool.lab.apiserver._requests import ApiRequest, read_request
from inferencepool.lab.apiserver._resources import RESOURCES
from inferencepool.lab.apiserver._selectors import read_scope
from inferencepool.lab.apiserver._store import ObjectStore
from inferencepool.lab.apiserver._watching import Watch, WatchRules, open_watch

PODS, SERVICES = RESOURCES[:2]
NAMES = st.sampled_from(["a", "b", "c", "d"])
LABELS = st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from(["x", "y"]))
SELECTORS = ("", "app=x", "app!=x", "app,tier=y", "!app")
RULES = WatchRules(expired="status", streaming_lists=True)


def _request(**query: str) -> ApiRequest:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    return read_request("GET", f"/api/v1/namespaces/default/pods?{text}", {}, b"")


class Histories(RuleBasedStateMachine):
    """Writes objects at random, with a list and a watch for each selector from random moments on."""

    @initialize()
    def begin(self) -> None:
        """Start with nothing."""
        self.store = ObjectStore(history=50)
        self.known: dict[str, dict[str, Any]] = {}
        self.watches: dict[str, Watch] = {}
        self.past: dict[int, list[Any]] = {}
        for selector in SELECTORS:
            self.list_and_watch(selector)

    @rule(name=NAMES, labels=LABELS)
    def write(self, name: str, labels: dict[str, str]) -> None:
        """Create or change an object."""
        metadata = {"name": name, "namespace": "default", "labels": labels}
        self.store.write(PODS, ("default", name), {"metadata": metadata})

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        """Delete an object if it is there."""
        if self.store.get(PODS, ("default", name)):
            self.store.remove(PODS, ("default", name))

    @rule()
    def write_elsewhere(self) -> None:
        """Write an object that nobody watches."""
        self.store.write(SERVICES, ("default", "s"), {"metadata": {"name": "s"}})

    @rule()
    def compact(self) -> None:
        """Forget the past."""
        self.store.compact()
        self.past.clear()

    @rule(selector=st.sampled_from(SELECTORS), limit=st.sampled_from(["", "1", "2"]))
    def list_and_watch(self, selector: str, limit: str = "") -> None:
        """Begin anew for a selector: list it, in pages or not, and watch from the list's revision."""
        scope = read_scope(PODS, "default", selector, "")
        found: dict[str, Any] = {}
        token = ""
        while True:
            page = list_objects(
                self.store, PODS, scope, _request(limit=limit, **({"continue": token} if token else {}))
            )
            found |= {item["metadata"]["name"]: item["metadata"] for item in page["items"]}
            token = page["metadata"].get("continue", "")
            if not token:
                break
        request = _request(watch="1", resourceVersion=page["metadata"]["resourceVersion"])
        form = read_form(request, PODS, lambda: 0.0)
        self.known[selector] = found
        self.watches[selector] = open_watch(
            self.store, PODS, scope, request, rules=RULES, form=form, on_item=lambda: None
        )

    @rule()
    def remember(self) -> None:
        """Note what there is now."""
        self.past[self.store.revision] = [stored.document for _, stored in self.store.snapshot(PODS)]

    @invariant()
    def watches_add_up(self) -> None:
        """What the watch said since the list makes the list of now, for every selector."""
        for selector, watch in self.watches.items():
            known = self.known[selector]
            for line in watch.take():
                event = json.loads(line)
                metadata = event["object"]["metadata"]
                assert (event["type"] == "ADDED") == (metadata["name"] not in known)
                if event["type"] == "DELETED":
                    del known[metadata["name"]]
                else:
                    known[metadata["name"]] = metadata
            scope = read_scope(PODS, "default", selector, "")
            now = [stored.document["metadata"] for _, stored in self.store.snapshot(PODS)]
            assert known == {each["name"]: each for each in now if scope.covers({"metadata": each})}

    @invariant()
    def past_is_as_it_was(self) -> None:
        """A list of an earlier revision is what there was, or refused where that is forgotten."""
        for revision, documents in self.past.items():
            try:
                found = self.store.snapshot(PODS, revision)
            except RefusedError:
                assert revision < self.store.floor(PODS)
            else:
                assert documents == [stored.document for _, stored in found]


TestHistories = Histories.TestCase

SCALARS = st.none() | st.booleans() | st.integers(0, 3) | st.sampled_from(["x", "y"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return value


@given(document=OBJECTS, patch=OBJECTS)
def test_merging_twice_is_merging_once(document: dict[str, Any], patch: dict[str, Any]) -> None:
    """A merge patch applied again changes nothing, and leaves what it was given alone."""
    before = json.dumps([document, patch])
    once = apply_patch("application/merge-patch+json", document, patch)

    assert once == apply_patch("application/merge-patch+json", once, patch)
    assert before == json.dumps([document, patch])


@given(document=OBJECTS)
def test_merging_into_nothing(document: dict[str, Any]) -> None:
    """Merged into nothing, a patch gives itself without its nulls."""
    assert _without_nulls(document) == merge({}, document)
