"""InferencePool and Endpoint Picker of Kubernetes as an embeddable routing library."""

import inferencepool._command  # noqa: F401 - it comes first: the other imports take their time
from inferencepool._version import __version__
from inferencepool.errors import InferencePoolError, NoEndpointsError
from inferencepool.model import (
    AppProtocol,
    Endpoint,
    EndpointMetrics,
    EndpointPickerRef,
    FailureMode,
    InferencePool,
    InferenceRequest,
    LabelSelector,
    Pod,
    TargetPort,
)
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import PickResult, SchedulingProfile, WeightedScorer

__all__ = [
    "AppProtocol",
    "Endpoint",
    "EndpointMetrics",
    "EndpointPicker",
    "EndpointPickerRef",
    "EndpointRegistry",
    "FailureMode",
    "InferencePool",
    "InferencePoolError",
    "InferenceRequest",
    "LabelSelector",
    "NoEndpointsError",
    "PickResult",
    "Pod",
    "SchedulingProfile",
    "TargetPort",
    "WeightedScorer",
    "__version__",
]
