"""The flags of `serve` about the metrics of model servers."""

from __future__ import annotations

import argparse
import json
import socket
import subprocess
import sys
import urllib.request
from math import inf
from pathlib import Path

import pytest

from inferencepool.adapters.exposition import ENGINES, Engines, MetricSpec
from inferencepool.cli import main
from inferencepool.cli._serve_scraping import ScrapingSetup, add_scraping_flags, allow_connections, scraping_setup
from inferencepool.registry import StaleMetrics, Staleness
from inferencepool.runtime.scraping import ScrapingOptions, ScrapingTls
from tests.cli.test_serve import Server, entry, write
from tests.patience import PATIENCE


def setup_of(*flags: str) -> ScrapingSetup:
    """What *flags* say."""
    parser = argparse.ArgumentParser()
    add_scraping_flags(parser.add_argument_group("metrics"))
    return scraping_setup(parser.parse_args(flags))


def test_defaults() -> None:
    """Without flags the defaults are those of the reference, but stale endpoints are avoided."""
    assert ScrapingSetup(ScrapingOptions(), Staleness(2.0, StaleMetrics.AVOID)) == setup_of()


def test_one_engine_of_a_page() -> None:
    """The labels of one engine are those of every engine that a pod may name."""
    setup = setup_of("--engine-labels", "engine=1,model_name=llama")

    assert setup.options is not None
    for name in ENGINES:
        engine = setup.options.engines.engine_of({"llm-d.ai/engine-type": name})
        assert {"engine": "1", "model_name": "llama"} == engine.only
        assert ENGINES[name].specs == engine.specs
    with pytest.raises(SystemExit):
        setup_of("--engine-labels", "engine")


def test_nothing_is_scraped() -> None:
    """Where nothing is scraped nothing is ever stale."""
    assert ScrapingSetup(None, None) == setup_of("--scrape-metrics=false")


def test_every_flag() -> None:
    """Each flag sets its option."""
    setup = setup_of(
        *("--refresh-metrics-interval", "100ms", "--refresh-metrics-idle-interval", "2s"),
        *(
            "--refresh-metrics-overdue",
            "off",
            "--refresh-metrics-timeout",
            "3s",
            "--metrics-staleness-threshold",
            "5s",
            "--stale-metrics",
            "worst",
        ),
        *("--model-server-metrics-scheme", "https", "--model-server-metrics-path", "/m"),
        *("--model-server-metrics-port", "9000", "--model-server-metrics-max-page-size", "65536"),
        *("--model-server-metrics-max-cost", "200ms", "--model-server-metrics-max-share", "0.02"),
        *("--model-server-metrics-gzip", "--model-server-metrics-https-insecure-skip-verify=false"),
        *("--model-server-metrics-https-ca-path", "ca", "--model-server-metrics-https-cert-path", "cert"),
        *("--model-server-metrics-https-key-path", "key", "--model-server-metrics-https-server-name", "name"),
        *("--engine-label-key", "engine", "--default-engine", "sglang"),
    )

    assert Staleness(5.0, StaleMetrics.WORST) == setup.staleness
    assert setup.options == ScrapingOptions(
        interval=0.1,
        idle_interval=2.0,
        timeout=3.0,
        overdue=inf,
        scheme="https",
        path="/m",
        port=9000,
        max_page_size=65536,
        most_cost=0.2,
        most_share=0.02,
        gzip=True,
        tls=ScrapingTls(verify=True, ca_path="ca", cert_path="cert", key_path="key", server_name="name"),
        engines=Engines(default="sglang", label="engine"),
    )


