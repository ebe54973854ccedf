"""A real Envoy does with a rendered configuration what it promises; no picker is needed for that."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from inferencepool.gateway import CLIENT_HEADERS, CONTROL_HEADERS, HostPort, render_endpoints, render_envoy
from inferencepool.model import FailureMode
from tests.gateway.envoy import RunningEnvoy, Upstream, dead_address, running_envoy, silent_address, upstream
from tests.gateway.pools import connection_manager, endpoint, local_options, pool

DESTINATION = "x-gateway-destination-endpoint"
SIZES = [0, 2, 100_000, 900_000]


def _at(server: Upstream) -> Any:
    return endpoint("127.0.0.1", server.port, f"llama-{server.port}")


def _send(envoy: RunningEnvoy, size: int, headers: dict[str, str] | None = None) -> Any:
    body = b"x" * size
    reply = envoy.request("POST" if size else "GET", body or None, headers)
    assert 200 == reply.status, reply
    told = reply.json()
    assert (size, hashlib.sha256(body).hexdigest()) == (told["size"], told["sha256"])
    return told


class TestFailingPicker:
    @pytest.mark.parametrize(
        ("body_mode", "health_check"),
        [("none", "prefer"), ("buffered", "off"), ("buffered", "prefer"), ("buffered", "require")],
    )
    def test_open_pool_serves_without_it(self, body_mode: str, health_check: str) -> None:
        """With nobody at the picker's address, requests of any size reach an endpoint whole."""
        with upstream() as server, dead_address() as epp:
            options = local_options(epp, body_mode=body_mode, epp_health_check=health_check)
            with running_envoy(render_envoy(pool(FailureMode.FAIL_OPEN), [_at(server)], options)) as envoy:
                for size in SIZES * 3:
                    _send(envoy, size)

    @pytest.mark.parametrize(
        ("body_mode", "cluster"),
        [
            ("none", "override-host"),
            ("buffered", "override-host"),
            ("full-duplex", "override-host"),
            ("full-duplex", "original-dst"),
        ],
    )
    def test_closed_pool_does_not(self, body_mode: str, cluster: str) -> None:
        """With nobody at the picker's address, every request gets 503, also one that names an endpoint itself."""
        with upstream() as server, dead_address() as epp:
            options = local_options(epp, body_mode=body_mode, cluster=cluster)
            with running_envoy(render_envoy(pool(), [_at(server)], options)) as envoy:
                for size in SIZES:
                    forged = {DESTINATION: f"127.0.0.1:{server.port}"}
                    assert 503 == envoy.request("POST" if size else "GET", b"x" * size or None, forged).status

    @pytest.mark.parametrize(
        "bound", [{"epp_timeout": 0.2}, {"epp_keepalive": 0.1, "epp_timeout": 3600}, {"epp_health_check": "require"}]
    )
    def test_open_pool_serves_though_it_hangs(self, bound: dict[str, Any]) -> None:
        """A picker that takes connections and never answers is given up, for each reason there is."""
        with upstream() as server, silent_address() as epp:
            document = render_envoy(
                pool(FailureMode.FAIL_OPEN), [_at(server)], local_options(epp, **{"epp_health_check": "off", **bound})
            )
            with running_envoy(document) as envoy:
                for size in (0, 100_000):
                    _send(envoy, size)

    @pytest.mark.parametrize(
        "bound",
        [
            {"epp_keepalive": 0.1},
            {"idle_timeout": 0.2, "epp_timeout": 0.2},
            {"max_duration": 0.2, "epp_timeout": 0.2},
            {"epp_health_check": "require"},
        ],
    )
    def test_closed_pool_ends_requests_though_it_hangs(self, bound: dict[str, Any]) -> None:
        """In full duplex, where the filter has no timeout, the client is answered all the same."""
        with upstream() as server, silent_address() as epp:
            options = local_options(epp, **{"epp_health_check": "off", "epp_keepalive": 3600, **bound})
            with running_envoy(render_envoy(pool(), [_at(server)], options)) as envoy:
                for size in (0, 100_000):
                    assert envoy.request("POST" if size else "GET", b"x" * size or None).status in {503, 504}

    def test_body_above_the_limit_is_refused(self) -> None:
        """Where the body is held for the picker, one that is too large gets 413."""
        with upstream() as server, silent_address() as epp:
            options = local_options(epp, buffer_limit=65_536, epp_timeout=0.2, epp_health_check="off")
            with running_envoy(render_envoy(pool(FailureMode.FAIL_OPEN), [_at(server)], options)) as envoy:
                _send(envoy, 60_000)
                assert 413 == envoy.request("POST", b"x" * 1_000_000).status


