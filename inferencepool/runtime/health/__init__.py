"""The gRPC health service (grpc.health.v1) of an endpoint picker: Check, Watch and List, for any server of ours."""

from inferencepool.runtime.health._calls import health_routes
from inferencepool.runtime.health._health import LIVENESS, READINESS, Health
from inferencepool.runtime.health._wire import ServingStatus

__all__ = ["LIVENESS", "READINESS", "Health", "ServingStatus", "health_routes"]
