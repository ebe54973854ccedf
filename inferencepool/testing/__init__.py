"""For tests of your own: a clock to move by hand, builders, and checks that a strategy keeps its contract."""

from inferencepool.testing._builders import make_endpoint, make_pod, make_pool, make_snapshot
from inferencepool.testing._clock import ManualClock
from inferencepool.testing._contracts import check_filter, check_scorer
from inferencepool.testing._picker_contract import check_picker

__all__ = [
    "ManualClock",
    "check_filter",
    "check_picker",
    "check_scorer",
    "make_endpoint",
    "make_pod",
    "make_pool",
    "make_snapshot",
]
