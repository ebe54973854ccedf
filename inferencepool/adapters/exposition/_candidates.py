"""The few series of a page that may decide something."""

from __future__ import annotations

from typing import final

from inferencepool.adapters.exposition._engines import Engine
from inferencepool.adapters.exposition._plain import PlainLine
from inferencepool.adapters.exposition._rules import is_later_list
from inferencepool.adapters.exposition._samples import Sample
from inferencepool.adapters.exposition._specs import MetricSpec, is_later

__all__ = ["Candidates"]


@final
class Candidates:
    """
    The series of a page that count so far: one for each metric of an engine, however many the page has.

    Which one counts is what `apply_rules` says: given these alone it finds what it finds in all.
    """

    def __init__(self, engine: Engine) -> None:
        """Choose for the metrics of *engine*."""
        self._lora = engine.lora
        self._specs: dict[str, list[MetricSpec]] = {}
        for spec in engine.specs:
            self._specs.setdefault(spec.name, []).append(spec)
        # By the number of the metric's specification; beside each sample its place among all.
        self._best: dict[int, tuple[int, Sample]] = {}
        self._offered = 0

    def offer(self, sample: Sample) -> None:
        """Take notice of the next series of the page."""
        self._offered += 1
        for spec in self._specs.get(sample.name, ()):
            if spec.matches(sample) and self._beats(spec, sample):
                self._best[id(spec)] = (self._offered, sample)

    def may_count(self, line: PlainLine) -> bool:
        """Tell whether the series of *line* could count, whatever its labels are."""
        for spec in self._specs.get(line.name, ()):
            best = self._best.get(id(spec))
            if best is None:
                return True
            other = best[1]
            if spec is self._lora:
                # NaN is below all numbers.
                if line.value > other.value or other.value != other.value:
                    return True
            elif line.timestamp is not None and (other.timestamp is None or line.timestamp > other.timestamp):
                return True
        return False

    def chosen(self) -> list[Sample]:
        """Give the series that count, in the order of the page."""
        return [sample for _, sample in sorted(dict(self._best.values()).items())]

    def _beats(self, spec: MetricSpec, sample: Sample) -> bool:
        best = self._best.get(id(spec))
        if best is None:
            return True
        return is_later_list(sample, best[1]) if spec is self._lora else is_later(sample, best[1])
