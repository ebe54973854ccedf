"""Which series of a page holds a metric."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

import attrs

from inferencepool.adapters.exposition._grammar import Cursor, ExpositionError, escape
from inferencepool.adapters.exposition._samples import Series
from inferencepool.errors import ConfigurationError

__all__ = ["Combine", "MetricSpec", "is_later"]


def _freeze(labels: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(labels))


class Combine(StrEnum):
    """
    What becomes of the series of several engines on one page.

    Attributes:
        SUM: They are added up.
        MEAN: The mean counts, weighted by the blocks of the engines' KV caches where the page tells those of all.
        GREATEST: The greatest counts.
        LATEST: One series alone counts: the one with the greatest timestamp, the first where the page gives none. So
            does the reference.
    """

    SUM = "sum"
    MEAN = "mean"
    GREATEST = "greatest"
    LATEST = "latest"


@attrs.frozen
class MetricSpec:
    """
    A metric by its name and the labels that its series must have, among others.

    Attributes:
        name: The name of the metric.
        labels: Labels with their values; a series with more labels still matches.
        aliases: Other names that it has, such as former ones; the first one counts that is on a page.
        combine: What becomes of several engines' series. None for what suits the field: counts and blocks are added up,
            adapters united, of shares the mean counts, and of sizes of blocks one.
    """

    name: str
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_freeze, hash=False)
    aliases: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    combine: Combine | None = attrs.field(default=None, converter=attrs.converters.optional(Combine), kw_only=True)

    @property
    def names(self) -> tuple[str, ...]:
        """All its names, the first one first."""
        return (self.name, *self.aliases)

    @classmethod
    def parse(cls, text: str) -> MetricSpec:
        """
        Read ``name{label=value,...}``, the form of the reference's extractor configuration.

        The braces may be absent. Quotes around a value are optional; without them it ends at a comma or brace.

        Raises:
            ConfigurationError: *text* has another form; the message shows it.
        """
        try:
            return cls(*_read_spec(Cursor(text.strip())))
        except ExpositionError as error:
            message = f"metric specification {text!r}: {error}; it must be a name or name{{label=value,...}}"
            raise ConfigurationError(message) from None

    def __str__(self) -> str:
        if not self.labels:
            return self.name
        labels = ",".join(f'{key}="{escape(value)}"' for key, value in self.labels.items())
        return f"{self.name}{{{labels}}}"

    def matches(self, sample: Series) -> bool:
        """Tell whether *sample* belongs to this metric."""
        labels = sample.labels
        if sample.name != self.name and sample.name not in self.aliases:
            return False
        return all(labels.get(key) == value for key, value in self.labels.items())


def is_later(sample: Series, other: Series) -> bool:
    """Tell whether *sample* has the greater timestamp; one without is older than any with one."""
    if sample.timestamp is None:
        return False
    return other.timestamp is None or sample.timestamp > other.timestamp


def _read_spec(cursor: Cursor) -> tuple[str, dict[str, str]]:
    name = cursor.read_name()
    labels: dict[str, str] = {}
    if cursor.accept("{"):
        while not cursor.accept("}"):
            key = cursor.read_name()
            if not cursor.accept("="):
                message = f"no = after label {key}"
                raise ExpositionError(message)
            if key in labels:
                message = f"label {key} is given twice"
                raise ExpositionError(message)
            labels[key] = cursor.read_quoted() if cursor.peek() == '"' else cursor.read_until(",}")
            if not cursor.accept(",") and cursor.peek() != "}":
                message = "no comma or closing brace"
                raise ExpositionError(message)
    if not cursor.at_end():
        message = f"unexpected {cursor.peek()!r}"
        raise ExpositionError(message)
    return name, labels
