"""The flags of ``serve`` about the metrics of model servers."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

from inferencepool.adapters.exposition import ENGINES, Engine, Engines, MetricSpec
from inferencepool.cli._durations import duration, duration_or_off
from inferencepool.cli._flags import add_boolean, flag_of
from inferencepool.errors import ConfigurationError
from inferencepool.registry import StaleMetrics, Staleness

if TYPE_CHECKING:
    from inferencepool.picker import EndpointPicker
    from inferencepool.runtime.scraping import MetricsScraper, ScrapingOptions

__all__ = [
    "ScrapingSetup",
    "add_scraping_flags",
    "allow_connections",
    "make_scraper",
    "scraping_setup",
    "scraping_state",
]

# Which specification of the default engine a flag replaces. The names are the reference's.
_SPECS = {
    "total_queued_requests_metric": "queued_requests",
    "total_running_requests_metric": "running_requests",
    "kv_cache_usage_percentage_metric": "kv_usage",
    "lora_info_metric": "lora",
    "cache_info_metric": "cache_info",
}
_NAMES = {
    "interval": "refresh-metrics-interval",
    "idle_interval": "refresh-metrics-idle-interval",
    "timeout": "refresh-metrics-timeout",
    "overdue": "refresh-metrics-overdue",
    "scheme": "model-server-metrics-scheme",
    "path": "model-server-metrics-path",
    "port": "model-server-metrics-port",
    "max_page_size": "model-server-metrics-max-page-size",
    "most_cost": "model-server-metrics-max-cost",
    "most_share": "model-server-metrics-max-share",
    "gzip": "model-server-metrics-gzip",
    "tls": "model-server-metrics-https flags",
    "tls.ca_path": "model-server-metrics-https-ca-path",
    "tls.cert_path": "model-server-metrics-https-cert-path",
    "tls.server_name": "model-server-metrics-https-server-name",
    "threshold": "metrics-staleness-threshold",
    "label": "engine-label-key",
    "default": "default-engine",
}
_SKIP_VERIFY = "model_server_metrics_https_insecure_skip_verify"


@attrs.frozen
class ScrapingSetup:
    """
    What the flags say.

    Attributes:
        options: How to scrape; None for not at all.
        staleness: When metrics are stale; None where nothing is scraped.
    """

    options: ScrapingOptions | None = None
    staleness: Staleness | None = None


def add_scraping_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags."""
    add = group.add_argument
    add_boolean(group, "--scrape-metrics", "scrape the metrics of the endpoints", default=True)
    add("--refresh-metrics-interval", metavar="TIME", type=duration, default=0.05, help="between two scrapes (50ms)")
    text = "the interval grows up to this while nothing is sent to an endpoint (does not grow)"
    add("--refresh-metrics-idle-interval", metavar="TIME", type=duration, help=text)
    add("--refresh-metrics-timeout", metavar="TIME", type=duration, default=1.0, help="longest scrape (1s)")
    text = "an endpoint that was faster and has not answered for so long is avoided until it does (300ms)"
    add("--refresh-metrics-overdue", metavar="TIME|off", type=duration_or_off, default=0.3, help=text)
    add("--metrics-staleness-threshold", metavar="TIME", type=duration, default=2.0, help="older is stale (2s)")
    add("--stale-metrics", choices=tuple(StaleMetrics), default=StaleMetrics.AVOID, help="what they count for (avoid)")
    add("--model-server-metrics-scheme", choices=("http", "https"), default="http", help="scheme of the page (http)")
    add("--model-server-metrics-path", metavar="PATH", help="path of the page (the engine's, mostly /metrics)")
    add("--model-server-metrics-port", metavar="PORT", type=int, help="its port (the engine's, mostly the endpoint's)")
    text = "longest page, in bytes (1048576)"
    add("--model-server-metrics-max-page-size", metavar="N", type=int, default=1024 * 1024, help=text)
    text = "longest work on one page (500ms)"
    add("--model-server-metrics-max-cost", metavar="TIME", type=duration, default=0.5, help=text)
    text = "share of the time that the pages of one endpoint may take (0.1)"
    add("--model-server-metrics-max-share", metavar="SHARE", type=float, default=0.1, help=text)
    add_boolean(group, "--model-server-metrics-gzip", "ask for compressed pages")
    add_boolean(group, flag_of(_SKIP_VERIFY), "accept any certificate", default=True)
    add("--model-server-metrics-https-ca-path", metavar="FILE", help="authorities to trust (those of the system)")
    add("--model-server-metrics-https-cert-path", metavar="FILE", help="certificate to show (none)")
    add("--model-server-metrics-https-key-path", metavar="FILE", help="its key")
    add("--model-server-metrics-https-server-name", metavar="NAME", help="name to verify (the endpoint's address)")
    _add_engine_flags(group)


