"""Requests reach the endpoint that was picked for them, and no other."""

from __future__ import annotations

from typing import Any

import pytest

from inferencepool.lab.model_servers import ModelServerSimulator, SimulatorOptions
from inferencepool.plugins import SessionAffinityScorer
from inferencepool.scheduling import SchedulingProfile
from tests.envoy.stage import CHAT, CLUSTERS, KINDS, MODEL, Client, RunningPicker, Stage, chat, has_ipv6, on_stage
from tests.gateway.envoy import dead_address
from tests.gateway.pools import connection_manager

NAMESPACE = "envoy.lb.subset_hint"
KEY = "x-gateway-destination-endpoint-subset"


def subset_from_header(document: dict[str, Any]) -> None:
    """Let the header ``x-subset`` become the subset hint, as a filter of the gateway would set it."""
    kind = "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"
    present = {"metadata_namespace": NAMESPACE, "key": KEY}
    rule = {"header": "x-subset", "on_header_present": present, "remove": True}
    _put_first(document, "header_to_metadata", {"@type": kind, "request_rules": [rule]})


def subset_as_list(*addresses: str) -> Any:
    """Let every request have the same subset hint, as a list."""

    def prepare(document: dict[str, Any]) -> None:
        kind = "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config"
        metadata = [{"metadata_namespace": NAMESPACE, "value": {KEY: list(addresses)}}]
        _put_first(document, "set_metadata", {"@type": kind, "metadata": metadata})

    return prepare


def _put_first(document: dict[str, Any], name: str, config: dict[str, Any]) -> None:
    filters = connection_manager(document)["http_filters"]
    filters.insert(0, {"name": f"envoy.filters.http.{name}", "typed_config": config})


async def _check_reached(client: Client, picker: RunningPicker, wanted: str, headers: dict[str, str]) -> None:
    """Send a request with and one without a body; both must be picked for, served and reached at *wanted*."""
    for body in (chat(), None):
        path = CHAT if body else "/v1/models"
        reply = await client.send(path, body, headers)
        assert (200, wanted) == (reply.status, reply.headers.get("x-served-by")), reply
        exchange = await picker.exchange(reply.request_id)
        assert wanted == exchange.destination.split(",")[0]
        # An original-dst cluster tells nobody which endpoint served.
        assert exchange.served in {wanted, ""}
        assert (wanted == exchange.served) is ("x-told" in reply.headers)
        assert reply.headers.get("x-told", wanted) == wanted
        assert exchange.complete
        assert (200, None) == (exchange.status, exchange.error)


class TestPins:
    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_each_endpoint_is_reached(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Chosen, served and reached are the same, with a body and without."""
        picker = await stage.picker(served_header="x-told")
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        for wanted in stage.addresses * 3:
            await _check_reached(client, picker, wanted, {"x-pin": wanted})
        told = [exchange.served for each in picker.exchanges.values() for exchange in each]
        assert cluster == "original-dst" or set(stage.addresses) <= set(told)
        await picker.until_idle()

    @pytest.mark.parametrize("cluster", CLUSTERS)
    @on_stage
    async def test_ipv6(self, stage: Stage, cluster: str) -> None:
        """An endpoint with an IPv6 address is reached, and told in brackets."""
        if not has_ipv6():
            pytest.skip("this machine has no IPv6 loopback")
        async with ModelServerSimulator(SimulatorOptions.immediate(models=[MODEL]), host="::1") as server:
            addresses = [server.address, stage.scripted.address]
            assert server.address.startswith("[::1]:")
            picker = await stage.start_picker(addresses, served_header="x-told")
            client = await stage.start_envoy(picker.address, addresses=addresses, cluster=cluster)
            for wanted in addresses:
                await _check_reached(client, picker, wanted, {"x-pin": wanted})


class TestSubset:
    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered", "none"])
    @pytest.mark.parametrize("cluster", CLUSTERS)
    @on_stage
    async def test_text(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Only what the gateway allows is picked, also against the wish of a strategy; nothing allowed is 503."""
        picker = await stage.picker(served_header="x-told")
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode, prepare=subset_from_header)
        first, second, third = stage.addresses
        for wanted in stage.addresses:
            await _check_reached(client, picker, wanted, {"x-subset": wanted})
            others = [address for address in stage.addresses if address != wanted]
            hint = {"x-subset": ", ".join(others), "x-pin": f"{wanted},{others[1]}"}
            await _check_reached(client, picker, others[1], hint)
        await _check_reached(client, picker, first, {"x-pin": f"{first},{second},{third}"})
        for body in (chat(), None):
            refused = await client.send(CHAT, body, {"x-subset": "127.0.0.1:1"})
            assert (503, "rejected-no-endpoints") == (refused.status, refused.headers["x-llm-d-request-dropped-reason"])

    @on_stage
    async def test_list(self, stage: Stage) -> None:
        """A hint that is a list works as one that is a text."""
        picker = await stage.picker(served_header="x-told")
        first, second, _ = stage.addresses
        client = await stage.start_envoy(picker.address, prepare=subset_as_list(second, "127.0.0.1:1"))
        await _check_reached(client, picker, second, {"x-pin": first})

    @on_stage
    async def test_empty_list(self, stage: Stage) -> None:
        """An empty list allows nothing."""
        picker = await stage.picker(served_header="x-told")
        client = await stage.start_envoy(picker.address, prepare=subset_as_list())
        assert [503, 503] == [(await client.send(CHAT, body)).status for body in (chat(), None)]


