"""The server of ``serve``, put together from what its flags ask for. Imports extras, so it is imported late."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import attrs

from inferencepool.adapters.bodies import BodyParsers, parser_named
from inferencepool.adapters.extproc import ErrorFormat, ExternalProcessor, ProcessorOptions, ResponsePhase
from inferencepool.cli._serve_cluster import follows_cluster, make_cluster_part
from inferencepool.cli._serve_election import LEADER, make_election_part
from inferencepool.cli._serve_files import endpoints_file, pods_file, read_serve_pool_file
from inferencepool.cli._serve_limits import server_limits
from inferencepool.cli._serve_reference import reference_notes
from inferencepool.cli._serve_scraping import ScrapingSetup, make_scraper
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import default_profile
from inferencepool.registry import EndpointRegistry, OutlierDetection
from inferencepool.runtime.extproc import fastest_loads
from inferencepool.runtime.health import Health
from inferencepool.runtime.server import EndpointPickerServer, RequestLog, ServerOptions, ServerPart, WatchedFile

if TYPE_CHECKING:
    from inferencepool.cli._serve_pages import ServedPages

__all__ = ["assemble"]


@attrs.frozen
class _Source:
    """
    Where the endpoints come from.

    Attributes:
        registry: Holds them.
        files: The files that they are read from.
        rules: Objectives and rewrites of a pool file, as arguments of the processor.
        notes: What is to be logged about the files.
    """

    registry: EndpointRegistry
    files: Sequence[WatchedFile] = ()
    rules: Mapping[str, Any] = attrs.field(factory=dict)
    notes: Sequence[str] = ()


def assemble(arguments: argparse.Namespace, options: ServerOptions, scraping: ScrapingSetup) -> EndpointPickerServer:
    """
    Make the server; files are read, nothing else has begun.

    Raises:
        InferencePoolError: A file or the configuration of a cluster cannot be used, or an extra is missing.
    """
    source, pages = _source(arguments, scraping), _pages(arguments)
    picker = EndpointPicker(
        source.registry,
        profile=default_profile(arguments.fallbacks, prefix_compatibility=arguments.prefix_compatibility),
        rng=Random(arguments.seed),
        reserve=arguments.reserve,
        observer=pages.picker_observer() if pages else None,
    )
    log = RequestLog(successful=arguments.log_requests)
    loads = fastest_loads()
    processor = ExternalProcessor(
        picker,
        options=ProcessorOptions(
            request_timeout=arguments.request_deadline,
            least_rate=arguments.least_body_rate,
            emit_scores=arguments.emit_endpoint_scores,
            ignore_subset=arguments.disable_endpoint_subset_filter,
            response_phase=ResponsePhase(arguments.response_phase),
            hold=arguments.hold,
            usage=arguments.usage,
            fallbacks=arguments.fallbacks,
            error_format=ErrorFormat(arguments.error_format),
            keep_headers=frozenset(map(str.lower, arguments.keep_header)),
        ),
        observer=pages.exchange_observer(log) if pages else log,
        parsers=BodyParsers(parser_named(name, loads) for name in arguments.parser) if arguments.parser else None,
        loads=loads,
        **source.rules,
    )
    limits = server_limits(arguments, processor)
    # With leader election the reference picker knows its own services only; without, every name follows readiness.
    elects = arguments.ha_enable_leader_election
    health = Health(("synced", LEADER) if elects else ("synced",), any_name=not elects)
    parts: list[ServerPart] = []
    states: dict[str, Callable[[], object]] = {}
    if follows_cluster(arguments):
        cluster = make_cluster_part(arguments, processor, health)
        parts.append(cluster)
        states["cluster"] = cluster.state
    if elects:
        parts.append(make_election_part(arguments, health))
    scraper = make_scraper(scraping.options, picker) if scraping.options is not None else None
    if scraper is not None:
        parts.append(scraper)
    served = pages.server_for(processor, health, scraper, states) if pages is not None else None
    if served is not None:
        parts.append(served.server)
    server = EndpointPickerServer(
        processor,
        options=options,
        files=source.files,
        parts=parts,
        health=health,
        notes=(*source.notes, *reference_notes(arguments)),
        limits=limits,
        on_closed=served.streams.closed if served is not None else None,
    )
    if served is not None:
        served.tell_limits(server.limits_acted)
    if source.files:
        server.load()
    return server


def _source(arguments: argparse.Namespace, scraping: ScrapingSetup) -> _Source:
    outliers: OutlierDetection | None = arguments.outlier_detection
    if arguments.endpoints_file is not None:
        registry = EndpointRegistry(staleness=scraping.staleness, outlier_detection=outliers)
        return _Source(registry, [endpoints_file(arguments.endpoints_file, registry)])
    if arguments.pool_file is not None:
        file = read_serve_pool_file(arguments.pool_file, strict=arguments.strict)
        registry = EndpointRegistry(file.pool, staleness=scraping.staleness, outlier_detection=outliers)
        rules = {"objectives": file.objectives, "rewrites": file.rewrites}
        pods = pods_file(arguments.pods_file, file.pool, registry, strict=arguments.strict)
        return _Source(registry, [pods], rules, file.notes)
    return _Source(EndpointRegistry(staleness=scraping.staleness, outlier_detection=outliers))


def _pages(arguments: argparse.Namespace) -> ServedPages | None:
    if arguments.metrics_port is None:
        return None
    from inferencepool.cli._serve_pages import ServedPages  # noqa: PLC0415 - who has no pages need not wait for it

    return ServedPages(arguments)