def _add_engine_flags(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--engine-label-key", metavar="KEY", default=Engines().label, help="pod label that names the engine")
    add("--default-engine", metavar="NAME", default=Engines().default, help="engine of all other pods (vllm)")
    text = "labels of the one engine that counts where a page has several, as KEY=VALUE,... (all count)"
    add("--engine-labels", metavar="LABELS", type=_labels, default={}, help=text)
    for name in _SPECS:
        text = f"metric of the default engine, as name{{label=value}} ({_spec_of(Engines().default, name)})"
        add(flag_of(name), metavar="SPEC", help=text)


def _labels(text: str) -> dict[str, str]:
    """Read labels of a flag."""
    try:
        return dict(MetricSpec.parse(f"engine{{{text}}}").labels)
    except ConfigurationError:
        message = f"{text!r} is not KEY=VALUE,..."
        raise argparse.ArgumentTypeError(message) from None


def scraping_setup(arguments: argparse.Namespace) -> ScrapingSetup:
    """
    Read what the flags say.

    Raises:
        ConfigurationError: A value is not allowed; the message begins with the flag.
        MissingExtraError: A part is not installed.
    """
    if not arguments.scrape_metrics:
        return ScrapingSetup()
    # Whoever does not scrape need not have it.
    from inferencepool.runtime.scraping import ScrapingOptions, ScrapingTls  # noqa: PLC0415 - as above

    try:
        options = ScrapingOptions(
            interval=arguments.refresh_metrics_interval,
            idle_interval=arguments.refresh_metrics_idle_interval,
            timeout=arguments.refresh_metrics_timeout,
            overdue=arguments.refresh_metrics_overdue,
            scheme=arguments.model_server_metrics_scheme,
            path=arguments.model_server_metrics_path,
            port=arguments.model_server_metrics_port,
            max_page_size=arguments.model_server_metrics_max_page_size,
            most_cost=arguments.model_server_metrics_max_cost,
            most_share=arguments.model_server_metrics_max_share,
            gzip=arguments.model_server_metrics_gzip,
            tls=ScrapingTls(
                verify=not getattr(arguments, _SKIP_VERIFY),
                ca_path=arguments.model_server_metrics_https_ca_path,
                cert_path=arguments.model_server_metrics_https_cert_path,
                key_path=arguments.model_server_metrics_https_key_path,
                server_name=arguments.model_server_metrics_https_server_name,
            ),
            engines=_engines(arguments),
        )
        staleness = Staleness(arguments.metrics_staleness_threshold, arguments.stale_metrics)
    except ConfigurationError as error:
        raise _of_flag(error) from None
    return ScrapingSetup(options, staleness)


def scraping_state(scraper: MetricsScraper) -> dict[str, object]:
    """Tell in short what became of scrapes: the totals, and why endpoints have no metrics."""
    statistics = scraper.statistics()
    return {
        "interval": statistics.interval,
        "scrapes": statistics.scrapes,
        "fetch_errors": statistics.fetch_errors,
        "read_errors": statistics.read_errors,
        "postponed": statistics.postponed,
        "stale": sum(endpoint.stale for endpoint in statistics.endpoints),
        "costly": {each.endpoint.id: round(each.cost, 4) for each in statistics.endpoints if each.postponed},
        "failing": {each.endpoint.id: each.reason for each in statistics.endpoints if each.reason},
    }


def make_scraper(options: ScrapingOptions, picker: EndpointPicker) -> MetricsScraper:
    """Make what scrapes the endpoints that *picker* picks from."""
    from inferencepool.runtime.scraping import MetricsScraper  # noqa: PLC0415 - as above

    allow_connections()
    return MetricsScraper(picker.registry, options=options, in_use=picker.endpoints_in_flight)


def allow_connections() -> None:
    """Let this process have as many open connections as it may have: the usual limit of 1,024 is soon reached."""
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Where the system's own limit is lower, things stay as they are.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _engines(arguments: argparse.Namespace) -> Engines:
    """Give the engines; the default one has the metrics that flags name."""
    name = arguments.default_engine
    given = {field: getattr(arguments, flag) for flag, field in _SPECS.items() if getattr(arguments, flag) is not None}
    own = {name: attrs.evolve(ENGINES.get(name, Engine(name=name)), **given)} if given else {}
    if arguments.engine_labels:
        # Of every engine, whatever a pod's label names.
        own = {each.name: attrs.evolve(each, only=arguments.engine_labels) for each in {**ENGINES, **own}.values()}
    return Engines(own=own.values(), default=name, label=arguments.engine_label_key)


def _of_flag(error: ConfigurationError) -> ConfigurationError:
    """Name the flag in place of the option."""
    flag = _NAMES.get(error.field)
    if flag is None:
        return error
    reason = error.reason.replace("without verify", f"without {flag_of(_SKIP_VERIFY)}=false")
    return ConfigurationError(f"argument --{flag}: {reason}")


def _spec_of(engine: str, flag: str) -> object:
    return getattr(ENGINES[engine], _SPECS[flag])