def test_metrics_of_the_default_engine() -> None:
    """The default engine has the metrics that flags name, and its own ones otherwise; an empty one disables."""
    options = setup_of("--total-queued-requests-metric", "q{kind=waiting}", "--lora-info-metric", "").options
    assert options is not None
    engine = options.engines.engine_of({})

    assert MetricSpec("q", {"kind": "waiting"}) == engine.queued_requests
    assert ENGINES["vllm"].running_requests == engine.running_requests
    assert engine.lora is None
    assert ENGINES["sglang"] is options.engines.engine_of({"llm-d.ai/engine-type": "sglang"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--refresh-metrics-interval", "0s"], "argument --refresh-metrics-interval: 0.0 is not a finite number"),
        (["--refresh-metrics-idle-interval", "1ms"], "argument --refresh-metrics-idle-interval: 0.001 is not"),
        (["--metrics-staleness-threshold", "0"], "argument --metrics-staleness-threshold: 0 leaves no metrics"),
        (["--stale-metrics", "best"], "argument --stale-metrics: invalid choice: 'best'"),
        (["--model-server-metrics-path", "x"], "argument --model-server-metrics-path: 'x' is not a path"),
        (["--model-server-metrics-port", "0"], "argument --model-server-metrics-port: 0 is not a port"),
        (
            ["--model-server-metrics-https-ca-path", "x"],
            "ca-path: it is of no use without --model-server-metrics-https-insecure-skip-verify=false",
        ),
        (
            ["--model-server-metrics-https-insecure-skip-verify=false"],
            "argument --model-server-metrics-https flags: it is of no use with the scheme http",
        ),
        (["--default-engine", "x"], "argument --default-engine: unknown engine 'x'; allowed: vllm"),
        (["--cache-info-metric", "a{"], "metric specification 'a{': no name at column 3"),
    ],
)
def test_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A value that is not allowed is an error of usage, which names the flag."""
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--endpoints-file", "none.json", *flags])

    assert 2 == caught.value.code
    assert message in capsys.readouterr().err


def test_file_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A certificate that is not there ends the start."""
    file = tmp_path / "endpoints.json"
    file.write_text('{"endpoints": []}', encoding="utf-8")
    flags = ["--model-server-metrics-https-cert-path", "/none", "--model-server-metrics-https-key-path", "/none"]

    assert 1 == main(["serve", "--endpoints-file", str(file), "--model-server-metrics-scheme", "https", *flags])
    assert "tls.cert_path: /none with /none cannot be used: No such file" in capsys.readouterr().err


def test_as_many_connections_as_allowed() -> None:
    """The process may open as many connections as the system lets it."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
        allow_connections()
        assert before[1] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_missing_extra(tmp_path: Path) -> None:
    """The error says what to install; whoever does not scrape does not need it."""
    file = tmp_path / "endpoints.json"
    file.write_text("[]", encoding="utf-8")
    program = "import sys; sys.modules['httptools'] = None; from inferencepool.cli import main; sys.exit(main())"
    told = []
    for flags in ([], ["--scrape-metrics=false"]):
        completed = subprocess.run(
            [sys.executable, "-c", program, "serve", "--endpoints-file", str(file), *flags],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        assert 1 == completed.returncode
        told.append(completed.stderr)

    assert 'scraping model servers needs httptools: pip install "inferencepool[epp]"' in told[0]
    assert "httptools" not in told[1]


def test_debug_page_tells_what_failed(tmp_path: Path) -> None:
    """The page for operators shows why an endpoint has no metrics."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    file = write(tmp_path / "endpoints.json", {"endpoints": [entry("a", "127.0.0.1") | {"port": str(port)}]})
    flags = ("--scrape-metrics", "--metrics-port", "0", "--debug", "--metrics-staleness-threshold", "300ms")
    with Server("--endpoints-file", file, "--secure-serving=false", *flags) as server:
        pages = server.wait_for("serving pages")["port"]
        assert "no connection: " in server.wait_for("metrics stale")["reason"]
        with urllib.request.urlopen(f"http://127.0.0.1:{pages}/debug/state.json", timeout=PATIENCE) as response:
            state = json.loads(response.read())["statistics"]["scraping"]

        assert (1, 0) == (state["stale"], state["read_errors"])
        assert state["fetch_errors"] > 0
        assert "no connection: " in state["failing"]["default/a"]
