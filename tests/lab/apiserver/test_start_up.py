"""What a server refuses just after its start."""

from __future__ import annotations

from inferencepool.lab.apiserver import ApiServer
from inferencepool.testing import make_pod
from tests.lab.apiserver.client import LEASES, PODS, Client


def test_refused_at_first() -> None:
    """By default the first list of a resource after each start is refused: its storage is not read yet."""
    with ApiServer() as server:
        client = Client(server)
        server.pods.add(make_pod("a"))
        for _ in range(2):
            first = client.get(PODS)

            assert (429, "1") == (first.status, first.headers["retry-after"])
            assert "storage is (re)initializing" == first.document["message"]
            assert ["a"] == client.get(PODS).names
            assert (429, 200) == (client.get(LEASES, watch=1).status, client.get(LEASES).status)
            assert 200 == client.get(f"{PODS}/a").status
            server.stop()
            server.start()


def test_rights_come_late() -> None:
    """A service account may do nothing at first, and then what its roles say."""
    with ApiServer(initializing=2) as server:
        rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
        client = Client(server, server.service_account("picker", rules=rules))

        assert [403, 403, 429, 429, 200] == [client.get(PODS).status for _ in range(5)]


def test_switched_off() -> None:
    """With 0 nothing is refused."""
    with ApiServer(initializing=0) as server:
        assert 200 == Client(server).get(PODS).status
