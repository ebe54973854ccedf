"""The built-in strategies: filters, scorers and pickers, and the catalogue of their names in configurations."""

from inferencepool.plugins._catalog import CATALOG, BuiltStrategy, StrategyType, build_strategy
from inferencepool.plugins._consistent_hash import ConsistentHashPicker
from inferencepool.plugins._context_length import CONTEXT_LENGTH_LABEL, ContextLengthAware
from inferencepool.plugins._default import default_profile
from inferencepool.plugins._filters import (
    ROLE_LABEL,
    ByLabel,
    DecodeFilter,
    EncodeFilter,
    LabelSelectorFilter,
    PrefillFilter,
)
from inferencepool.plugins._in_flight import ActiveRequestScorer, InflightLoadProducer, TokenLoadScorer
from inferencepool.plugins._load_bound import LoadBound
from inferencepool.plugins._lora_affinity import LoraAffinityScorer
from inferencepool.plugins._no_hit_lru import NoHitLruScorer
from inferencepool.plugins._pickers import (
    LeastRequestPicker,
    PowerOfTwoChoicesPicker,
    RandomPicker,
    RoundRobinPicker,
    WeightedRandomPicker,
)
from inferencepool.plugins._prefix import PrefixCacheAffinityFilter, PrefixCacheScorer
from inferencepool.plugins._prefix_producer import ApproxPrefixCacheProducer
from inferencepool.plugins._scorers import (
    KvCacheUtilizationScorer,
    LoadAwareScorer,
    QueueScorer,
    RunningRequestsSizeScorer,
)
from inferencepool.plugins._session_affinity import SessionAffinityFilter, SessionAffinityScorer
from inferencepool.plugins._sessions import EncodedEndpoint, SessionBindings, SessionHome
from inferencepool.plugins._tokens import estimate_tokens
from inferencepool.plugins._warm_up import WarmUpFilter
from inferencepool.scheduling import MaxScorePicker

__all__ = [
    "CATALOG",
    "CONTEXT_LENGTH_LABEL",
    "ROLE_LABEL",
    "ActiveRequestScorer",
    "ApproxPrefixCacheProducer",
    "BuiltStrategy",
    "ByLabel",
    "ConsistentHashPicker",
    "ContextLengthAware",
    "DecodeFilter",
    "EncodeFilter",
    "EncodedEndpoint",
    "InflightLoadProducer",
    "KvCacheUtilizationScorer",
    "LabelSelectorFilter",
    "LeastRequestPicker",
    "LoadAwareScorer",
    "LoadBound",
    "LoraAffinityScorer",
    "MaxScorePicker",
    "NoHitLruScorer",
    "PowerOfTwoChoicesPicker",
    "PrefillFilter",
    "PrefixCacheAffinityFilter",
    "PrefixCacheScorer",
    "QueueScorer",
    "RandomPicker",
    "RoundRobinPicker",
    "RunningRequestsSizeScorer",
    "SessionAffinityFilter",
    "SessionAffinityScorer",
    "SessionBindings",
    "SessionHome",
    "StrategyType",
    "TokenLoadScorer",
    "WarmUpFilter",
    "WeightedRandomPicker",
    "build_strategy",
    "default_profile",
    "estimate_tokens",
]
