"""What a rendered configuration says, and what is refused instead of rendered."""

from __future__ import annotations

import json
from math import inf, nan
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.gateway import (
    CLIENT_HEADERS,
    CONTROL_HEADERS,
    EnvoyOptions,
    HostPort,
    plan,
    render_endpoints,
    render_envoy,
)
from inferencepool.model import AppProtocol, FailureMode, InferencePool
from inferencepool.registry import OutlierDetection
from tests.gateway.pools import connection_manager, endpoint, picker_filter, pool

DESTINATION = "x-gateway-destination-endpoint"
BODIES = {"none": "NONE", "buffered": "BUFFERED", "full-duplex": "FULL_DUPLEX_STREAMED"}


def _render(mode: str = FailureMode.FAIL_CLOSE, **options: Any) -> dict[str, Any]:
    return render_envoy(pool(mode), [endpoint()], EnvoyOptions(**options))


def _clusters(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    endpoints, picker = document["static_resources"]["clusters"]
    return endpoints, picker


class TestPicker:
    def test_open_pool_holds_bodies_and_closed_pool_streams_them(self) -> None:
        """Left open, the mode of bodies is one in which Envoy does what the pool's failure mode says."""
        fails_open, fails_closed = picker_filter(_render(FailureMode.FAIL_OPEN)), picker_filter(_render())

        assert fails_open["failure_mode_allow"] is True
        assert "BUFFERED" == fails_open["processing_mode"]["request_body_mode"]
        assert fails_closed["failure_mode_allow"] is False
        assert "FULL_DUPLEX_STREAMED" == fails_closed["processing_mode"]["request_body_mode"]

    @pytest.mark.parametrize("usage", [False, True])
    @pytest.mark.parametrize("body_mode", BODIES)
    def test_phases(self, body_mode: str, *, usage: bool) -> None:
        """The stream lasts up to the end of the response; response bodies come only where usage is wanted."""
        expected = {
            "request_header_mode": "SEND",
            "request_body_mode": BODIES[body_mode],
            "request_trailer_mode": "SEND" if body_mode == "full-duplex" else "SKIP",
            "response_header_mode": "SEND",
            "response_body_mode": "STREAMED" if usage else "NONE",
            "response_trailer_mode": "SEND",
        }

        assert expected == picker_filter(_render(body_mode=body_mode, usage=usage))["processing_mode"]

    def test_address_is_the_service_that_the_pool_names(self) -> None:
        """The Service's DNS name and port, or 9002 where an older pool has no port."""
        assert "llama-epp.default.svc:9002" == str(plan(pool(), EnvoyOptions()).epp)
        assert "llama-epp.default.svc:9002" == str(plan(pool(port=None), EnvoyOptions()).epp)
        assert "[fd00::1]:7" == str(plan(pool(), EnvoyOptions(epp_address=HostPort.parse("[fd00::1]:7"))).epp)

    def test_health_port_is_asked_without_tls(self) -> None:
        """Health on its own port is plaintext though ext_proc is not; on the same port it shares its TLS."""
        own, same = _clusters(_render(epp_health_port=9003))[1], _clusters(_render())[1]

        (member,) = own["load_assignment"]["endpoints"][0]["lb_endpoints"]
        assert {"port_value": 9003} == member["endpoint"]["health_check_config"]
        assert own["transport_socket_matches"][0]["match"] == own["health_checks"][0]["transport_socket_match_criteria"]
        assert "transport_socket" in own
        assert "transport_socket_matches" not in same
        service = same["health_checks"][0]["grpc_health_check"]["service_name"]
        assert "envoy.service.ext_proc.v3.ExternalProcessor" == service

    @pytest.mark.parametrize(("health_check", "panic"), [("prefer", 1), ("require", 0)])
    def test_health_counts_up_to_the_last_replica_or_not(self, health_check: str, panic: int) -> None:
        """The share of healthy replicas below which all are tried is any at all, or none."""
        cluster = _clusters(_render(epp_health_check=health_check))[1]

        assert {"value": panic} == cluster["common_lb_config"]["healthy_panic_threshold"]
        assert "health_checks" not in _clusters(_render(epp_health_check="off"))[1]

    def test_plaintext_has_no_transport_socket(self) -> None:
        """Without TLS the cluster speaks HTTP/2 in the clear."""
        assert "transport_socket" not in _clusters(_render(epp_tls=False))[1]


class TestEndpoints:
    def test_each_address_once_in_order(self) -> None:
        """IPv4 and IPv6 endpoints are listed with their ports; one that comes twice is listed once."""
        given = [endpoint("fd00::2", 8001), endpoint(), endpoint(name="same-node")]
        cluster = _clusters(render_envoy(pool(), given))[0]
        members = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]

        assert [("fd00::2", 8001), ("10.0.0.1", 8000)] == [
            tuple(member["endpoint"]["address"]["socket_address"].values()) for member in members
        ]

    @pytest.mark.parametrize(
        ("protocol", "expected"),
        [
            ("http", {"http_protocol_options": {}}),
            ("kubernetes.io/h2c", {"http2_protocol_options": {"allow_connect": True}}),
        ],
    )
    def test_protocol_is_that_of_the_pool(self, protocol: str, expected: dict[str, Any]) -> None:
        """A pool of h2c is spoken to in HTTP/2 from the first byte; WebSockets are an extended CONNECT there."""
        document = render_envoy(pool(protocol=AppProtocol(protocol)), [endpoint()])
        (options,) = _clusters(document)[0]["typed_extension_protocol_options"].values()

        assert expected == options["explicit_http_config"]

    def test_served_endpoint_is_reported_where_it_is_known(self) -> None:
        """An override-host cluster writes the served endpoint where the filter forwards it to the picker."""
        document = _render()
        policy = _clusters(document)[0]["load_balancing_policy"]["policies"][0]["typed_extension_config"]

        key = {"key": "envoy.lb", "path": [{"key": "x-gateway-destination-endpoint-served"}]}
        assert key == policy["typed_config"]["selected_host_key"]
        namespaces = picker_filter(document)["metadata_options"]
        assert ["envoy.lb", "envoy.lb.subset_hint"] == namespaces["forwarding_namespaces"]["untyped"]
        assert ["envoy.lb"] == namespaces["receiving_namespaces"]["untyped"]

    @pytest.mark.parametrize(
        ("mode", "options", "resets"),
        [
            (FailureMode.FAIL_OPEN, {}, True),
            (FailureMode.FAIL_CLOSE, {}, False),
            (FailureMode.FAIL_OPEN, {"retry_resets": False}, False),
            (FailureMode.FAIL_CLOSE, {"retry_resets": True}, True),
        ],
    )
    def test_what_a_server_had_is_sent_again_where_serving_comes_first(
        self, mode: FailureMode, options: dict[str, Any], *, resets: bool
    ) -> None:
        """By default that is where the pool fails open; what no server had is sent again in any case."""
        policy = _route(_render(mode, **options))["retry_policy"]

        assert 3 == policy["num_retries"]
        conditions = policy["retry_on"].split(",")
        assert "connect-failure" in conditions
        assert ("reset" if resets else "reset-before-request") in conditions
        assert ("reset-before-request" if resets else "reset") not in conditions

    @pytest.mark.parametrize("body_mode", BODIES)
    def test_upgraded_requests_have_no_bodies(self, body_mode: str) -> None:
        """Whatever the mode, the picker gets their headers alone, for their bodies never end."""
        manager = connection_manager(_render(body_mode=body_mode, usage=True))
        ((upgrade, protocol),) = [(each, each["upgrade_type"]) for each in manager["upgrade_configs"]]

        assert "websocket" == protocol
        assert {"allow_connect": True} == manager["http2_protocol_options"]
        modes = upgrade["filters"][0]["typed_config"]["processing_mode"]
        assert ("NONE", "NONE") == (modes["request_body_mode"], modes["response_body_mode"])
        assert "upgrade_configs" not in connection_manager(_render(upgrades=()))

    def test_envoy_ejects_only_where_it_is_told_to(self) -> None:
        """Envoy's own outlier detection is off by default; it takes more failures than the picker's, and longer."""
        plain, _ = _clusters(_render())
        cluster, _ = _clusters(_render(outlier_detection=True, fallback="round-robin"))
        rules = OutlierDetection()

        assert "outlier_detection" not in plain
        with pytest.raises(ConfigurationError, match="outlier_detection: has no effect with the fallback none"):
            _render(outlier_detection=True)
        assert cluster["outlier_detection"]["consecutive_5xx"] > rules.consecutive_gateway_failure
        assert float(cluster["outlier_detection"]["base_ejection_time"][:-1]) > rules.base_ejection_time

    def test_original_dst_dials_the_header_and_lists_nothing(self) -> None:
        """The cluster knows no endpoints, and nothing is sent again."""
        document = _render(cluster="original-dst")
        cluster = _clusters(document)[0]

        assert {"use_http_header": True, "http_header_name": DESTINATION} == cluster["original_dst_lb_config"]
        assert "load_assignment" not in cluster
        assert "retry_policy" not in _route(document)

    @pytest.mark.parametrize(
        ("given", "text"),
        [(endpoint("nowhere"), "no IP address"), (endpoint(port=0), "no IP address"), (endpoint("-"), "host: '-'")],
    )
    def test_endpoint_without_an_address_is_refused(self, given: Any, text: str) -> None:
        """The error names the endpoint."""
        for render in (render_envoy, render_endpoints):
            with pytest.raises(ConfigurationError, match=text) as raised:
                render(pool(), [endpoint(), given])
            assert str(raised.value).startswith(f"endpoints: {given}")

    def test_version_of_the_file_tells_changes(self) -> None:
        """The same endpoints give the same file; others give another version."""
        one, same, other = (
            render_endpoints(pool(), [endpoint(port=port)])["version_info"] for port in (8000, 8000, 8001)
        )

        assert one == same != other


