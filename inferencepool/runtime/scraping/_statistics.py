"""What became of scrapes."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from inferencepool.model import Endpoint

__all__ = ["EndpointScrapes", "ScrapingStatistics"]


@attrs.frozen(kw_only=True)
class EndpointScrapes:
    """
    What became of the scrapes of one endpoint.

    Attributes:
        endpoint: The endpoint.
        engine: Name of the engine whose metrics are looked for.
        age: Seconds since the last scrape that gave metrics began; None while none did.
        stale: Whether that is longer than the registry's staleness threshold, or the last connection was refused or
            reset; False where the registry has no threshold.
        reason: Why the last scrape failed; empty when it did not.
        failures: Scrapes in a row that failed.
        missing: What the last page lacks, as in `MetricsReading`.
        wrong: Fields with an impossible value in the last page, and what is wrong with it.
        scrapes: Scrapes that began.
        fetch_errors: Scrapes that got no page.
        read_errors: Scrapes that got a page without metrics.
        cost: Seconds of work that the last scrape took, from the first byte of the response.
        postponed: Scrapes that began later because those before took more work than they may.
    """

    endpoint: Endpoint
    engine: str
    age: float | None
    stale: bool
    reason: str
    failures: int
    missing: tuple[str, ...]
    wrong: Mapping[str, str]
    scrapes: int
    fetch_errors: int
    read_errors: int
    cost: float
    postponed: int


@attrs.frozen(kw_only=True)
class ScrapingStatistics:
    """
    What became of the scrapes of all endpoints.

    Attributes:
        endpoints: The endpoints that are scraped now.
        interval: Seconds between two scrapes of an endpoint in use.
        scrapes: Scrapes that began, those of endpoints that are gone included.
        fetch_errors: Scrapes that got no page, as `scrapes`.
        read_errors: Scrapes that got a page without metrics, as `scrapes`.
        postponed: Scrapes that began later because those before took too much work, as `scrapes`.
    """

    endpoints: tuple[EndpointScrapes, ...]
    interval: float
    scrapes: int
    fetch_errors: int
    read_errors: int
    postponed: int
