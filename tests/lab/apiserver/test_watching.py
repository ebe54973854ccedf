from __future__ import annotations

from itertools import islice

import pytest

from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import LEASES, PODS, POOLS, Client, briefly

NOT_OLDER = {"resourceVersionMatch": "NotOlderThan", "sendInitialEvents": "true"}


def test_watch_begins_after_its_revision(client: Client, server: ApiServer) -> None:
    """A watch from the revision of a list tells what happened since, in order, and goes on live."""
    server.pods.add(make_pod("a"))
    revision = client.get(PODS).document["metadata"]["resourceVersion"]
    server.pods.add(make_pod("b"))
    server.pods.set_ready("b", ready=False)

    with client.watch(resourceVersion=revision) as events:
        earlier = list(islice(events, 2))
        server.pods.delete("a")
        server.pods.add(make_pod("c"))
        later = list(islice(events, 3))

    assert [("ADDED", "b"), ("MODIFIED", "b"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "c")] == briefly(
        earlier + later
    )
    revisions = [int(event["object"]["metadata"]["resourceVersion"]) for event in earlier + later]
    assert sorted(set(revisions)) == revisions
    assert server.revision == revisions[-1]


def test_event_has_the_whole_object(client: Client, server: ApiServer) -> None:
    """Events carry objects with their kinds; a deletion carries the last state at the revision of the deletion."""
    pod = server.pods.add(make_pod("a", labels={"app": "x"}))
    with client.watch(resourceVersion=server.revision) as events:
        server.pods.delete("a")
        _, event = islice(events, 2)

    assert pod["spec"] == event["object"]["spec"]
    assert ("Pod", "v1") == (event["object"]["kind"], event["object"]["apiVersion"])
    assert str(server.revision) == event["object"]["metadata"]["resourceVersion"]


@pytest.mark.parametrize("params", [{}, {"resourceVersion": "0"}, {"resourceVersion": ""}])
def test_watch_without_a_revision_begins_with_what_is_there(
    client: Client, server: ApiServer, params: dict[str, str]
) -> None:
    """Without a revision, or with 0, all objects come as added, and nothing says where they end."""
    server.pods.add(make_pod("b"))
    server.pods.add(make_pod("a"))

    events = client.told(**params)

    assert [("ADDED", "a"), ("ADDED", "b")] == briefly(events)


def test_streaming_list_says_where_it_ends(client: Client, server: ApiServer) -> None:
    """With `sendInitialEvents` all objects come, and a bookmark with an annotation ends them."""
    server.pods.add(make_pod("a"))
    with client.watch(allowWatchBookmarks="true", **NOT_OLDER) as events:
        added, end = islice(events, 2)
        server.pods.add(make_pod("b"))
        live = next(events)

    assert [("ADDED", "a"), ("BOOKMARK", ""), ("ADDED", "b")] == briefly([added, end, live])
    assert {"k8s.io/initial-events-end": "true"} == end["object"]["metadata"]["annotations"]
    assert int(end["object"]["metadata"]["resourceVersion"]) < int(live["object"]["metadata"]["resourceVersion"])


def test_streaming_list_without_bookmarks_has_no_end(client: Client, server: ApiServer) -> None:
    """A client that takes no bookmarks is not told where the initial objects end."""
    server.pods.add(make_pod("a"))

    assert [("ADDED", "a")] == briefly(client.events(timeoutSeconds=1, **NOT_OLDER))


def test_no_initial_events(client: Client, server: ApiServer) -> None:
    """With `sendInitialEvents=false` and no revision a watch tells what happens from here on."""
    server.pods.add(make_pod("a"))
    with client.watch(resourceVersionMatch="NotOlderThan", sendInitialEvents="false") as events:
        server.pods.delete("a")

        assert [("MODIFIED", "a"), ("DELETED", "a")] == briefly(list(islice(events, 2)))


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"sendInitialEvents": "true"}, "requires setting resourceVersionMatch to NotOlderThan"),
        ({"sendInitialEvents": "true", "resourceVersionMatch": "Exact"}, "Unsupported value"),
        ({"resourceVersionMatch": "NotOlderThan"}, "unless sendInitialEvents is provided"),
    ],
)
def test_options_that_do_not_go_together(client: Client, params: dict[str, str], told: str) -> None:
    """A watch with options that contradict each other is refused with 422."""
    reply = client.get(PODS, watch=1, **params)

    assert 422 == reply.status
    assert told in reply.document["message"]


