"""`StreamMetrics`: streams of ext_proc."""

from __future__ import annotations

from collections import Counter
from typing import Final, final

from inferencepool.adapters.extproc import ExternalProcessor
from inferencepool.runtime.exporter import _families as names
from inferencepool.runtime.exporter._prometheus import Metric, numbers
from inferencepool.runtime.grpc import Closure, Reason, Status

__all__ = ["StreamMetrics"]

_CODES: Final = {
    Reason.RESET: Status.OK,
    Reason.STOPPED: Status.OK,
    Reason.LOST: Status.CANCELLED,
    Reason.OVERFLOW: Status.RESOURCE_EXHAUSTED,
    Reason.BROKEN: Status.INTERNAL,
}


@final
class StreamMetrics:
    """
    Tells how many streams of ext_proc are open, and how the others ended.

    A collector, for a ``CollectorRegistry`` of prometheus-client. `closed` is called in the event loop that serves the
    streams, and only there.
    """

    def __init__(self, processor: ExternalProcessor) -> None:
        """Tell of the streams that *processor* has sessions for."""
        self._processor = processor
        self._codes: Counter[Status] = Counter()

    def closed(self, closure: Closure) -> None:
        """Count a stream that is over."""
        status = closure.status
        self._codes[_CODES[closure.reason] if status is None else status] += 1

    def collect(self) -> list[Metric]:
        """Give both metrics."""
        codes = dict(self._codes)
        return [
            numbers(names.STREAMS_INFLIGHT, [((), self._processor.statistics().sessions)]),
            numbers(names.STREAMS_TOTAL, [((_name_of(status),), count) for status, count in codes.items()]),
        ]


def _name_of(status: Status) -> str:
    """Spell *status* as Go does: ``InvalidArgument``, ``OK``, and ``Canceled`` with one l."""
    if status is Status.OK:
        return "OK"
    return "Canceled" if status is Status.CANCELLED else status.name.title().replace("_", "")
