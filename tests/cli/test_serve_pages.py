"""The pages of `serve`, as a scraper and as a person with a browser see them."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse
from pathlib import Path

import pytest

from inferencepool.cli import main
from tests.cli.test_serve import Server, entry, objective, pod, pool, rewrite, write
from tests.patience import PATIENCE
from tests.runtime.exporter.reading import Values, read, value_of

PREFIX = "llm_d_epp_"


@pytest.fixture(name="endpoints")
def _endpoints(tmp_path: Path) -> str:
    return write(tmp_path / "endpoints.json", {"endpoints": [entry("a", "10.0.0.1"), entry("b", "10.0.0.2")]})


@pytest.fixture(name="server")
def _server(endpoints: str) -> Iterator[Server]:
    with Server("--endpoints-file", endpoints, "--secure-serving=false", "--metrics-port", "0", "--debug") as server:
        yield server


def port_of(server: Server) -> int:
    """Give the port of the pages, once they are served."""
    port: int = server.wait_for("serving pages")["port"]
    return port


def get(port: int, path: str) -> HTTPResponse:
    """Ask for a page."""
    response: HTTPResponse = urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE)
    return response


def scrape(port: int) -> Values:
    """Read the page of metrics."""
    return read(get(port, "/metrics").read())


class TestMetrics:
    def test_requests_are_counted(self, server: Server) -> None:
        """What was asked over ext_proc shows on the page, for both parsers."""
        port = port_of(server)
        assert 0 == value_of(scrape(port), f"{PREFIX}scheduler_e2e_duration_seconds_count")
        for _ in range(5):
            server.pick()
        values = scrape(port)

        labels = {"model_name": "", "target_model_name": "", "fairness_id": "default-flow", "priority": "0"}
        assert 5 == value_of(values, f"{PREFIX}request_total", **labels)
        assert 5 == value_of(values, f"{PREFIX}scheduler_e2e_duration_seconds_count")
        assert 5 == value_of(values, f"{PREFIX}extproc_streams_total", code="OK")
        assert 0 == value_of(values, f"{PREFIX}extproc_streams_inflight")
        assert 2 == value_of(values, f"{PREFIX}ready_endpoints", name="")
        attempts = {dict(labels)["endpoint_name"]: n for (name, labels), n in values.items() if "attempts" in name}
        assert set(attempts) <= {"a", "b"}
        assert 5 == sum(attempts.values())

    def test_limits_are_counted(self, endpoints: str) -> None:
        """How often a limit acted shows on the page, by server and limit, and in a line of the log."""
        flags = (
            "--secure-serving=false",
            "--metrics-port",
            "0",
            "--max-connections",
            "3",
            "--max-page-connections",
            "4",
        )
        with Server("--endpoints-file", endpoints, *flags) as server:
            port = port_of(server)
            assert 0 == value_of(
                scrape(port), "inferencepool_limits_reached_total", server="extproc", limit="handshakes"
            )
            crowd = [socket.create_connection(("127.0.0.1", server.first["grpc_port"])) for _ in range(5)]
            crowd += [socket.create_connection(("127.0.0.1", port)) for _ in range(6)]
            line = server.wait_for("limit reached")
            assert ("extproc", "connections", "127.0.0.1") == (line["server"], line["limit"], line["peer"])
            server.pick()
            values = scrape(port)
            for name, least in (("extproc", 2), ("pages", 2)):
                found = value_of(values, "inferencepool_limits_reached_total", server=name, limit="connections")
                assert found is not None
                assert found >= least
            for each in crowd:
                each.close()

    def test_options(self, tmp_path: Path) -> None:
        """Former names, and a limit on fairness ids, come from flags; a pool gives its name to its metrics."""
        documents = (pool(), objective("o", "llama"), rewrite("r", "llama"))
        files = ("--pool-file", write(tmp_path / "pool.json", *documents))
        pods = ("--pods-file", write(tmp_path / "pods.json", pod("a", "10.0.0.1")))
        flags = ("--deprecated-metrics", "--fairness-id-metric-label-limit", "0", "--usage", "--metrics-port", "0")
        with Server(*files, *pods, *flags, "--secure-serving=false") as server:
            port = port_of(server)
            server.pick()
            values = scrape(port)

            assert 1 == value_of(values, "inference_pool_ready_pods", name="llama")
            fairness_ids = {
                dict(labels).get("fairness_id") for name, labels in values if name == f"{PREFIX}request_total"
            }
            assert {"other"} == fairness_ids
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get(port, "/debug/")

    def test_the_port_is_taken(self, endpoints: str, capsys: pytest.CaptureFixture[str]) -> None:
        """That ends the start, and is told."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            ports = [
                "--address",
                "127.0.0.1",
                "--grpc-port",
                "0",
                "--grpc-health-port",
                "0",
                "--metrics-port",
                str(port),
                "--scrape-metrics=false",
            ]

            assert 1 == main(["serve", "--endpoints-file", endpoints, "--secure-serving=false", *ports])
        assert f"('127.0.0.1', {port})" in capsys.readouterr().err.splitlines()[-1]


class TestDebug:
    def test_a_decision_is_explained(self, server: Server) -> None:
        """A request is on the page with the reason of its pick."""
        port = port_of(server)
        server.pick()
        document = json.load(get(port, "/debug/decisions.json"))

        (decision,) = document["decisions"]
        assert "/v1/models" == decision["path"]
        assert 2 == len(decision["explanation"]["candidates"])
        page = get(port, f"/debug/decisions/{decision['number']}").read().decode()
        assert decision["destination"] in page
        assert decision["request_id"] in get(port, "/debug").read().decode()

    def test_state(self, server: Server) -> None:
        """Endpoints, sessions and what readiness waits for are shown."""
        state = json.load(get(port_of(server), "/debug/state.json"))

        assert ["default/a", "default/b"] == [each["endpoint"] for each in state["endpoints"]]
        assert {"sessions": 0, "held": 0, "response_seconds": 10} == state["statistics"]["processor"]
        assert {"unmet": []} == state["statistics"]["health"]


class TestEnd:
    def test_after_the_drain(self, server: Server) -> None:
        """Pages are served until the last stream has ended, and go with the server."""
        port = port_of(server)
        assert 0 == server.terminate()

        assert ["draining", "stopped"] == [line["event"] for line in server.rest()]
        with pytest.raises(urllib.error.URLError, match="refused"):
            get(port, "/metrics")