def test_streaming_lists_may_be_refused() -> None:
    """A server without the feature refuses streaming lists with 422, and serves other watches."""
    with ApiServer(initializing=0, streaming_lists=False) as server:
        client = Client(server)

        assert 422 == client.get(PODS, watch=1, allowWatchBookmarks="true", **NOT_OLDER).status
        assert [] == client.told()


def test_forgotten_revision_as_an_event(client: Client, server: ApiServer) -> None:
    """A watch from a forgotten revision begins, says 410 in an event, and ends."""
    revision = server.revision
    server.compact()

    (event,) = client.events(resourceVersion=revision)

    assert ("ERROR", 410, "Expired") == (event["type"], event["object"]["code"], event["object"]["reason"])
    assert "too old resource version" in event["object"]["message"]


def test_forgotten_revision_as_a_status() -> None:
    """A server may refuse a watch from a forgotten revision with the status 410 instead."""
    with ApiServer(initializing=0, expired="status") as server:
        revision = server.revision
        server.compact()
        reply = Client(server).get(PODS, watch=1, resourceVersion=revision)

    assert (410, "Expired") == (reply.status, reply.document["reason"])


def test_compaction_leaves_open_watches_alone(client: Client, server: ApiServer) -> None:
    """A watch that is open goes on over a compaction; a bookmark after it is a revision to start from."""
    with client.watch(resourceVersion=server.revision, allowWatchBookmarks="true") as events:
        server.pods.add(make_pod("a"))
        server.compact()
        server.send_bookmarks()
        added, bookmark = islice(events, 2)
    server.pods.delete("a")

    assert "ADDED" == added["type"]
    with client.watch(resourceVersion=bookmark["object"]["metadata"]["resourceVersion"]) as events:
        assert [("MODIFIED", "a"), ("DELETED", "a")] == briefly(list(islice(events, 2)))


def test_history_is_bounded() -> None:
    """Of each resource only so many changes are remembered; what is older is expired."""
    with ApiServer(initializing=0, history=2) as server:
        client, first = Client(server), server.revision
        for name in ("a", "b", "c"):
            server.pods.add(make_pod(name))

        (expired,) = client.events(resourceVersion=first)
        assert 410 == expired["object"]["code"]
        assert [("ADDED", "b"), ("ADDED", "c")] == briefly(client.told(resourceVersion=first + 1))


def test_revision_of_the_future(client: Client, server: ApiServer) -> None:
    """A watch from a revision to come says nothing until that revision is past."""
    with client.watch(resourceVersion=server.revision + 2) as events:
        for name in "abc":
            server.pods.add(make_pod(name))

        assert [("ADDED", "c")] == briefly([next(events)])


@pytest.mark.parametrize("seconds", ["abc", "1.5", "1_0", "9" * 5000])
def test_bad_timeout(client: Client, seconds: str) -> None:
    """Seconds that are no whole number are a bad request, of a watch and of a list."""
    assert 400 == client.get(PODS, watch=1, timeoutSeconds=seconds).status
    assert 400 == client.get(PODS, timeoutSeconds=seconds).status


def test_timeout_ends_in_good_order(client: Client, server: ApiServer) -> None:
    """After `timeoutSeconds` the response ends as a response does."""
    with client.open("GET", PODS, watch=1, timeoutSeconds=1, resourceVersion=server.revision) as response:
        assert b"" == response.read()


def test_bookmarks_come_only_if_asked_for(client: Client, server: ApiServer) -> None:
    """A watch without `allowWatchBookmarks` gets none."""
    with (
        client.watch(resourceVersion=server.revision) as without,
        client.watch(resourceVersion=server.revision, allowWatchBookmarks="true") as with_bookmarks,
    ):
        server.send_bookmarks()
        server.pods.add(make_pod("a"))

        assert [("ADDED", "a")] == briefly([next(without)])
        assert [("BOOKMARK", ""), ("ADDED", "a")] == briefly(list(islice(with_bookmarks, 2)))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (PODS, {"kind": "Pod", "apiVersion": "v1", "spec": {"containers": None}, "status": {}}),
        (LEASES, {"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "spec": {}}),
        (POOLS, {"kind": "InferencePool", "apiVersion": "inference.networking.k8s.io/v1"}),
    ],
)
def test_bookmark_is_an_object_without_content(
    client: Client, server: ApiServer, path: str, expected: dict[str, object]
) -> None:
    """A bookmark is an empty object of the type with nothing in its metadata but a revision."""
    with client.watch(path, resourceVersion=server.revision, allowWatchBookmarks="true") as events:
        server.send_bookmarks()
        bookmark = next(events)["object"]

    metadata = bookmark.pop("metadata")
    assert expected == bookmark
    assert {"resourceVersion": str(server.revision)} == {key: value for key, value in metadata.items() if value}


