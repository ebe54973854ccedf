"""The pick loop: what a strategy looks like, and how strategies together decide where a request goes."""

from inferencepool.scheduling._candidate_set import CandidateSet, Standing
from inferencepool.scheduling._eligibility import SubsetHint
from inferencepool.scheduling._explanation import ExplainedCandidate, ExplainedScore, Explanation, Rejection
from inferencepool.scheduling._load import Demand, LinearLoad, LoadMeasure
from inferencepool.scheduling._max_score import MaxScorePicker
from inferencepool.scheduling._producers import Annotator, PickListener, Producer
from inferencepool.scheduling._profile import MAX_WEIGHT, NamedFilter, SchedulingProfile, WeightedScorer
from inferencepool.scheduling._protocols import (
    AmongScorer,
    EndpointFilter,
    Filter,
    FleetScorer,
    LoadScorer,
    Picker,
    PlainFilter,
    PlainPicker,
    PlainScorer,
    ScoredCandidate,
    Scorer,
    SetFilter,
    SparseScorer,
    StandingPicker,
)
from inferencepool.scheduling._reservations import ReservedLoad
from inferencepool.scheduling._result import PickResult
from inferencepool.scheduling._scheduler import Scheduler
from inferencepool.scheduling._strategies import strategy_name
from inferencepool.scheduling._terms import MAX_LOAD, ONE

__all__ = [
    "MAX_LOAD",
    "MAX_WEIGHT",
    "ONE",
    "AmongScorer",
    "Annotator",
    "CandidateSet",
    "Demand",
    "EndpointFilter",
    "ExplainedCandidate",
    "ExplainedScore",
    "Explanation",
    "Filter",
    "FleetScorer",
    "LinearLoad",
    "LoadMeasure",
    "LoadScorer",
    "MaxScorePicker",
    "NamedFilter",
    "PickListener",
    "PickResult",
    "Picker",
    "PlainFilter",
    "PlainPicker",
    "PlainScorer",
    "Producer",
    "Rejection",
    "ReservedLoad",
    "Scheduler",
    "SchedulingProfile",
    "ScoredCandidate",
    "Scorer",
    "SetFilter",
    "SparseScorer",
    "Standing",
    "StandingPicker",
    "SubsetHint",
    "WeightedScorer",
    "strategy_name",
]
