"""`serve` as a process of its own, asked by grpcio."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import grpc  # type: ignore[import-untyped]  # grpcio ships no types
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc  # type: ignore[import-untyped]  # as above

from inferencepool.cli import main
from tests.patience import PATIENCE

PROCESS = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
Health = health_pb2.HealthCheckResponse


def pool(*, port: int = 8000) -> dict[str, Any]:
    """The document of a pool."""
    return {
        "apiVersion": "inference.networking.k8s.io/v1",
        "kind": "InferencePool",
        "metadata": {"name": "llama"},
        "spec": {
            "selector": {"matchLabels": {"app": "llama"}},
            "targetPorts": [{"number": port}],
            "endpointPickerRef": {"name": "llama-epp", "port": {"number": 9002}},
        },
    }


def pod(name: str, ip: str | None) -> dict[str, Any]:
    """The document of a pod that is ready."""
    status = {"conditions": [{"type": "Ready", "status": "True"}]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "llama"}},
        "status": status | ({"podIP": ip} if ip else {}),
    }


def objective(name: str, pool_name: str) -> dict[str, Any]:
    """The document of an objective."""
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceObjective",
        "metadata": {"name": name},
        "spec": {"poolRef": {"name": pool_name}, "priority": 1},
    }


def rewrite(name: str, pool_name: str) -> dict[str, Any]:
    """The document of a model rewrite."""
    return objective(name, pool_name) | {
        "kind": "InferenceModelRewrite",
        "spec": {"poolRef": {"name": pool_name}, "rules": [{"targets": [{"modelRewrite": "llama-3"}]}]},
    }


def entry(name: str, address: str) -> dict[str, Any]:
    """An entry of a file of endpoints."""
    return {"name": name, "address": address, "port": "8000"}


def write(file: Path, *documents: Any) -> str:
    """Write documents in one step, as a careful writer does."""
    draft = file.with_suffix(".draft")
    draft.write_text("\n".join(map(json.dumps, documents)), encoding="utf-8")
    draft.replace(file)
    return str(file)


def field(number: int, content: bytes) -> bytes:
    """A field of protobuf that is shorter than 128 bytes."""
    return bytes((number << 3 | 2, len(content))) + content


def request_without_body() -> bytes:
    """A ``ProcessingRequest`` with the headers of a GET, and nothing behind them."""
    headers = b"".join(
        field(1, field(1, name) + field(3, value)) for name, value in ((b":path", b"/v1/models"), (b":method", b"GET"))
    )
    return field(2, field(1, headers) + bytes((3 << 3, 1)))


# The addresses of the endpoints are nobody's: they must not be scraped.
_COMMON = ("--log-format", "json", "--scrape-metrics=false")


class Server:
    """The command in a process of its own; its lines are JSON."""

    def __init__(self, *arguments: str) -> None:
        ports = ("--address", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0", "--metrics-port", "off")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "inferencepool", "serve", *_COMMON, *ports, *arguments],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.first = self._lines.get(timeout=PATIENCE)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(json.loads(line))

    def wait_for(self, event: str) -> dict[str, Any]:
        """Wait for the next line of an event, and give it."""
        while True:
            line = self._lines.get(timeout=PATIENCE)
            if line["event"] == event:
                return line

    def until(self, event: str) -> list[dict[str, Any]]:
        """Wait for the next line of an event, and give the lines before it."""
        lines = []
        while (line := self._lines.get(timeout=PATIENCE))["event"] != event:
            lines.append(line)
        return lines

    def rest(self) -> list[dict[str, Any]]:
        """The lines that nobody took, once the process has ended."""
        self._reader.join(PATIENCE)
        return list(self._lines.queue)

    def channel(self, port: str = "grpc_port") -> grpc.Channel:
        """Connect without TLS."""
        return grpc.insecure_channel(f"127.0.0.1:{self.first[port]}")

    def health(self, service: str = "", port: str = "grpc_health_port") -> Any:
        """Ask for the status of a service."""
        with self.channel(port) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            return check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE).status

    def pick(self) -> bytes:
        """Ask where a request without body goes; the answer as bytes."""
        with self.channel() as channel:
            return ask(channel)

    def terminate(self) -> int:
        """Send SIGTERM and wait for the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


def ask(channel: grpc.Channel) -> bytes:
    """Ask where a request without body goes, and end the stream."""
    answers = channel.stream_stream(PROCESS)(iter([request_without_body()]), timeout=PATIENCE)
    return b"".join(answers)


@pytest.fixture(name="endpoints")
def _endpoints(tmp_path: Path) -> Path:
    file = tmp_path / "endpoints.json"
    write(file, {"endpoints": [entry("a", "10.0.0.1")]})
    return file


@pytest.fixture(name="plain")
def _plain(endpoints: Path) -> Iterator[Server]:
    with Server("--endpoints-file", str(endpoints), "--secure-serving=false", "--health-checking") as server:
        yield server


