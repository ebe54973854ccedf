"""
InferencePool and Endpoint Picker of Kubernetes as an embeddable routing library.

What stands here is loaded when it is first asked for: who needs the values alone, or the version of the command,
does not wait for the picker.
"""

import inferencepool._command  # noqa: F401 - it comes first: what else a command imports takes its time
from inferencepool._version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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

# Where they are; all others are in the model.
_HOMES = {
    "EndpointPicker": "picker",
    "EndpointRegistry": "registry",
    "InferencePoolError": "errors",
    "NoEndpointsError": "errors",
    "PickResult": "scheduling",
    "SchedulingProfile": "scheduling",
    "WeightedScorer": "scheduling",
}


def __getattr__(name: str) -> "Any":
    """
    Load a name of `__all__`.

    Raises:
        AttributeError: There is no such name.
    """
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module  # noqa: PLC0415 - as above

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'model')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
