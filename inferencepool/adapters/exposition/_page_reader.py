"""`PageReader`: the metrics of one endpoint from the pages that it serves again and again."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any, Final, final

import attrs

from inferencepool.adapters.exposition._candidates import Candidates
from inferencepool.adapters.exposition._engines import Engine
from inferencepool.adapters.exposition._grammar import escape
from inferencepool.adapters.exposition._layout import Passage, RememberedSeries, Use, find_passages, latest_of
from inferencepool.adapters.exposition._rules import (
    SINGLE_VALUED,
    apply_rules,
    combined,
    count_of,
    nearest_count,
    nothing_found,
    share_of,
    weights_of,
)
from inferencepool.adapters.exposition._samples import check_size, check_whole, iterate_samples
from inferencepool.adapters.exposition._search import Search
from inferencepool.adapters.exposition._specs import Combine, MetricSpec
from inferencepool.errors import InvalidMetricsError
from inferencepool.model import EndpointMetrics

__all__ = ["PageReader"]

# Pages that are read by remembered offsets before one is searched as a whole again.
_TRUSTED: Final = 256
# The longest page that is read by them, in bytes: to look for what was absent takes time.
_LONGEST_FOLLOWED: Final = 2 * 1024 * 1024
# Lines of which to remember where they stand takes no step of its own.
_FEW: Final = 32
# How much of a page without metrics is parsed to find out whether it is a metrics page at all.
_GLANCE: Final = 1024
_MARK: Final = b"\xef\xbb\xbf"
_COUNT, _SHARE, _RULES, _ADAPTERS = Use.COUNT, Use.SHARE, Use.RULES, Use.ADAPTERS
# The number of the field, among those of the load.
_USAGE: Final = 2


@final
class PageReader:
    """
    Reads the pages of one endpoint. It remembers where the metrics stood, so that most of a page is never looked at.

    Two ways lead to the same answer, and the first falls back to the second:

    1. *Remembered* (`follow`). The bytes around each value are compared with those of the last page, at the offset
       where they stood then and near it.
    2. *Searched* (`learn`). All lines that hold the name of a metric are found; those that may count are read as the
       exact parser reads them.

    The first relies on the rule of the format that all lines of a metric stand together; every 256th page is searched,
    which finds what breaks it. Neither looks at lines of other metrics, and both accept pages in which those make no
    sense. What is remembered is at most 256 lines and 64 KiB of them; a page with more is searched each time.

    Time is linear in the page. Following one takes microseconds, and a few milliseconds for the worst of 1 MiB. To
    search one with very many series takes much longer, so it is done in steps of about a millisecond: whoever must not
    be held up for long does something else in between.

    Not thread-safe: one thread at a time may use it.

    Attributes:
        engine: The engine whose metrics are looked for.
        metrics: What the last page told; fields that it does not give have their former value.
        missing: What the last page lacks, as in `MetricsReading`.
        wrong: What is wrong with a number of the last page, by field. The nearest number that can be was taken, or the
            field has its former value where there is none.
    """

    def __init__(self, engine: Engine, metrics: EndpointMetrics | None = None) -> None:
        """Read pages of *engine*; *metrics* is what is known so far."""
        self.engine = engine
        self.metrics = metrics if metrics is not None else EndpointMetrics()
        self.missing: tuple[str, ...] = ()
        self.wrong: Mapping[str, str] = {}
        self._names = engine.names
        self._passages: list[Passage] | None = None
        # The LoRA series by engine, and those of them that count.
        self._adapters: list[list[RememberedSeries]] = []
        self._latest: list[RememberedSeries] = []
        # The series of each field of the load where those of several engines make it up.
        self._parts: list[list[RememberedSeries]] = [[], [], []]
        self._weights: list[float] | None = None
        self._absent: list[bytes] = []
        self._trusted = 0

    def read(self, page: bytes, observed_at: float | None = None) -> EndpointMetrics:
        """
        Read the next page.

        Args:
            page: The bytes of the page.
            observed_at: When the page was asked for, in seconds of the registry's clock.

        Returns:
            The metrics, which `metrics` gives as well.

        Raises:
            InvalidMetricsError: The page is longer than `MAX_PAGE_SIZE`, cut, holds none of the metrics or only
                impossible values, or a line of a metric is not in the text format. `metrics` stays as it is.
        """
        if not self.follow(page, observed_at):
            for _ in self.learn(page, observed_at):
                pass
        return self.metrics

    def follow(self, page: bytes, observed_at: float | None = None) -> bool:
        """
        Read the next page by what is remembered; the arguments are those of `read`.

        Returns:
            Whether it could be. If not, nothing has changed, and `learn` reads it.

        Raises:
            InvalidMetricsError: The page holds only impossible values.
        """
        passages = self._passages
        if passages is None or self._trusted <= 0 or not page.endswith(b"\n") or len(page) > _LONGEST_FOLLOWED:
            return False
        self._trusted -= 1
        for name in self._absent:
            if name in page:
                return False
        changed: list[RememberedSeries] = []
        shift = lost = 0
        for passage in passages:
            before = passage.at
            at = before + shift
            if passage.whole and page.startswith(passage.whole, at):
                passage.at = at
            elif passage.tail and page.endswith(passage.tail):
                passage.at = len(page) - len(passage.tail)
            elif passage.follow(page, at, changed, lost):
                if passage.at != at:
                    lost += 1
                    shift = passage.at - before
            else:
                return False
        self._take_over(changed, observed_at)
        return True

    def _take_over(self, changed: Iterable[RememberedSeries], observed_at: float | None) -> None:
        """Let the metrics be as the values of all series say, of which those in *changed* changed."""
        metrics = self.metrics
        load: list[Any] = [metrics.waiting_queue_size, metrics.running_requests, metrics.kv_cache_usage]
        have_adapters_changed = False
        several: set[int] = set()
        parts, wrong = self._parts, self.wrong
        for series in changed:
            use = series.use
            if use is _COUNT or use is _SHARE:
                field = series.field
                load[field] = value = series.count if use is _COUNT and series.count is not None else _value_of(series)
                if value is None or wrong:
                    break
                if parts[field]:
                    several.add(field)
            elif use is _ADAPTERS:
                have_adapters_changed = True
            elif use is _RULES:
                break
        else:
            if have_adapters_changed and list(map(latest_of, self._adapters)) != self._latest:
                self._take_over_all(observed_at)
                return
            for field in several:
                # None of them is out of range, or something would be wrong.
                values: list[Any] = list(map(_value_of, parts[field]))
                load[field] = self._combined(field, values)
            waiting, running, usage = load
            self.metrics = metrics.with_load(waiting, running, usage, observed_at)
            return
        self._take_over_all(observed_at)

    def _take_over_all(self, observed_at: float | None) -> None:
        """Apply all rules to the values of all series."""
        series = [series for passage in self._passages or () for series in passage.series]
        found = Candidates(self.engine, series)
        self._conclude(found, observed_at)
        self._latest = list(map(latest_of, self._adapters))
        if self._parts[_USAGE]:
            self._weights = weights_of(self.engine, found)

    def _combined(self, field: int, values: Sequence[float]) -> float:
        """Make one of the values of several engines, as `apply_rules` does."""
        if field == _USAGE:
            spec = self.engine.kv_usage
            combine = (spec.combine if spec is not None else None) or Combine.MEAN
            return min(combined(values, combine, self._weights), 1.0)
        spec = self.engine.running_requests if field else self.engine.queued_requests
        combine = (spec.combine if spec is not None else None) or Combine.SUM
        return nearest_count(combined(values, combine))

    def learn(self, page: bytes, observed_at: float | None = None) -> Generator[None, None, None]:
        """
        Search the next page, one slice with each step; the arguments and errors are those of `read`.

        `metrics` is that of the page when all steps are done. No other page is read before.
        """
        self._passages = None
        check_size(page)
        page = page.removeprefix(_MARK)
        check_whole(page)
        search = Search(page, self.engine)
        yield from search.steps()
        if search.candidates.is_empty:
            _glance(page)
        if search.lines is None:
            yield
        self._conclude(search.candidates, observed_at)
        if search.lines is not None:
            if len(search.lines) > _FEW:
                yield
            passages = find_passages(page, search.lines, self._names)
            if passages is not None:
                self._remember(passages)

    def _conclude(self, found: Candidates[Any], observed_at: float | None) -> None:
        """Apply all rules."""
        findings = apply_rules(self.engine, found)
        if findings.tell_nothing:
            # The same page again is the same error again.
            self._passages = None
            for problem in findings.wrong.values():
                raise InvalidMetricsError(problem)
            raise nothing_found(self.engine)
        values: dict[str, Any] = findings.values
        self.metrics = attrs.evolve(self.metrics, **values, observed_at=observed_at)
        self.missing, self.wrong = tuple(findings.missing), findings.wrong

    def _remember(self, passages: list[Passage]) -> None:
        """Keep *passages*, and find out what each series decides."""
        engine, series = self.engine, [each for passage in passages for each in passage.series]
        self._passages, self._trusted = passages, _TRUSTED
        found = Candidates(engine, series)
        here = frozenset[str]().union(*(each.names for each in passages))
        self._absent = [escape(name).encode() for spec in engine.specs for name in _better_names(spec, here)]
        self._adapters = found.lists(series)
        self._latest = list(map(latest_of, self._adapters))
        self._parts = [[], [], []]
        for each in series:
            each.use = Use.NOTHING
        for spec in engine.specs:
            parts = found.of(spec)
            for each in parts:
                use, each.field = self._use_of(spec) if each.type in SINGLE_VALUED else (Use.RULES, 0)
                each.use = use if each.use is Use.NOTHING else Use.RULES
            if len(parts) > 1 and len({each.use for each in parts}) == 1 and parts[0].use in {Use.COUNT, Use.SHARE}:
                self._parts[parts[0].field] = parts
            elif len(parts) > 1:
                for each in parts:
                    each.use = Use.RULES
        for each in (each for series in self._adapters for each in series):
            each.use = Use.ADAPTERS if each.use in {Use.NOTHING, Use.ADAPTERS} else Use.RULES
        self._weights = weights_of(engine, found)

    def _use_of(self, spec: MetricSpec) -> tuple[Use, int]:
        """Tell what the series of *spec* decides, and the number of the field."""
        engine = self.engine
        if spec is engine.queued_requests:
            return Use.COUNT, 0
        if spec is engine.running_requests:
            return Use.COUNT, 1
        if spec is engine.kv_usage:
            return Use.SHARE, 2
        return (Use.ADAPTERS if spec is engine.lora else Use.RULES), 0


def _value_of(series: RememberedSeries) -> float | None:
    """Give what a series tells of the load; None where that cannot be."""
    if series.use is _SHARE:
        return share_of(series.value)
    return series.count if series.count is not None else count_of(series.value)


def _better_names(spec: MetricSpec, here: frozenset[str]) -> Sequence[str]:
    """Give the names of a metric that would count more than those that are *here*, if they came."""
    names = spec.names
    return names[: next((place for place, name in enumerate(names) if name in here), len(names))]


def _glance(page: bytes) -> None:
    """Raise InvalidMetricsError if the beginning of *page* is none of a metrics page."""
    for _ in iterate_samples(page[: page.rfind(b"\n", 0, _GLANCE) + 1]):
        pass
