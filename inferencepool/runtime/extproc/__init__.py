"""The service ``envoy.service.ext_proc.v3.ExternalProcessor``, to be mounted on a gRPC server."""

from inferencepool.runtime.extproc._call import EXT_PROC_SERVICE, extproc_limits, extproc_routes
from inferencepool.runtime.extproc._json import fastest_loads

__all__ = ["EXT_PROC_SERVICE", "extproc_limits", "extproc_routes", "fastest_loads"]
