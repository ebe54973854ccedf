"""The few series of a page that may decide something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Generic, TypeVar, final

import attrs

from inferencepool.adapters.exposition._engines import Engine
from inferencepool.adapters.exposition._plain import PlainLine
from inferencepool.adapters.exposition._samples import Series
from inferencepool.adapters.exposition._specs import Combine, MetricSpec, is_later

__all__ = ["ADAPTER_LABELS", "MAX_LABELS", "MAX_SERIES", "Candidates", "latest_adapters"]

#: Most series of a metric that are looked at, and most engines whose lists of LoRA adapters are.
MAX_SERIES: Final = 256

#: Most labels of a series that counts. Engines have about 30 where the labels are the engine's configuration, else few.
MAX_LABELS: Final = 64

#: The labels of LoRA series that say something about adapters: running, waiting, and how many fit.
ADAPTER_LABELS: Final = ("running_lora_adapters", "waiting_lora_adapters", "max_lora")

_S = TypeVar("_S", bound=Series)


@attrs.define(eq=False)
class _Group(Generic[_S]):
    """
    The series of one metric under one name, one for each engine.

    Attributes:
        spec: The metric.
        apart: Labels that do not tell engines apart.
        by_value: Whether of several series of an engine the one with the greatest value counts, not the latest.
        found: By the labels that tell engines apart, the series that counts.
        offered: How many series were looked at.
    """

    spec: MetricSpec
    apart: frozenset[str]
    by_value: bool
    found: dict[frozenset[tuple[str, str]], _S] = attrs.field(factory=dict)
    offered: int = 0

    @property
    def is_full(self) -> bool:
        """Whether no other series is looked at."""
        return self.offered >= MAX_SERIES and not self.by_value

    def offer(self, series: _S) -> None:
        """Take notice of a series of the metric."""
        self.offered += 1
        engine = self.engine_of(series.labels)
        other = self.found.get(engine)
        if other is None:
            if len(self.found) < MAX_SERIES:
                self.found[engine] = series
        elif _is_later_list(series, other) if self.by_value else is_later(series, other):
            # Put in anew, so that the order is that of the page.
            del self.found[engine]
            self.found[engine] = series

    def engine_of(self, labels: Mapping[str, str]) -> frozenset[tuple[str, str]]:
        """Give the labels that tell which engine a series is of."""
        if not self.apart:
            return frozenset(labels.items())
        return frozenset((key, value) for key, value in labels.items() if key not in self.apart)


@final
class Candidates(Generic[_S]):
    """
    The series of a page that count so far: for each metric of an engine as many as there are engines on the page.

    Series whose labels differ are of different engines, save for the labels of shards. Of several that do not differ,
    which the format does not allow, the one with the greatest timestamp counts, the first where the page gives none. A
    LoRA series has its adapters as labels; of each engine's the one with the greatest value counts, whatever these are.
    At most 256 series of a metric are looked at, and at most 256 engines of LoRA series, each with 64 labels at most:
    memory is bounded.
    """

    def __init__(self, engine: Engine, series: Iterable[_S] = ()) -> None:
        """Choose for the metrics of *engine*, and begin with *series*."""
        self._engine = engine
        shards = frozenset(engine.shard_labels)
        self._groups: dict[tuple[int, str], _Group[_S]] = {}
        self._by_name: dict[str, list[_Group[_S]]] = {}
        for spec in engine.specs:
            is_lora = spec is engine.lora
            apart = shards.union(ADAPTER_LABELS) if is_lora else shards
            for name in spec.names:
                group: _Group[_S] = _Group(spec, apart, is_lora)
                if self._groups.setdefault((id(spec), name), group) is group:
                    self._by_name.setdefault(name, []).append(group)
        for each in series:
            self.offer(each)

    def offer(self, series: _S) -> None:
        """Take notice of the next series of the page."""
        for group in self._by_name.get(series.name, ()):
            if not group.is_full and group.spec.matches(series) and self._concerns(series.labels):
                group.offer(series)

    def may_count(self, line: PlainLine) -> bool:
        """Tell whether the series of *line* could count, whatever its labels are."""
        return any(not group.is_full for group in self._by_name.get(line.name, ()))

    def of(self, spec: MetricSpec) -> list[_S]:
        """Give the series of a metric that count, in the order of the page: those of its first name that is there."""
        for name in spec.names:
            found = list(self._groups[id(spec), name].found.values())
            if found:
                return [_latest(found)] if spec.combine is Combine.LATEST else found
        return []

    @property
    def is_empty(self) -> bool:
        """Whether no series counts."""
        return not any(group.found for group in self._groups.values())

    def lists(self, series: Iterable[_S]) -> list[list[_S]]:
        """Sort all LoRA series by the engines that they are of, as far as these are looked at."""
        spec = self._engine.lora
        if spec is None:
            return []
        name = next((name for name in spec.names if self._groups[id(spec), name].found), spec.name)
        group = self._groups[id(spec), name]
        lists: dict[frozenset[tuple[str, str]], list[_S]] = {engine: [] for engine in group.found}
        for each in series:
            if each.name == name and spec.matches(each) and self._concerns(each.labels):
                lists.get(group.engine_of(each.labels), []).append(each)
        return list(lists.values())

    def _concerns(self, labels: Mapping[str, str]) -> bool:
        return len(labels) <= MAX_LABELS and self._engine.concerns(labels)


def latest_adapters(series: Iterable[_S]) -> _S:
    """Give the one of an engine's LoRA series that counts: the greatest value, the first of equals; NaN never does."""
    return max(series, key=_time_of_list)


def _latest(series: list[_S]) -> _S:
    latest = series[0]
    for each in series:
        if is_later(each, latest):
            latest = each
    return latest


def _is_later_list(series: Series, other: Series) -> bool:
    return _time_of_list(series) > _time_of_list(other)


def _time_of_list(series: Series) -> float:
    # NaN is below all numbers.
    return series.value if series.value == series.value else float("-inf")
