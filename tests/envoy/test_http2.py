"""HTTP/2 on both sides of Envoy."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from h2.errors import ErrorCodes

from inferencepool.lab.envoy import EnvoyProcess
from inferencepool.model import AppProtocol
from tests.envoy.scripted import Script
from tests.envoy.stage import CHAT, KINDS, Client, Stage, chat, on_stage, until
from tests.patience import PATIENCE
from tests.runtime.grpc.peer import Peer


def _front_of(address: str) -> dict[str, Any]:
    """Configure an Envoy that takes HTTP/2 alone, and sends what it gets to *address* in HTTP/1.1."""
    host, _, port = address.rpartition(":")
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    filters = "type.googleapis.com/envoy.extensions.filters.network"
    manager = {
        "@type": f"{filters}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "front",
        "codec_type": "HTTP2",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "server"}}],
                }
            ]
        },
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
    }
    server = {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "front",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                {
                    "name": "server",
                    "load_assignment": {"cluster_name": "server", "endpoints": [{"lb_endpoints": [server]}]},
                }
            ],
        }
    }


@asynccontextmanager
async def _http2(client: Client) -> AsyncIterator[httpx2.AsyncClient]:
    """Give a client that speaks HTTP/2 without being asked."""
    async with httpx2.AsyncClient(http1=False, http2=True, base_url=client.url, timeout=PATIENCE) as http2:
        yield http2


@pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
@on_stage
async def test_both_sides(stage: Stage, cluster: str, body_mode: str) -> None:
    """A client of HTTP/2, and model servers that speak nothing else."""
    async with (
        EnvoyProcess(_front_of(stage.addresses[0])) as front,
        EnvoyProcess(_front_of(stage.addresses[1])) as other,
    ):
        addresses = [front.listener("front"), other.listener("front")]
        picker = await stage.start_picker(addresses)
        client = await stage.start_envoy(
            picker.address, addresses=addresses, cluster=cluster, body_mode=body_mode, protocol=AppProtocol.H2C
        )
        async with _http2(client) as http2:
            for number in range(6):
                wanted = number % 2
                for size in (0, 1000, 3_000_000):
                    body = chat(size)
                    headers = {"x-pin": addresses[wanted], "x-request-id": f"{number}-{size}"}
                    reply = await http2.post(CHAT, content=body, headers=headers)
                    assert ("HTTP/2", 200) == (reply.http_version, reply.status_code)
                    assert stage.addresses[wanted] == reply.headers["x-served-by"]
                    assert hashlib.sha256(body).hexdigest() == reply.headers["x-received-sha256"]
                    exchange = await picker.exchange(f"{number}-{size}")
                    assert exchange.destination.startswith(addresses[wanted])
                    assert exchange.served in {addresses[wanted], ""}
            listed = await http2.get("/v1/models", headers={"x-pin": addresses[0]})
            assert 200 == listed.status_code
            requests = (
                http2.post(CHAT, content=chat(5000, stream=True), headers={"x-pin": addresses[number % 2]})
                for number in range(100)
            )
            for reply in await asyncio.gather(*requests):
                assert (200, True) == (reply.status_code, reply.text.endswith("data: [DONE]\n\n"))
        stats = [await each.admin.stats("downstream_rq_http[12]_total") for each in (client.envoy, front, other)]
        for each in stats:
            counts = {name.rpartition(".")[2]: value for name, value in each.items() if "admin" not in name}
            assert counts["downstream_rq_http2_total"] > 50
            assert 0 == counts["downstream_rq_http1_total"]
        await picker.until_idle()


@pytest.mark.parametrize("body_mode", ["full-duplex", "buffered", "none"])
@on_stage
async def test_client_resets_some_streams(stage: Stage, body_mode: str) -> None:
    """Of many responses on one connection a client gives some up: those are released, the others go on."""
    picker = await stage.picker()
    client = await stage.behind(picker, body_mode=body_mode)
    address = urlsplit(client.url)
    assert address.port is not None
    peer = await Peer.connect(address.port)
    scripts: dict[int, Script] = {}
    for _ in range(10):
        script = stage.scripted.script()
        script.send(b"first")
        headers = {**script.headers, "x-pin": stage.scripted.address}
        stream_id = peer.open(CHAT, *headers.items(), te=None, content_type="application/json")
        peer.h2.send_data(stream_id, chat(stream=True), end_stream=True)
        scripts[stream_id] = script
    await peer.flush()
    await peer.until(lambda: all(b"first" == peer.data(stream_id) for stream_id in scripts))
    assert 10 == picker.picker.statistics().in_flight
    left, kept = list(scripts)[::2], list(scripts)[1::2]
    for stream_id in left:
        peer.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
    await peer.flush()
    for stream_id in left:
        await scripts[stream_id].gone.wait()
    await until(lambda: 5 == picker.picker.statistics().in_flight, picker.picker.statistics)
    for stream_id in kept:
        scripts[stream_id].send(b"last")
        scripts[stream_id].end()
    await peer.until(lambda: all(map(peer.ended, kept)))
    assert [b"firstlast"] * 5 == [peer.data(stream_id) for stream_id in kept]
    await peer.close()
    await picker.until_idle()