class TestHeaders:
    def test_forged_ones_do_not_arrive_and_others_do(self) -> None:
        """What only proxy and picker may say is removed, however it is spelled; what clients may say is not."""
        forged = {name.title(): "127.0.0.1:1" for name in CONTROL_HEADERS}
        own = dict.fromkeys(CLIENT_HEADERS, "mine")
        theirs = {"x-envoy-original-path": "/admin", "x-envoy-max-retries": "99", "x-envoy-internal": "true"}
        with upstream() as server, dead_address() as epp:
            options = local_options(epp, strip_headers=["X-Tenant"])
            with running_envoy(render_envoy(pool(FailureMode.FAIL_OPEN), [_at(server)], options)) as envoy:
                arrived = _send(envoy, 2, {**forged, **own, **theirs, "x-tenant": "a", "x-other": "b"})["headers"]

        assert dict.fromkeys(own, "mine") == {name: arrived.get(name) for name in own}
        assert "b" == arrived["x-other"]
        assert set() == arrived.keys() & {*CONTROL_HEADERS, *theirs, "x-tenant"}

    @pytest.mark.parametrize("given", ["mine", "7f0c9a52-8c0e-4d7e-9c1c-0d6a4f9b5e11"])
    def test_request_id_of_the_client_stays_as_it_is(self, given: str) -> None:
        """The id arrives unchanged and comes back; without one, the one that Envoy made does."""
        with ExitStack() as stack:
            server = stack.enter_context(upstream())
            options = local_options(stack.enter_context(dead_address()))
            document = render_envoy(pool(FailureMode.FAIL_OPEN), [_at(server)], options)
            envoy = stack.enter_context(running_envoy(document))
            kept = envoy.request(headers={"x-request-id": given})
            made = envoy.request()

        assert given == kept.json()["headers"]["x-request-id"] == kept.headers["x-request-id"]
        assert made.headers["x-request-id"] == made.json()["headers"]["x-request-id"] != given


class TestOverrideHost:
    """The pool's cluster alone: without the filter, and with the client in the picker's place."""

    def _document(self, servers: list[Any], mode: str = FailureMode.FAIL_CLOSE, **options: Any) -> dict[str, Any]:
        chosen = local_options(HostPort("127.0.0.1", 1), epp_health_check="off", keep_headers=[DESTINATION], **options)
        document = render_envoy(pool(mode), servers, chosen)
        del connection_manager(document)["http_filters"][0]
        return document

    def test_pick_is_followed(self) -> None:
        """Each request goes to the endpoint that was picked for it."""
        with ExitStack() as stack:
            servers = [stack.enter_context(upstream()) for _ in range(3)]
            envoy = stack.enter_context(running_envoy(self._document([_at(server) for server in servers])))
            for server in servers * 5:
                assert server.port == _send(envoy, 2, {DESTINATION: f"127.0.0.1:{server.port}"})["port"]

    @pytest.mark.parametrize("failing", ["refuses", "unready", "unknown"])
    @pytest.mark.parametrize("body_size", [0, 900_000])
    def test_list_is_walked(self, failing: str, body_size: int) -> None:
        """When the first of the list does not serve, or is not of the pool, the next one does."""
        with ExitStack() as stack:
            first = stack.enter_context(upstream(503))
            wanted, other = (stack.enter_context(upstream()) for _ in range(2))
            dead = stack.enter_context(dead_address())
            servers = [_at(first), _at(wanted), _at(other), endpoint(dead.host, dead.port, "llama-dead")]
            listed = {"refuses": str(dead), "unready": f"127.0.0.1:{first.port}", "unknown": "127.0.0.1:1"}[failing]
            envoy = stack.enter_context(running_envoy(self._document(servers)))
            for _ in range(10):
                headers = {DESTINATION: f"{listed},127.0.0.1:{wanted.port}"}
                assert wanted.port == _send(envoy, body_size, headers)["port"]

    def test_closed_pool_serves_nothing_without_a_usable_pick(self) -> None:
        """Neither an endpoint outside of the pool nor no endpoint at all becomes some endpoint of the pool."""
        with upstream() as server, upstream() as foreign, running_envoy(self._document([_at(server)])) as envoy:
            for headers in ({}, {DESTINATION: f"127.0.0.1:{foreign.port}"}, {DESTINATION: "nonsense"}):
                assert 503 == envoy.request(headers=headers).status

    @pytest.mark.parametrize(
        ("mode", "fallback"),
        [
            (FailureMode.FAIL_OPEN, "auto"),
            (FailureMode.FAIL_OPEN, "round-robin"),
            (FailureMode.FAIL_CLOSE, "least-request"),
        ],
    )
    def test_fallback_serves_without_a_usable_pick(self, mode: str, fallback: str) -> None:
        """An open pool, and a closed one that asks for it, sends the request to some endpoint."""
        with upstream() as server, running_envoy(self._document([_at(server)], mode, fallback=fallback)) as envoy:
            for headers in ({}, {DESTINATION: "127.0.0.1:1"}):
                assert server.port == _send(envoy, 0, headers)["port"]

    def test_single_pick_that_is_unready(self) -> None:
        """A closed pool answers 503 when the only endpoint that was picked does, and asks no other one."""
        with upstream(503) as unready, upstream() as other:
            document = self._document([_at(unready), _at(other)])
            with running_envoy(document) as envoy:
                assert 503 == envoy.request(headers={DESTINATION: f"127.0.0.1:{unready.port}"}).status

    def test_endpoints_come_from_a_file(self, tmp_path: Path) -> None:
        """With a file of endpoints, those in the file are the ones that serve."""
        file = tmp_path / "endpoints.json"
        with upstream() as listed, upstream() as rendered:
            file.write_text(json.dumps(render_endpoints(pool(), [_at(listed)])), encoding="utf-8")
            with running_envoy(self._document([_at(rendered)], eds_file=str(file))) as envoy:
                assert listed.port == _send(envoy, 2, {DESTINATION: f"127.0.0.1:{listed.port}"})["port"]
                assert 503 == envoy.request(headers={DESTINATION: f"127.0.0.1:{rendered.port}"}).status