class TestListener:
    def test_limits_in_seconds_and_bytes(self) -> None:
        """Times and sizes stand where Envoy looks for them; the limit of 15 seconds for a response is off."""
        document = _render(idle_timeout=1.5, max_duration=90, buffer_limit=77, epp_timeout=0.25)

        assert "1.5s" == connection_manager(document)["stream_idle_timeout"]
        assert {"max_stream_duration": "90s"} == connection_manager(document)["common_http_protocol_options"]
        assert 77 == document["static_resources"]["listeners"][0]["per_connection_buffer_limit_bytes"]
        assert "0.25s" == picker_filter(document)["message_timeout"]
        assert "0s" == _route(document)["timeout"]

    def test_no_administration_unless_asked_for(self) -> None:
        """Nobody can stop the proxy over HTTP."""
        assert "admin" not in _render()
        assert "admin" in _render(admin=HostPort("127.0.0.1", 0))

    def test_paths_are_tidied_up_before_anybody_reads_them(self) -> None:
        """The picker and the model server get the same path, with no spelling left to be read in two ways."""
        manager = connection_manager(_render())

        assert manager["normalize_path"] is True
        assert manager["merge_slashes"] is True
        assert "UNESCAPE_AND_REDIRECT" == manager["path_with_escaped_slashes_action"]

    def test_kept_headers_are_not_removed(self) -> None:
        """A header that a trusted proxy sets passes; the others do not."""
        kept = "Test-EPP-Endpoint-Selection"

        assert tuple(name for name in CONTROL_HEADERS if name != kept.lower()) == _stripped(keep_headers=[kept])
        assert (*CONTROL_HEADERS, "x-a") == _stripped(strip_headers=["X-A", "x-a", CONTROL_HEADERS[0]])
        assert not connection_manager(_render(keep_headers=CONTROL_HEADERS))["early_header_mutation_extensions"]

    def test_no_header_is_both_forged_and_the_client_s(self) -> None:
        """What clients may say and what they may not do not overlap."""
        assert set() == {*CONTROL_HEADERS} & {*CLIENT_HEADERS}

    def test_document_is_json(self) -> None:
        """The document holds nothing but what JSON has, and a second one is equal to the first."""
        assert _render() == json.loads(json.dumps(_render()))


