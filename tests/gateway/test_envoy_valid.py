"""A real Envoy takes every configuration that is rendered, and what cannot be honored is refused before."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.gateway import EnvoyOptions, HostPort, render_endpoints, render_envoy
from inferencepool.model import AppProtocol, FailureMode
from tests.gateway.envoy import check
from tests.gateway.pools import endpoint, pool
from tests.runtime.tls.authority import Authority

ENDPOINTS = [endpoint(), endpoint("10.0.0.2"), endpoint("fd00::1")]
PICKERS: list[dict[str, Any]] = [
    {},
    {"epp_address": HostPort("::1", 9002), "epp_health_check": "require"},
    {"epp_tls": False, "epp_health_check": "off"},
    {"epp_tls": False, "epp_health_port": 9003},
    {"epp_address": HostPort("10.1.0.1", 9002), "epp_health_port": 9003},
]
FALLBACKS = ["auto", "none", "least-request", "round-robin"]


def _documents(cluster: str, mode: str) -> Iterator[dict[str, Any]]:
    """Render every combination of the options that change the shape, left out what is refused."""
    rows = itertools.product(
        AppProtocol, ["auto", "none", "buffered", "full-duplex"], FALLBACKS, [False, True], enumerate(PICKERS)
    )
    for number, (protocol, body_mode, fallback, usage, (at, picker)) in enumerate(rows):
        given: dict[str, Any] = {
            "cluster": cluster,
            "body_mode": body_mode,
            "fallback": fallback,
            "usage": usage,
            **picker,
        }
        if at % 2:
            given |= {
                "retries": 0,
                "outlier_detection": cluster == "override-host" and fallback.endswith(("request", "robin")),
                "max_duration": 60,
                "keep_headers": ["x-prefiller-host-port"],
            }
        try:
            yield render_envoy(pool(mode, protocol, f"llama-{number}"), ENDPOINTS, EnvoyOptions(**given))
        except ConfigurationError as error:
            assert str(error).startswith(("body_mode: ", "fallback: ", "cluster: "))  # noqa: PT017 - the others go on


def _joined(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the listeners and clusters of all *documents* into one: Envoy checks each, and starts but once."""
    resources = [document["static_resources"] for document in documents]
    listeners = [listener for each in resources for listener in each["listeners"]]
    for number, listener in enumerate(listeners):
        listener["name"] += f"-{number}"
        listener["address"]["socket_address"]["port_value"] = 10_000 + number
    clusters = [cluster for each in resources for cluster in each["clusters"]]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}


@pytest.mark.parametrize(
    ("cluster", "mode", "expected"),
    [
        ("override-host", FailureMode.FAIL_OPEN, 2 * 3 * 3 * 2 * 5),
        ("override-host", FailureMode.FAIL_CLOSE, 2 * 4 * 4 * 2 * 5),
        ("original-dst", FailureMode.FAIL_OPEN, 0),
        ("original-dst", FailureMode.FAIL_CLOSE, 2 * 4 * 2 * 2 * 5),
    ],
)
def test_envoy_takes_every_combination(cluster: str, mode: str, expected: int) -> None:
    """Of all combinations of options, those that are not refused are valid."""
    documents = list(_documents(cluster, mode))

    assert expected == len(documents)
    if documents:
        check(_joined(documents))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"listen": HostPort("::", 0), "admin": HostPort("127.0.0.1", 0)},
        {"listen": HostPort("127.0.0.1", 0), "strip_headers": ["x-a"], "buffer_limit": 2**32 - 1, "max_requests": 1},
        {"epp_timeout": 0.001, "idle_timeout": 366 * 86_400, "epp_keepalive": 0.0015, "retries": 100},
    ],
)
def test_envoy_takes_the_whole_document(options: dict[str, Any]) -> None:
    """A document as it is printed is valid, without endpoints too."""
    check(render_envoy(pool(), [], EnvoyOptions(**options)))
    check(render_envoy(pool(FailureMode.FAIL_OPEN), ENDPOINTS, EnvoyOptions(**options)))


@pytest.mark.parametrize("name", [None, "epp.example"])
@pytest.mark.parametrize("address", [None, HostPort("10.0.0.9", 9002)])
def test_envoy_takes_a_picker_that_is_vouched_for(name: str | None, address: HostPort | None, tmp_path: Path) -> None:
    """With a file of certificates, the picker's own is checked, by name or by address."""
    file = tmp_path / "ca.pem"
    file.write_bytes(Authority().pem)
    options = EnvoyOptions(epp_ca_file=str(file), epp_server_name=name, epp_address=address)
    document = render_envoy(pool(), ENDPOINTS, options)

    check(document)
    context = document["static_resources"]["clusters"][1]["transport_socket"]["typed_config"]
    (name_rule,) = context["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    expected = name or (address.host if address else "llama-epp.default.svc")
    assert {"exact": expected} == name_rule["matcher"]
    assert ("IP_ADDRESS" if expected == "10.0.0.9" else "DNS") == name_rule["san_type"]
    assert (None if expected == "10.0.0.9" else expected) == context.get("sni")


def test_envoy_takes_endpoints_from_a_file(tmp_path: Path) -> None:
    """A configuration that reads its endpoints from the file rendered for it is valid."""
    file = tmp_path / "endpoints.json"
    file.write_text(json.dumps(render_endpoints(pool(), ENDPOINTS)), encoding="utf-8")

    check(render_envoy(pool(), options=EnvoyOptions(eds_file=str(file))))
