"""Flags that the reference's charts pass to its picker."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferencepool.cli import _serve as serve
from inferencepool.cli._main import _parser, main
from inferencepool.cli._serve_assembly import assemble

CHART = (
    "--v=1",
    "--zap-encoder=json",
    "--tracing=false",
    "--metrics-endpoint-auth=false",
    "--enable-pprof=false",
    "--tls-min-version=VersionTLS12",
)


@pytest.fixture
def endpoints(tmp_path: Path) -> str:
    """Give a file with an endpoint."""
    file = tmp_path / "endpoints.yaml"
    file.write_text('{"endpoints": [{"name": "a", "address": "192.0.2.1", "port": 8000}]}', encoding="utf-8")
    return str(file)


@pytest.mark.parametrize(
    ("flags", "format_", "told"),
    [
        ([], "text", []),
        (CHART, "json", ["--v"]),
        (["-v", "5", "--zap-encoder", "console", "--log-format", "json"], "text", ["--v"]),
        (["--tracing", "--enable-pprof=true"], "text", ["--tracing", "--enable-pprof"]),
        (
            ["--grpc-max-recv-msg-size=10MiB", "--allow-experimental-plugins", "--zap-log-level", "debug"],
            "text",
            ["--zap-log-level", "--grpc-max-recv-msg-size", "--allow-experimental-plugins"],
        ),
    ],
)
def test_flags_are_taken(flags: list[str], format_: str, told: list[str], endpoints: str) -> None:
    """A flag with the meaning of another one is that one; of one that changes nothing the log says so."""
    arguments = _parser(["serve"]).parse_args(["serve", "--endpoints-file", endpoints, "--metrics-port", "off", *flags])
    serve._check(arguments)
    server = assemble(arguments, serve._options(arguments), serve._scraping(arguments))

    assert format_ == arguments.log_format
    assert told == [note.partition(": ")[0] for note in server._notes]


@pytest.mark.parametrize(
    "flag",
    [
        "--metrics-endpoint-auth",
        "--metrics-endpoint-auth=true",
        "--metrics-cert-dir=/tls",
        "--metrics-client-ca-file=/ca.crt",
        "--tls-cipher-suites=TLS_AES_128_GCM_SHA256",
        "--tls-min-version=VersionTLS13",
    ],
)
def test_what_would_be_believed_to_be_safer_is_refused(
    flag: str, endpoints: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody is left to believe that a flag protects what it does not."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--endpoints-file", endpoints, flag])

    assert 2 == ended.value.code
    assert f"argument {flag.partition('=')[0]}: " in capsys.readouterr().err
