"""From numbers to what prometheus-client writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from typing import Final, TypeAlias, final

from inferencepool.errors import MissingExtraError
from inferencepool.runtime.exporter._families import Family
from inferencepool.runtime.exporter._histogram import Histogram

try:
    from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
    from prometheus_client.registry import Collector
    from prometheus_client.samples import Sample
    from prometheus_client.utils import floatToGoString
except ImportError:
    _MESSAGE = 'exporting metrics needs prometheus-client: pip install "inferencepool[epp]"'
    raise MissingExtraError(_MESSAGE) from None

__all__ = [
    "Collector",
    "CollectorRegistry",
    "Labels",
    "Metric",
    "ProcessCollector",
    "Sample",
    "histograms",
    "numbers",
    "write_page",
]

Labels: TypeAlias = Sequence[str]


class _Told(Metric):
    """
    A metric of ours. Its samples are made when somebody asks for them; the page is written without.

    prometheus-client takes several microseconds for a sample, and a page may have tens of thousands.
    """

    def __init__(self, family: Family) -> None:
        # prometheus-client names a counter without the ending that its samples have.
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        super().__init__(name, family.text, family.kind)
        self._family = family
        self._made: list[Sample] | None = None

    @property
    def samples(self) -> list[Sample]:
        """The samples."""
        if self._made is None:
            self._made = list(self._make())
        return self._made

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        # The base class begins with none.
        self._made = samples or None

    def text(self) -> str:
        """Write the metric as prometheus-client does."""
        family = self._family
        text = family.text.replace("\\", "\\\\").replace("\n", "\\n")
        head = f"# HELP {family.name} {text}\n# TYPE {family.name} {family.kind}\n"
        return "".join((head, *self._lines()))

    def _make(self) -> Iterator[Sample]:
        raise NotImplementedError  # each kind of metric makes its own

    def _lines(self) -> Iterator[str]:
        raise NotImplementedError  # as above


@final
class _Numbers(_Told):
    def __init__(self, family: Family, values: Iterable[tuple[Labels, float]]) -> None:
        super().__init__(family)
        self._values = list(values)
        for labels, _ in self._values:
            if len(labels) != len(family.labels):
                # Its error says what is wrong.
                dict(zip(family.labels, labels, strict=True))

    def _make(self) -> Iterator[Sample]:
        family = self._family
        for labels, value in self._values:
            yield Sample(family.name, dict(zip(family.labels, labels, strict=True)), value)

    def _lines(self) -> Iterator[str]:
        name, write = self._family.name, _writer(self._family.labels)
        for labels, value in self._values:
            yield f"{name}{write(labels)} {_number(value)}\n"


@final
class _Histograms(_Told):
    def __init__(self, family: Family, values: Iterable[tuple[Labels, Histogram]]) -> None:
        super().__init__(family)
        self._values = [(labels, histogram.buckets(), histogram.total) for labels, histogram in values]

    def _make(self) -> Iterator[Sample]:
        family = self._family
        for values, buckets, total in self._values:
            labels = dict(zip(family.labels, values, strict=True))
            for edge, number in buckets:
                yield Sample(f"{family.name}_bucket", {**labels, "le": _number(edge)}, number)
            yield Sample(f"{family.name}_count", labels, buckets[-1][1])
            yield Sample(f"{family.name}_sum", labels, total)

    def _lines(self) -> Iterator[str]:
        family = self._family
        write = _writer(family.labels)
        names = family.labels
        write_before = _pairs(names, [index for index, name in enumerate(names) if name < "le"])
        write_after = _pairs(names, [index for index, name in enumerate(names) if name > "le"])
        edges = [_number(edge) for edge in (*family.buckets, inf)]
        for labels, buckets, total in self._values:
            before, after = write_before(labels), write_after(labels)
            start = f'{family.name}_bucket{{{before}{"," if before else ""}le="'
            after = f'"{"," if after else ""}{after}}}'
            for edge, (_, number) in zip(edges, buckets, strict=True):
                yield f"{start}{edge}{after} {_number(number)}\n"
            text = write(labels)
            yield f"{family.name}_count{text} {_number(buckets[-1][1])}\n"
            yield f"{family.name}_sum{text} {_number(total)}\n"


def _pairs(names: Sequence[str], which: Iterable[int]) -> Callable[[Labels], str]:
    """Give what writes the values of *which* of the labels called *names*, in the order of the names' letters."""
    form = ",".join(f'{names[index]}="{{{index}}}"' for index in sorted(which, key=names.__getitem__))

    def write(values: Labels) -> str:
        return form.format(*map(_escaped, values))

    return write


def _writer(names: Sequence[str]) -> Callable[[Labels], str]:
    """Give what writes the values of labels called *names*, with the braces around them."""
    if not names:
        return lambda _: ""
    write = _pairs(names, range(len(names)))
    return lambda values: f"{{{write(values)}}}"


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def _number(value: float) -> str:
    if type(value) is int and -_EXACT < value < _EXACT:
        return f"{value}.0"
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # it takes a float


# Up to here numbers are written without an exponent.
_EXACT: Final = 1_000_000


def numbers(family: Family, values: Iterable[tuple[Labels, float]]) -> Metric:
    """Give a counter or a gauge with *values*, each behind its labels' values."""
    return _Numbers(family, values)


def histograms(family: Family, values: Iterable[tuple[Labels, Histogram]]) -> Metric:
    """Give a family of histograms, each behind its labels' values."""
    return _Histograms(family, values)


def write_page(metrics: Iterable[Metric]) -> bytes:
    """Write a page, as ``generate_latest`` does."""
    return b"".join(
        metric.text().encode() if isinstance(metric, _Told) else generate_latest(_Lone(metric)) for metric in metrics
    )


class _Lone:
    """A collector of one metric."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]