class TestServing:
    def test_from_start_to_end(self, plain: Server) -> None:
        """The first line tells the ports; health is serving, requests are answered, SIGTERM ends in order."""
        assert plain.first["event"] == "serving"
        assert (plain.first["endpoints"], plain.first["secure"], plain.first["pool"]) == (1, False, None)
        for service in ("", "liveness", "readiness", "inference-extension"):
            assert Health.SERVING == plain.health(service)
        assert Health.SERVING == plain.health(port="grpc_port")
        assert b"10.0.0.1:8000" in plain.pick()

        assert 0 == plain.terminate()
        assert ["draining", "stopped"] == [line["event"] for line in plain.rest()]

    def test_reload(self, plain: Server, endpoints: Path) -> None:
        """A file that changed is seen in the answers; what is wrong in it is named, and nothing else is touched."""
        write(endpoints, {"endpoints": [entry("b", "10.0.0.2"), entry("c", "vllm.example")]})
        wrong = plain.wait_for("wrong in file")
        assert ("endpoints[1].address", str(endpoints)) == (wrong["field"], wrong["file"])
        assert 1 == plain.wait_for("endpoints loaded")["endpoints"]
        assert b"10.0.0.2:8000" in plain.pick()

        endpoints.write_text("{", encoding="utf-8")
        assert "not" in plain.wait_for("file not used")["reason"]
        assert b"10.0.0.2:8000" in plain.pick()

        endpoints.unlink()
        assert "no such file" == plain.wait_for("file not used")["reason"]
        assert b"10.0.0.2:8000" in plain.pick()
        assert Health.SERVING == plain.health()

        write(endpoints, {"endpoints": [entry("a", "10.0.0.3")]})
        plain.wait_for("file readable again")
        plain.wait_for("endpoints loaded")
        assert b"10.0.0.3:8000" in plain.pick()

    def test_refused_requests_are_logged(self, plain: Server, endpoints: Path) -> None:
        """A request that gets no endpoint is a line with the reason; one that gets one is none."""
        plain.pick()
        write(endpoints, {"endpoints": []})
        plain.wait_for("endpoints loaded")
        assert b"inference error: ServiceUnavailable" in plain.pick()
        line = plain.wait_for("request refused")
        assert (503, "rejected-no-endpoints", "/v1/models") == (line["status"], line["dropped_reason"], line["path"])
        assert line["reason"]
        assert 0 == plain.terminate()
        assert ["draining", "stopped"] == [line["event"] for line in plain.rest()]

    def test_all_requests_are_logged_when_asked_for(self, endpoints: Path) -> None:
        """With `--log-requests` a request that gets an endpoint is a line as well."""
        with Server("--endpoints-file", str(endpoints), "--secure-serving=false", "--log-requests") as server:
            server.pick()

            assert "10.0.0.1:8000" == server.wait_for("request picked")["destination"]

    def test_tls_is_the_default(self, endpoints: Path) -> None:
        """Unless told otherwise ext_proc is served with TLS, and health without."""
        with Server("--endpoints-file", str(endpoints)) as server:
            assert server.first["secure"] is True
            assert Health.SERVING == server.health()
            certificate = subprocess.run(
                [
                    sys.executable,
                    "-c",
                    "import ssl, sys; print(ssl.get_server_certificate(('127.0.0.1', int(sys.argv[1]))))",
                    str(server.first["grpc_port"]),
                ],
                capture_output=True,
                check=True,
                timeout=PATIENCE,
            ).stdout
            credentials = grpc.ssl_channel_credentials(certificate.strip() + b"\n")
            with grpc.secure_channel(f"127.0.0.1:{server.first['grpc_port']}", credentials) as channel:
                assert b"10.0.0.1:8000" in ask(channel)


