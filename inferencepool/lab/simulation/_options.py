"""What a simulation is about: the fleet, how it changes, and how the picker sees it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import inf
from typing import Any, TypeAlias

import attrs

from inferencepool._checks import checked_flag, checked_number, checked_whole_number, refusal
from inferencepool.lab.simulation._engine import EngineOptions
from inferencepool.registry import OutlierDetection, Staleness

__all__ = ["EndpointLeaves", "EndpointsJoin", "FaultChanges", "FleetChange", "SimulationOptions", "SpeedChanges"]

_OWNER = "simulation"
_MOST_ENDPOINTS = 100_000


@attrs.frozen
class EndpointsJoin:
    """
    Endpoints join the fleet, with empty caches; they get the numbers after those that there were.

    Attributes:
        at: When, in seconds.
        count: How many.
        speed: How fast they are, as a multiple of what the engine options say.
    """

    at: float = attrs.field(validator=checked_number("join"))
    count: int = attrs.field(default=1, validator=checked_whole_number("join", 1, _MOST_ENDPOINTS))
    speed: float = attrs.field(default=1.0, validator=checked_number("join", above=True))


@attrs.frozen
class EndpointLeaves:
    """
    An endpoint leaves: it gets no more requests, and finishes those that it has.

    Attributes:
        at: When, in seconds.
        number: Which, counted from 0 in the order in which they joined.
    """

    at: float = attrs.field(validator=checked_number("leave"))
    number: int = attrs.field(validator=checked_whole_number("leave", 0))


@attrs.frozen
class SpeedChanges:
    """
    An endpoint becomes slower or faster.

    Attributes:
        at: When, in seconds.
        number: Which, counted from 0 in the order in which they joined.
        speed: How fast it is from then on, as a multiple of what the engine options say.
    """

    at: float = attrs.field(validator=checked_number("speed"))
    number: int = attrs.field(validator=checked_whole_number("speed", 0))
    speed: float = attrs.field(validator=checked_number("speed", above=True))


_FAULT = "fault"
_FAULTS = ("none", "dead", "frozen", "stuck")
_STATUS = re.compile("[45][0-9]{2}")


def _checked_fault(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, str) or not (value in _FAULTS or _STATUS.fullmatch(value)):
        raise refusal(_FAULT, "fault", value, f"is not one of {', '.join(_FAULTS)}, or a status from 400 to 599")


@attrs.frozen
class FaultChanges:
    """
    An endpoint falls ill while it stays ready, or is well again.

    Attributes:
        at: When, in seconds.
        number: Which, counted from 0 in the order in which they joined.
        fault: ``dead``: what it has breaks off, and nobody can connect; with ``none`` it begins anew, with an empty
            cache. ``frozen``: it does nothing, and its metrics page does not answer. ``stuck``: it does nothing, and
            its page tells what it told last. A status, such as ``500``: it answers every request with that at once.
            ``none``: it is well.
    """

    at: float = attrs.field(validator=checked_number(_FAULT))
    number: int = attrs.field(validator=checked_whole_number(_FAULT, 0))
    fault: str = attrs.field(validator=_checked_fault)


FleetChange: TypeAlias = EndpointsJoin | EndpointLeaves | SpeedChanges | FaultChanges


def _checked_timeout(_: Any, __: Any, value: Any) -> None:
    if type(value) not in (int, float) or not value > 0:
        raise refusal(_OWNER, "timeout", value, "is not a number of seconds above 0")


def _in_order(changes: Iterable[FleetChange]) -> tuple[FleetChange, ...]:
    return tuple(sorted(changes, key=lambda change: change.at))


@attrs.frozen(kw_only=True)
class SimulationOptions:
    """
    What is simulated, but for the requests and the profile.

    Attributes:
        endpoints: Endpoints at the beginning. At least 1.
        engine: What the engine of each is like.
        changes: How the fleet changes; given in any order.
        scrape_interval: Seconds from one scrape of an endpoint's metrics to the next. Each endpoint has its own turn.
        scrape_delay: Seconds until what was scraped is known to the registry; less than *scrape_interval*.
        publish_interval: Least number of seconds between two snapshots of the registry.
        reserve: Whether a pick counts as load until it is released.
        retries: How many other endpoints a request is sent to that failed before its answer began.
        timeout: Seconds after which a client gives up; infinite for never.
        staleness: When metrics are too old for the registry, and what is done then; None for never.
        outlier_detection: When the registry ejects endpoints by what comes back; None for never.

    Raises:
        ConfigurationError: A field holds a value that is not allowed; the message names it.
    """

    endpoints: int = attrs.field(default=8, validator=checked_whole_number(_OWNER, 1, _MOST_ENDPOINTS))
    engine: EngineOptions = attrs.field(factory=EngineOptions)
    changes: tuple[FleetChange, ...] = attrs.field(default=(), converter=_in_order)
    scrape_interval: float = attrs.field(default=0.05, validator=checked_number(_OWNER, above=True))
    scrape_delay: float = attrs.field(default=0.005, validator=checked_number(_OWNER))
    publish_interval: float = attrs.field(default=0.05, validator=checked_number(_OWNER))
    reserve: bool = attrs.field(default=True, validator=checked_flag(_OWNER))
    retries: int = attrs.field(default=0, validator=checked_whole_number(_OWNER, 0, 100))
    timeout: float = attrs.field(default=inf, validator=_checked_timeout)
    staleness: Staleness | None = None
    outlier_detection: OutlierDetection | None = attrs.field(factory=OutlierDetection)

    @changes.validator
    def _check_changes(self, _: Any, changes: tuple[FleetChange, ...]) -> None:
        known, gone = self.endpoints, set[int]()
        for change in changes:
            if isinstance(change, EndpointsJoin):
                known += change.count
                continue
            if change.number >= known:
                allowed = f"the number of an endpoint at {change.at:g} s, 0 to {known - 1}"
                raise refusal(_OWNER, "changes", change.number, f"is not {allowed}")
            if isinstance(change, EndpointLeaves):
                if change.number in gone:
                    raise refusal(_OWNER, "changes", change.number, "is not an endpoint that has not left before")
                gone.add(change.number)

    def __attrs_post_init__(self) -> None:
        if self.scrape_delay >= self.scrape_interval:
            allowed = f"less than scrape_interval, {self.scrape_interval}"
            raise refusal(_OWNER, "scrape_delay", self.scrape_delay, f"is not {allowed}")
