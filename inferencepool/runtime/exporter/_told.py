"""`ToldMetric`: a metric whose values somebody else tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import final

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.exporter._families import FAMILIES, Family
from inferencepool.runtime.exporter._prometheus import Metric, numbers

__all__ = ["ToldMetric"]


@final
class ToldMetric:
    """
    A counter or a gauge whose values a function tells when they are asked for, such as from a ``statistics`` method.

    A collector, for a ``CollectorRegistry`` of prometheus-client.
    """

    def __init__(self, name: str, tell: Callable[[], Iterable[tuple[Sequence[str], float]]]) -> None:
        """
        Give the metric *name* the values that *tell* gives.

        Args:
            name: One of `FAMILIES`, and no histogram.
            tell: Gives each value behind the values of the labels, in the family's order. Called in another thread than
                the event loop's.

        Raises:
            ConfigurationError: There is no such counter or gauge.
        """
        self._family = _find(name)
        self._tell = tell

    def collect(self) -> list[Metric]:
        """Give the metric."""
        return [numbers(self._family, self._tell())]


def _find(name: str) -> Family:
    allowed = [family for family in FAMILIES if family.kind != "histogram"]
    for family in allowed:
        if family.name == name:
            return family
    names = ", ".join(family.name for family in allowed)
    message = f"metrics: name: {name!r} is no counter and no gauge; allowed: {names}"
    raise ConfigurationError(message)