class TestDrain:
    def test_open_streams_are_served(self, plain: Server) -> None:
        """While a stream is open the server says that it is not ready, and serves; then it ends."""
        with plain.channel() as channel:
            said: queue.Queue[bytes | None] = queue.Queue()
            answers = channel.stream_stream(PROCESS)(iter(said.get, None), timeout=PATIENCE)
            said.put(request_without_body())
            assert b"10.0.0.1:8000" in next(answers)

            plain.process.send_signal(signal.SIGTERM)
            assert 1 == plain.wait_for("draining")["streams"]
            assert Health.NOT_SERVING == plain.health()
            assert Health.SERVING == plain.health("liveness")
            assert b"10.0.0.1:8000" in ask(channel)
            said.put(None)
            assert [] == list(answers)
        assert 0 == plain.process.wait(PATIENCE)
        assert ["stopped"] == [line["event"] for line in plain.rest()]

    def test_second_signal_ends_at_once(self, plain: Server) -> None:
        """A second SIGTERM cuts streams, with status OK: Envoy goes on with their requests."""
        with plain.channel() as channel:
            said: queue.Queue[bytes | None] = queue.Queue()
            answers = channel.stream_stream(PROCESS)(iter(said.get, None), timeout=PATIENCE)
            said.put(request_without_body())
            next(answers)
            plain.process.send_signal(signal.SIGTERM)
            plain.wait_for("draining")

            assert 0 == plain.terminate()
            assert [] == list(answers)
            assert grpc.StatusCode.OK == answers.code()
            said.put(None)
        assert ["streams cut", "stopped"] == [line["event"] for line in plain.rest()]

    def test_drain_timeout(self, endpoints: Path) -> None:
        """Streams that stay open are cut when the time is over."""
        arguments = ("--endpoints-file", str(endpoints), "--secure-serving=false", "--drain-timeout", "100ms")
        with Server(*arguments) as server, server.channel() as channel:
            said: queue.Queue[bytes | None] = queue.Queue()
            answers = channel.stream_stream(PROCESS)(iter(said.get, None), timeout=PATIENCE)
            said.put(request_without_body())
            next(answers)

            assert 0 == server.terminate()
            assert 1 == server.wait_for("streams cut")["streams"]
            assert [] == list(answers)
            said.put(None)

    def test_hang_up_is_ignored(self, plain: Server) -> None:
        """SIGHUP does not end the server, and one line says what is done instead."""
        plain.process.send_signal(signal.SIGHUP)
        assert "SIGHUP" == plain.wait_for("signal ignored")["signal"]
        assert Health.SERVING == plain.health()


class TestPool:
    def test_pods_are_reloaded(self, tmp_path: Path) -> None:
        """Pods of a pool are the endpoints; objectives and rewrites of other pools are named."""
        others = (objective("o", "other"), rewrite("r", "other"), objective("mine", "llama"), rewrite("mine", "llama"))
        pool_file = write(tmp_path / "pool.json", pool(), *others)
        pods = tmp_path / "pods.json"
        write(pods, pod("a", "10.0.0.1"), pod("b", None))
        arguments = ("--pool-file", pool_file, "--pods-file", str(pods), "--secure-serving", "false")
        with Server(*arguments) as server:
            assert ("default/llama", 1) == (server.first["pool"], server.first["endpoints"])
            assert (
                "InferenceObjective default/o is of InferencePool default/other"
                in server.wait_for("not used")["reason"]
            )
            assert "InferenceModelRewrite default/r is" in server.wait_for("not used")["reason"]
            assert "default/b has no IP address" in server.wait_for("wrong in file")["reason"]
            assert b"10.0.0.1:8000" in server.pick()

            write(pods, pod("a", "10.0.0.7"))
            server.wait_for("endpoints loaded")
            assert b"10.0.0.7:8000" in server.pick()

            write(pods, pod("a", "10.0.0.8"), pod("A", "10.0.0.9"))
            assert "document 2: metadata.name" == server.wait_for("file not used")["field"]
            assert b"10.0.0.7:8000" in server.pick()


