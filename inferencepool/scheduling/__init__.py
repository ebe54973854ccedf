"""The pick loop: what a strategy looks like, and how strategies together decide where a request goes."""

from inferencepool.scheduling._eligibility import SubsetHint
from inferencepool.scheduling._explanation import ExplainedCandidate, ExplainedScore, Explanation, Rejection
from inferencepool.scheduling._max_score import MaxScorePicker
from inferencepool.scheduling._profile import MAX_WEIGHT, NamedFilter, SchedulingProfile, WeightedScorer, strategy_name
from inferencepool.scheduling._protocols import (
    EndpointFilter,
    Filter,
    FleetScorer,
    LinearLoad,
    LoadScorer,
    Picker,
    PickListener,
    PlainFilter,
    PlainPicker,
    PlainScorer,
    ScoredCandidate,
    Scorer,
    SparseScorer,
    Standing,
    StandingPicker,
)
from inferencepool.scheduling._reservations import ReservedLoad
from inferencepool.scheduling._result import PickResult
from inferencepool.scheduling._scheduler import Scheduler
from inferencepool.scheduling._terms import ONE

__all__ = [
    "MAX_WEIGHT",
    "ONE",
    "EndpointFilter",
    "ExplainedCandidate",
    "ExplainedScore",
    "Explanation",
    "Filter",
    "FleetScorer",
    "LinearLoad",
    "LoadScorer",
    "MaxScorePicker",
    "NamedFilter",
    "PickListener",
    "PickResult",
    "Picker",
    "PlainFilter",
    "PlainPicker",
    "PlainScorer",
    "Rejection",
    "ReservedLoad",
    "Scheduler",
    "SchedulingProfile",
    "ScoredCandidate",
    "Scorer",
    "SparseScorer",
    "Standing",
    "StandingPicker",
    "SubsetHint",
    "WeightedScorer",
    "strategy_name",
]