class TestFallbacks:
    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered", "none"])
    @on_stage
    async def test_next_of_the_list_serves(self, stage: Stage, body_mode: str) -> None:
        """When the first endpoint refuses the connection, the next one serves, and the picker is told which."""
        with dead_address() as dead, dead_address() as dead_too:
            addresses = [str(dead), str(dead_too), *stage.addresses]
            picker = await stage.start_picker(addresses, fallbacks=4)
            client = await stage.start_envoy(picker.address, addresses=addresses, body_mode=body_mode)
            for wanted in stage.addresses * 3:
                for body in (None, chat(), chat(100_000)):
                    reply = await client.send(
                        CHAT if body else "/v1/models", body, {"x-pin": f"{dead},{dead_too},{wanted}"}
                    )
                    assert (200, wanted) == (reply.status, reply.headers.get("x-served-by")), reply
                    exchange = await picker.exchange(reply.request_id)
                    assert [str(dead), str(dead_too), wanted] == exchange.destination.split(",")[:3]
                    assert (wanted, 200) == (exchange.served, exchange.status)
            await picker.until_idle()

    @pytest.mark.parametrize("cluster", CLUSTERS)
    @on_stage
    async def test_single_pick_that_refuses(self, stage: Stage, cluster: str) -> None:
        """Without a list the client gets 503, and nobody else is asked."""
        with dead_address() as dead:
            addresses = [str(dead), *stage.addresses]
            picker = await stage.start_picker(addresses)
            client = await stage.start_envoy(picker.address, addresses=addresses, cluster=cluster)
            for body in (None, chat()):
                reply = await client.send(CHAT, body, {"x-pin": str(dead)})
                assert 503 == reply.status
                exchange = await picker.exchange(reply.request_id)
                assert (str(dead), 503, True) == (exchange.destination, exchange.status, exchange.complete)
            await picker.until_idle()


class TestSessions:
    """A client that brings back what it was given reaches the same model server."""

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_the_token_of_a_response_brings_back(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """The response carries a token, also where the picker stays for nothing else."""
        profile = SchedulingProfile(scorers=[SessionAffinityScorer()])
        picker = await stage.start_picker(profile=profile)
        client = await stage.start_envoy(picker.address, cluster=cluster, body_mode=body_mode)
        for _ in range(3):
            first = await client.send(CHAT, chat())
            token = first.headers["x-session-token"]
            for _ in range(4):
                again = await client.send(CHAT, chat(), {"x-session-token": token})
                assert (200, token) == (again.status, again.headers["x-session-token"])
                assert first.headers["x-served-by"] == again.headers["x-served-by"]
        await picker.until_idle()