class TestFilesAtStart:
    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (None, ": no such file"),
            ("[]", ": document 1: must be a mapping, not a list"),
            ("{}", ": document 1: endpoints: is required: a list of endpoints"),
            ('{"endpoints": []} {"endpoints": []}', ": holds 2 documents, allowed is 1"),
            ('{"endpoints": []}' + " " * 1024 * 1024, ": exceeds the limit of 1 MiB"),
        ],
        ids=["missing", "list", "empty", "two", "long"],
    )
    def test_endpoints(
        self, content: str | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A file of endpoints that cannot be used ends the start, with a line that says why."""
        file = tmp_path / "endpoints.json"
        if content is not None:
            file.write_text(content, encoding="utf-8")

        assert 1 == main(["serve", "--endpoints-file", str(file)])
        assert f"{file}{expected}\n" == capsys.readouterr().err

    def test_pool_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What is wrong in the file of the pool is told by document and field."""
        wrong = objective("o", "llama") | {"spec": {}}
        file = write(tmp_path / "pool.json", pool(), wrong)
        pods = write(tmp_path / "pods.json", pod("a", "10.0.0.1"))

        assert 1 == main(["serve", "--pool-file", file, "--pods-file", pods])
        assert f"{file}: document 2: spec.poolRef: is required\n" == capsys.readouterr().err

    def test_certificate(self, endpoints: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A certificate that is not there ends the start."""
        arguments = ["--address", "127.0.0.1", "--grpc-port", "0", "--grpc-health-port", "0"]

        assert 1 == main(["serve", "--endpoints-file", str(endpoints), *arguments, "--cert-path", str(tmp_path)])
        assert f"inferencepool: {tmp_path / 'tls.crt'}: cannot be read" in capsys.readouterr().err


class TestFlags:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], "or --pool-file and --pods-file, or --endpoints-file; given: none of them"),
            (["--pool-file", "a"], "given: --pool-file"),
            (["--pool-file", "a", "--pods-file", "b", "--endpoints-file", "c"], "--pods-file, --endpoints-file"),
            (["--endpoints-file", "-"], "argument --endpoints-file: standard input (-) cannot be read again"),
            (["--endpoints-file", "a", "--grpc-port", "65536"], "argument --grpc-port: '65536' is not a port"),
            (["--endpoints-file", "a", "--grpc-port", "x"], "argument --grpc-port: 'x' is not a port"),
            (
                ["--endpoints-file", "a", "--grpc-port", "9003"],
                "argument --grpc-health-port: 9003 is grpc-port as well",
            ),
            (["--endpoints-file", "a", "--secure-serving", "maybe"], "argument --secure-serving: 'maybe' is neither"),
            (["--endpoints-file", "a", "--drain-timeout", "1d"], "argument --drain-timeout: '1d' is not a duration"),
            (
                ["--endpoints-file", "a", "--keep-header", "x-mine"],
                "argument --keep-header: 'x-mine' is none of test-epp-endpoint-selection, ",
            ),
            (
                ["--endpoints-file", "a", "--fallbacks", "101"],
                "argument --fallbacks: '101' is not a whole number from 0",
            ),
            (
                ["--endpoints-file", "a", "--parser", "no-parser"],
                "argument --parser: unknown parser 'no-parser'; allowed: openai-parser, ",
            ),
            (
                ["--endpoints-file", "a", "--parser", "passthrough-parser", "--parser", "openai-parser"],
                "argument --parser: parser 'openai-parser' follows the fallback 'passthrough-parser'",
            ),
            (["--endpoints-file", "a", "--request-deadline", "0s"], "argument --request-deadline: 0 leaves no time"),
            (["--endpoints-file", "a", "--enable-cert-reload"], "argument --enable-cert-reload: there is no cert-path"),
            (
                ["--endpoints-file", "a", "--secure-serving=f", "--cert-path", "b"],
                "argument --cert-path: a certificate is of no use without secure-serving",
            ),
            (["--endpoints-file", "a", "--config-file", "b"], "argument --config-file: EndpointPickerConfig files"),
            (["--endpoints-file", "a", "--metrics-port", "on"], "argument --metrics-port: 'on' is not a port from 0"),
            (
                ["--endpoints-file", "a", "--metrics-port", "9002"],
                "--metrics-port: 9002 is --grpc-port as well",
            ),
            (
                ["--endpoints-file", "a", "--metrics-port", "off", "--debug"],
                "--debug: there is no port for it",
            ),
            (
                ["--endpoints-file", "a", "--debug", "--debug-decisions", "0"],
                "--debug-decisions: 0 leaves none",
            ),
            (["--endpoints-file", "a", "--debug-decisions", "1e3"], "--debug-decisions: '1e3' is not a whole number"),
            (["--endpoints-file", "a", "--debug-from", "here"], "argument --debug-from: invalid choice: 'here'"),
            (
                ["--endpoints-file", "a", "--fairness-id-metric-label-limit", "-1"],
                "'-1' is not a whole number from 0 to 999999",
            ),
            (["--endpoints-file", "a", "--metrics-staleness-threshold", "0"], "0 leaves no metrics that are fresh"),
            (["--endpoints-file", "a", "--max-connections", "0"], "argument --max-connections: 0 leaves no room"),
            (
                ["--endpoints-file", "a", "--max-held-bytes", "64Mi"],
                "67108864 bytes do not hold the longest body that is taken; allowed is 68157440",
            ),
            (["--endpoints-file", "a", "--max-held-bytes", "1GB"], "'1GB' is not a number of bytes such as 4096"),
            (["--endpoints-file", "a", "--answer-timeout", "0"], "argument --answer-timeout: 0 leaves no time for any"),
            (["--endpoints-file", "a", "--least-body-rate", "0"], "argument --least-body-rate: 0 leaves no room"),
            (["--endpoints-file", "a", "--exempt-peer", "node"], "argument --exempt-peer: 'node' is neither"),
            (
                ["--endpoints-file", "a", "--response-phase", "never"],
                "--response-phase: invalid choice: 'never'",
            ),
            (["--endpoints-file", "a", "--hold", "0s"], "argument --hold: 0 would let go of the load of requests"),
            (["--endpoints-file", "a", "--grpc-health", "1"], "unrecognized arguments"),
        ],
    )
    def test_wrong_flags(self, arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A flag that is wrong is named, and the exit status is 2."""
        with pytest.raises(SystemExit) as ended:
            main(["serve", *arguments])

        assert 2 == ended.value.code
        assert expected in capsys.readouterr().err
