"""The built-in strategies: filters, scorers and pickers, and the catalogue of their names in configurations."""

from inferencepool.plugins._catalog import CATALOG, BuiltStrategy, StrategyType, build_strategy
from inferencepool.plugins._consistent_hash import ConsistentHashPicker
from inferencepool.plugins._default import default_profile
from inferencepool.plugins._filters import (
    ROLE_LABEL,
    ByLabel,
    DecodeFilter,
    EncodeFilter,
    LabelSelectorFilter,
    PrefillFilter,
)
from inferencepool.plugins._pickers import (
    LeastRequestPicker,
    PowerOfTwoChoicesPicker,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
)
from inferencepool.plugins._scorers import (
    KvCacheUtilizationScorer,
    LoadAwareScorer,
    LoraAffinityScorer,
    QueueScorer,
    RunningRequestsSizeScorer,
)
from inferencepool.scheduling import MaxScorePicker

__all__ = [
    "CATALOG",
    "ROLE_LABEL",
    "BuiltStrategy",
    "ByLabel",
    "ConsistentHashPicker",
    "DecodeFilter",
    "EncodeFilter",
    "KvCacheUtilizationScorer",
    "LabelSelectorFilter",
    "LeastRequestPicker",
    "LoadAwareScorer",
    "LoraAffinityScorer",
    "MaxScorePicker",
    "PowerOfTwoChoicesPicker",
    "PrefillFilter",
    "QueueScorer",
    "RandomPicker",
    "RoundRobinPicker",
    "RunningRequestsSizeScorer",
    "StrategyType",
    "WeightedRandomPicker",
    "build_strategy",
    "default_profile",
]
