"""The rights that docs/deploy grants suffice, and none of them is there for nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from inferencepool.adapters.kubernetes import ElectionOptions, LeaseName, NamedPool
from inferencepool.lab.apiserver import ApiServer
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.election import LeaderElection
from inferencepool.runtime.kubernetes import LightkubeTransport, PoolWatch, load_cluster
from tests.deploy.manifests import FILES, NAMESPACE, load, only, rules_of
from tests.patience import PATIENCE

DOCUMENTS = load(*FILES["three"])
POOL = only(DOCUMENTS, "InferencePool")["metadata"]["name"]
OPTIONS = ElectionOptions(lease_duration=300, renew_deadline=200.0, retry_period=0.1)


def _single_rights() -> Iterator[tuple[str, str, str]]:
    """Give every right of the roles: group, resource, verb."""
    for rule in rules_of(DOCUMENTS):
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield group, resource, verb


def _without(right: tuple[str, str, str] | None) -> list[dict[str, Any]]:
    """Give the manifests without one right."""
    documents = deepcopy(DOCUMENTS)
    for document in documents:
        if document["kind"] == "Role":
            document["rules"] = [
                {**rule, "apiGroups": [group], "resources": [resource], "verbs": [verb]}
                for rule in document["rules"]
                for group in rule["apiGroups"]
                for resource in rule["resources"]
                for verb in rule["verbs"]
                if (group, resource, verb) != right
            ]
    return documents


def _refused(server: ApiServer) -> set[tuple[str, str, str]]:
    """Give what was refused for want of a right."""
    requests = [entry.request for entry in server.requests if entry.status == 403]
    return {(request.target.group, request.target.plural, request.verb) for request in requests}


async def _run(server: ApiServer, folder: Path, *, until_refused: bool) -> None:
    """Follow the pool and compete for its lease: until all is known and this leads, or until something is refused."""
    account = server.service_account("llama-epp", NAMESPACE)
    config = load_cluster(str(account.write_kubeconfig(folder / "config")))
    transports = [LightkubeTransport(config), LightkubeTransport(config)]
    watch = PoolWatch(transports[0], EndpointRegistry(), NamedPool(POOL, NAMESPACE), rules=_Rules())
    election = LeaderElection(
        transports[1], LeaseName.of_pool(POOL, NAMESPACE), on_change=lambda _: None, options=OPTIONS
    )
    tasks = [asyncio.create_task(watch.run()), asyncio.create_task(election.run())]
    try:
        async with asyncio.timeout(PATIENCE):
            while not (_refused(server) if until_refused else watch.synced and election.leading):
                await asyncio.wait(tasks, timeout=0.02)
            if not until_refused:
                assert not watch.problems
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in transports:
            await transport.close()


class _Rules:
    def set_objectives(self, _: object) -> None:
        """Take objectives."""

    def set_rewrites(self, _: object) -> None:
        """Take rewrites."""


@pytest.mark.parametrize("streaming_lists", [True, False])
@pytest.mark.parametrize("group", ["llm-d.ai", "inference.networking.x-k8s.io"])
def test_rights_suffice(tmp_path: Path, streaming_lists: bool, group: str) -> None:
    """With the roles of docs/deploy a picker knows all it has to and leads, and nothing is refused."""
    with ApiServer(initializing=0, streaming_lists=streaming_lists) as server:
        server.apply(*DOCUMENTS)
        for other in {"llm-d.ai", "inference.networking.x-k8s.io"} - {group}:
            server.withdraw(other)
        asyncio.run(_run(server, tmp_path, until_refused=False))

        assert set() == _refused(server)


@pytest.mark.parametrize("right", list(_single_rights()), ids=" ".join)
def test_each_right_is_needed(tmp_path: Path, right: tuple[str, str, str]) -> None:
    """Without any one of them something is refused: that one."""
    # Lists are streams where the server offers that, and need the right to watch then.
    with ApiServer(initializing=0, streaming_lists=right[2] != "list") as server:
        server.apply(*_without(right))
        if right[0] == "inference.networking.x-k8s.io":
            server.withdraw("llm-d.ai")
        if right[1:] == ("leases", "watch"):
            holder = {"holderIdentity": "another", "leaseDurationSeconds": 60}
            server.leases.add(
                {"metadata": {"name": LeaseName.of_pool(POOL, NAMESPACE).name, "namespace": NAMESPACE}, "spec": holder}
            )
        asyncio.run(_run(server, tmp_path, until_refused=True))

        assert {right} == _refused(server)
