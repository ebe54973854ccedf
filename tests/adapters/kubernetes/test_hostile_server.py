"""What an API server may say that is not what was asked for, or has no end."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import pytest

from inferencepool.adapters.kubernetes import Foreign, Get, LeaseName, Listed, Reflector, ReflectorOptions, read_pod
from inferencepool.adapters.kubernetes._lease import read_lease
from inferencepool.errors import InvalidDocumentError
from inferencepool.testing import ManualClock
from tests.adapters.kubernetes.talking import (
    RESOURCE,
    Told,
    begin,
    bookmark,
    error,
    event,
    item,
    page,
    read,
    reflector_of,
    told,
)


def named(name: str = "ours", **options: Any) -> Reflector[Told]:
    """A reflector of one object."""
    chosen = ReflectorOptions(streaming_lists=False, **options)
    return Reflector(RESOURCE, "default", read, name=name, options=chosen, clock=ManualClock(), rng=Random(0))


def other(name: str = "ours", **metadata: object) -> dict[str, Any]:
    """An object with more metadata."""
    document = item(name)
    return {**document, "metadata": {**document["metadata"], **metadata}}


FOREIGN = [
    item("theirs"),
    other(namespace="elsewhere"),
    item("ours", kind="Service"),
    item("ours", apiVersion="v2"),
    item("x" * 1_000_000),
]


class TestForeignObjects:
    @pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
    @pytest.mark.parametrize("document", FOREIGN, ids=["name", "namespace", "kind", "version", "long"])
    def test_events(self, kind: str, document: Any) -> None:
        """An object that was not asked for neither removes nor replaces ours, whatever the server made of selectors."""
        reflector = named()
        begin(reflector, item("ours", 1))
        (only,) = reflector.receive_data(event(kind, document) * 3)

        assert isinstance(only, Foreign)
        assert len(only.reason) < 200
        assert reflector.listening

    @pytest.mark.parametrize("document", FOREIGN, ids=["name", "namespace", "kind", "version", "long"])
    def test_lists(self, document: Any) -> None:
        """In a list it is left out."""
        reflector = named()
        reflector.next_step()
        foreign, listed = reflector.receive_page(page(item("ours", 1), document))

        assert isinstance(foreign, Foreign)
        assert [{"ours"}] == told([listed])

    def test_list_of_another_kind(self) -> None:
        """An empty list of something else does not say that all of ours are gone."""
        reflector = reflector_of()
        reflector.next_step()
        body = json.dumps({"kind": "ServiceList", "metadata": {"resourceVersion": "1"}, "items": []}).encode()

        assert [] == reflector.receive_page(body)
        assert reflector.problem is not None
        assert "it is of kind 'ServiceList'" in reflector.problem.reason

    def test_end_of_one_that_had_the_name_before(self) -> None:
        """The end of an older object of the same name is not the end of the present one."""
        reflector = reflector_of()
        begin(reflector, other("a", uid="new"))

        assert [] == reflector.receive_data(event("DELETED", other("a", uid="old")))
        assert ["-a"] == told(reflector.receive_data(event("DELETED", other("a", uid="new"))))


class TestBounds:
    def check_refused(self, reflector: Reflector[Told], expected: str) -> None:
        """It has failed with a short reason, and begins anew."""
        assert reflector.problem is not None
        assert expected in reflector.problem.reason
        assert len(reflector.problem.reason) < 1100
        assert not reflector.unread

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            (page(item("a" * 2000)), "more than 1000 bytes"),
            (page(item("a"), item("b"), item("c"), item("d")), "more than 3 objects"),
            (page(rest="x" * 10_000).ljust(1), "a token that is no text of at most 8192 characters"),
            (page(item("a"), version="1" * 5000), "version has more than 1024 characters"),
            (b"[" * 100_000, "RecursionError"),
        ],
        ids=["bytes", "objects", "token", "version", "depth"],
    )
    def test_pages(self, body: bytes, expected: str) -> None:
        """A list that is longer than allowed is a failure, and nothing of it counts."""
        reflector = reflector_of(max_objects=3, max_page=1000 if "bytes" in expected else 1 << 20)
        reflector.next_step()

        assert [] == reflector.receive_page(body)
        self.check_refused(reflector, expected)

    def test_token_that_repeats(self) -> None:
        """A list that goes on where it was has no end."""
        reflector = reflector_of()
        reflector.next_step()
        reflector.receive_page(page(item("a"), rest="x"))
        reflector.next_step()
        reflector.receive_page(page(item("b"), rest="x"))

        self.check_refused(reflector, "goes on where it was")

    def test_pages_without_an_end(self) -> None:
        """Pages with nothing in them are counted, too."""
        reflector = reflector_of(max_pages=10)
        for number in range(10):
            assert isinstance(reflector.next_step(), Get)
            reflector.receive_page(page(rest=str(number)))

        self.check_refused(reflector, "more than 10 pages")

    def test_objects_that_appear_without_an_end(self) -> None:
        """A watch cannot add more objects than a list may have."""
        reflector = reflector_of(max_objects=3)
        begin(reflector, item("a"))
        deltas = reflector.receive_data(b"".join(event("ADDED", item(f"b{number}")) for number in range(100)))

        assert 2 == len(deltas)
        self.check_refused(reflector, "more than 3 objects")

    def test_texts_of_errors(self) -> None:
        """A long text of the server is cut."""
        reflector = reflector_of()
        begin(reflector, item("a"))
        reflector.receive_data(error(500, "x" * 1_000_000))

        self.check_refused(reflector, "xxx... (1000000 characters)")

    def test_list_in_slices(self) -> None:
        """A long page is read piece by piece, so that others have their turn in between."""
        reflector = reflector_of(page_size=1000)
        reflector.next_step()
        assert [] == reflector.receive_page(page(*(item(f"a{number}") for number in range(1000))))
        slices = []
        while reflector.unread:
            slices.append(reflector.read())

        assert 4 == len(slices)
        ((listed,),) = (each for each in slices if each)
        assert isinstance(listed, Listed)
        assert 1000 == len(listed.objects)

    def test_events_in_slices(self) -> None:
        """As is a piece of a watch with many events."""
        reflector = reflector_of()
        begin(reflector, item("a"))
        counts = [len(reflector.receive_data(event("MODIFIED", item("a")) * 1000))]
        while reflector.unread:
            counts.append(len(reflector.read()))

        assert [200] * 5 == counts

    def test_watch_that_drips(self) -> None:
        """An event that comes byte by byte is no sign of life, and ends the watch."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector, item("a"))
        reflector.receive_data(b"")
        dripping = iter(event("ADDED", item("b"))[:50])
        while reflector.listening:
            clock.advance(3)
            reflector.receive_data(bytes([next(dripping)]))

        assert reflector.age > 60
        self.check_refused(reflector, "an event of the watch took too long")

    def test_watch_that_the_server_does_not_end(self) -> None:
        """A server that goes on past the time it was given is left, and asked where it was."""
        clock = ManualClock()
        reflector = reflector_of(clock)
        begin(reflector, item("a"))
        seconds = 0
        while reflector.listening:
            seconds += 1
            clock.advance(1)
            reflector.receive_data(bookmark(str(seconds)))

        assert 70 < seconds < 140
        assert reflector.problem is None


