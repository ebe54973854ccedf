"""Values: what exists in the API, in a fleet and in a request. Nothing here holds state or does I/O."""

from inferencepool.model._endpoint import Endpoint, join_host_port
from inferencepool.model._endpoint_set import EndpointSet, any_slot, next_slot, nth_slot, to_endpoint_set, to_slots
from inferencepool.model._metrics import EndpointMetrics
from inferencepool.model._request import InferenceRequest
from inferencepool.model._snapshot import Candidate, Candidates, Fleet, Snapshot

__all__ = [
    "Candidate",
    "Candidates",
    "Endpoint",
    "EndpointMetrics",
    "EndpointSet",
    "Fleet",
    "InferenceRequest",
    "Snapshot",
    "any_slot",
    "join_host_port",
    "next_slot",
    "nth_slot",
    "to_endpoint_set",
    "to_slots",
]