def test_bookmarks_come_by_themselves() -> None:
    """A watch that asked for bookmarks gets one after every interval."""
    with (
        ApiServer(initializing=0, bookmark_interval=0.01) as server,
        Client(server).watch(resourceVersion=server.revision, allowWatchBookmarks="true") as events,
    ):
        assert ["BOOKMARK", "BOOKMARK"] == [event["type"] for event in islice(events, 2)]


def test_objects_enter_and_leave_a_label_selector(client: Client, server: ApiServer) -> None:
    """What gets the labels is added, what loses them is deleted in its last matching state, at the new revision."""
    server.pods.add(make_pod("a", labels={"app": "x", "old": "yes"}))
    server.pods.add(make_pod("b", labels={"app": "y"}))
    with client.watch(resourceVersion=server.revision, labelSelector="app=x") as events:
        server.pods.update("b", {"metadata": {"labels": {"app": "z"}}})
        server.pods.update("b", {"metadata": {"labels": {"app": "x"}}})
        server.pods.update("a", {"metadata": {"labels": {"app": "y", "old": None}}})
        left_at = server.revision
        server.pods.update("a", {"metadata": {"labels": {"app": "z"}}})
        server.pods.delete("a")
        server.pods.set_ready("b", ready=False)
        found = list(islice(events, 3))

    assert [("ADDED", "b"), ("DELETED", "a"), ("MODIFIED", "b")] == briefly(found)
    assert {"app": "x", "old": "yes"} == found[1]["object"]["metadata"]["labels"]
    assert str(left_at) == found[1]["object"]["metadata"]["resourceVersion"]


def test_objects_enter_and_leave_a_field_selector(client: Client, server: ApiServer) -> None:
    """Field selectors follow the fields as label selectors follow labels."""
    server.pods.add(make_pod("a", ip=None))
    with client.watch(resourceVersion=server.revision, fieldSelector="status.phase=Running") as events:
        server.pods.update("a", {"status": {"phase": "Running"}})
        server.pods.update("a", {"status": {"phase": "Failed"}})

        assert [("ADDED", "a"), ("DELETED", "a")] == briefly(list(islice(events, 2)))


def test_watch_of_one_object_by_its_path(client: Client, server: ApiServer) -> None:
    """A watch on the path of an object is about that object."""
    server.pods.add(make_pod("a"))
    server.pods.add(make_pod("b"))

    assert [("ADDED", "b")] == briefly(client.told(f"{PODS}/b"))


def test_watch_is_about_its_namespace(client: Client, server: ApiServer) -> None:
    """A watch in a namespace does not tell of others; one without tells of all."""
    server.pods.add(make_pod("a", namespace="elsewhere"))
    server.pods.add(make_pod("b"))

    assert [("ADDED", "b")] == briefly(client.told())
    assert [("ADDED", "b"), ("ADDED", "a")] == briefly(client.told("/api/v1/pods"))


def test_watches_of_other_resources_hear_nothing(client: Client, server: ApiServer) -> None:
    """A write to one resource is no event of another, though both share the revision."""
    with client.watch(LEASES, resourceVersion=server.revision) as events:
        server.pods.add(make_pod("a"))
        server.leases.add({"metadata": {"name": "lock"}})

        assert [("ADDED", "lock")] == briefly([next(events)])


@pytest.mark.parametrize(("how", "expected"), [("end", []), ("expire", ["ERROR"])])
def test_open_watches_can_be_ended(client: Client, server: ApiServer, how: str, expected: list[str]) -> None:
    """A test ends the watches that it chooses, in good order or with the news that they are too old."""
    with client.watch(resourceVersion=server.revision) as events, client.watch(LEASES) as others:
        assert 2 == server.watches()
        assert 1 == server.end_watches("expire" if how == "expire" else "end", resource="pods")
        assert expected == [event["type"] for event in events]
        server.leases.add({"metadata": {"name": "lock"}})
        assert [("ADDED", "lock")] == briefly([next(others)])