@pytest.mark.parametrize(
    ("metadata", "status", "expected"),
    [
        ({"labels": {f"l{number}": "" for number in range(100_000)}}, {}, r"metadata\.labels: has 100000 entries"),
        ({}, {"conditions": [{}] * 100_000}, r"status\.conditions: has 100000 entries"),
        ({}, {"podIPs": [{"ip": "10.0.0.1"}] * 100_000}, r"status\.podIPs: has 100000 entries"),
        ({"annotations": {"llm-d.ai/active-ports": "8" * 1_000_000}}, {}, "has 1000000 characters"),
    ],
    ids=["labels", "conditions", "addresses", "annotation"],
)
def test_pods_of_any_size(metadata: Any, status: Any, expected: str) -> None:
    """A pod with more than any pod has is refused before it is read."""
    document = {"metadata": {"name": "a", "namespace": "default", **metadata}, "status": status}
    with pytest.raises(InvalidDocumentError, match=expected) as caught:
        read_pod(document)

    assert len(str(caught.value)) < 200


class TestLeases:
    def lease(self, **spec: object) -> dict[str, Any]:
        """A lease."""
        return {"metadata": {"name": "a", "namespace": "b", "resourceVersion": "1"}, "spec": spec}

    def test_values(self) -> None:
        """What is too great or too long is cut, and told."""
        lease = read_lease(
            self.lease(
                holderIdentity="x" * 100_000,
                leaseDurationSeconds=2**31,
                leaseTransitions=2**40,
                renewTime="9999-12-31T23:59:59.999999Z",
                acquireTime="9" * 1000,
            )
        )

        assert (1024, 3600, 2**31 - 1, None) == (len(lease.holder), lease.duration, lease.transitions, lease.acquired)
        assert "9999-12-31T23:59:59.999999Z" == lease.renewed
        assert ["holderIdentity", "leaseDurationSeconds", "leaseTransitions", "acquireTime"] == [
            each.partition(":")[0] for each in lease.oddities
        ]
        assert 0 == read_lease(self.lease(leaseDurationSeconds=-5)).duration

    def test_others(self) -> None:
        """Another lease, and one that is too long, are none."""
        for name in (LeaseName("other", "b"), LeaseName("a", "other")):
            with pytest.raises(ValueError, match="the answer is another object"):
                read_lease(self.lease(), name)
        with pytest.raises(ValueError, match="more than 262144 bytes"):
            read_lease(json.dumps(self.lease(holderIdentity="x" * 1_000_000)).encode())