def _route(document: dict[str, Any]) -> dict[str, Any]:
    (host,) = connection_manager(document)["route_config"]["virtual_hosts"]
    (route,) = host["routes"]
    action: dict[str, Any] = route["route"]
    return action


def _stripped(**options: Any) -> tuple[str, ...]:
    (early,) = connection_manager(_render(**options))["early_header_mutation_extensions"]
    return tuple(mutation["remove"] for mutation in early["typed_config"]["mutations"])


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            (
                {"cluster": "original-dst"},
                "cluster: original-dst cannot honor failureMode FailOpen: it knows no endpoints",
            ),
            (
                {"body_mode": "full-duplex"},
                "body_mode: full-duplex cannot honor failureMode FailOpen: Envoy answers 500",
            ),
            ({"fallback": "none"}, "fallback: none cannot honor failureMode FailOpen: without a pick"),
        ],
    )
    def test_what_cannot_fail_open(self, options: dict[str, Any], reason: str) -> None:
        """A pool that fails open gets no configuration that does not; one that fails closed gets it."""
        with pytest.raises(ConfigurationError) as raised:
            _render(FailureMode.FAIL_OPEN, **options)

        assert str(raised.value).startswith(reason)
        _render(FailureMode.FAIL_CLOSE, **options)

    @pytest.mark.parametrize(
        "options",
        [
            {"fallback": "round-robin"},
            {"retries": 1},
            {"outlier_detection": True},
            {"eds_file": "/x"},
            {"keep_headers": [DESTINATION]},
        ],
    )
    def test_what_original_dst_cannot_do(self, options: dict[str, Any]) -> None:
        """What needs to know endpoints, or would let clients dial anything, is refused with the option's name."""
        with pytest.raises(ConfigurationError, match="original-dst cluster knows no endpoints") as raised:
            _render(cluster="original-dst", **options)

        assert str(raised.value).startswith(f"{next(iter(options))}: ")
        _render(**{"fallback": "round-robin", **options})

    @pytest.mark.parametrize(
        ("given", "reason"),
        [
            (InferencePool(name="a", selector={"b": "c"}, target_ports=[1]), "has no spec.endpointPickerRef"),
            (pool(kind="Picker"), "is a Picker, whose address is unknown"),
            (pool(kind="Picker", group="example.com"), "is a Picker.example.com, "),
            (pool(picker_name="x y"), "names no Service"),
        ],
    )
    def test_picker_that_cannot_be_found(self, given: InferencePool, reason: str) -> None:
        """Where the pool does not tell, the address must be given."""
        with pytest.raises(ConfigurationError, match=reason) as raised:
            render_envoy(given)

        assert str(raised.value).startswith("epp_address: is needed")
        assert not plan(given, EnvoyOptions(epp_address=HostPort("10.0.0.1", 1))).fail_open

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("cluster", "strict"),
            ("listen", "127.0.0.1:80"),
            ("listen", HostPort("localhost", 80)),
            ("admin", HostPort("example.com", 80)),
            ("epp_address", HostPort("10.0.0.1", 0)),
            ("epp_tls", "yes"),
            ("epp_ca_file", ""),
            ("epp_server_name", "name"),
            ("epp_health_check", "always"),
            ("epp_health_port", 0),
            ("epp_health_port", 65_536),
            ("epp_connect_timeout", 0),
            ("epp_keepalive", -1.0),
            ("epp_timeout", nan),
            ("epp_timeout", inf),
            ("epp_timeout", True),
            ("epp_timeout", "10s"),
            ("body_mode", "streamed"),
            ("buffer_limit", 0),
            ("buffer_limit", 2**32),
            ("buffer_limit", 1.0),
            ("usage", 1),
            ("eds_file", "a\nb"),
            ("endpoint_connect_timeout", 1e9),
            ("endpoint_idle_timeout", None),
            ("fallback", "random"),
            ("retries", -1),
            ("retry_resets", 1),
            ("upgrades", ["a b"]),
            ("upgrades", ["CONNECT"]),
            ("idle_timeout", 0.0001),
            ("max_duration", 0),
            ("max_requests", True),
            ("strip_headers", ["a b"]),
            ("strip_headers", [":path"]),
            ("strip_headers", ["Host"]),
            ("strip_headers", [7]),
            ("strip_headers", 7),
            ("keep_headers", ["x-other"]),
        ],
    )
    def test_value_out_of_range(self, field: str, value: Any) -> None:
        """The error begins with the name of the option."""
        with pytest.raises(ConfigurationError) as raised:
            EnvoyOptions(**{field: value})

        assert str(raised.value).startswith(f"{field}: ")

    @pytest.mark.parametrize(
        ("field", "options"),
        [
            ("epp_ca_file", {"epp_tls": False, "epp_ca_file": "/ca"}),
            ("epp_health_port", {"epp_health_check": "off", "epp_health_port": 1}),
        ],
    )
    def test_option_without_effect(self, field: str, options: dict[str, Any]) -> None:
        """An option that another one makes meaningless is refused, not ignored."""
        with pytest.raises(ConfigurationError, match=f"^{field}: "):
            EnvoyOptions(**options)
