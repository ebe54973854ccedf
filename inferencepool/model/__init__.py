"""Values: what exists in the API, in a fleet and in a request. Nothing here holds state or does I/O."""

from inferencepool.model._address import canonical_address
from inferencepool.model._ejection import Ejection, EjectionReason
from inferencepool.model._endpoint import Endpoint, join_host_port
from inferencepool.model._endpoint_set import EndpointSet, any_slot, next_slot, nth_slot, to_endpoint_set, to_slots
from inferencepool.model._import import ImportController, InferencePoolImport
from inferencepool.model._meta import ObjectMeta
from inferencepool.model._metrics import EndpointMetrics
from inferencepool.model._objective import InferenceObjective, PoolReference
from inferencepool.model._objects import ApiObject, parse_object, validate
from inferencepool.model._outcome import Outcome, OutcomeKind
from inferencepool.model._picker_ref import EndpointPickerRef, FailureMode
from inferencepool.model._pod import Pod
from inferencepool.model._pool import AppProtocol, InferencePool, TargetPort
from inferencepool.model._request import InferenceRequest
from inferencepool.model._requirement import Operator, Requirement
from inferencepool.model._rewrite import InferenceModelRewrite, RewriteRule, TargetModel
from inferencepool.model._selector import LabelSelector
from inferencepool.model._snapshot import Candidate, Candidates, Fleet, Snapshot
from inferencepool.model._status import (
    Condition,
    ConditionReason,
    ConditionType,
    InferencePoolStatus,
    ParentReference,
    ParentStatus,
)

__all__ = [
    "ApiObject",
    "AppProtocol",
    "Candidate",
    "Candidates",
    "Condition",
    "ConditionReason",
    "ConditionType",
    "Ejection",
    "EjectionReason",
    "Endpoint",
    "EndpointMetrics",
    "EndpointPickerRef",
    "EndpointSet",
    "FailureMode",
    "Fleet",
    "ImportController",
    "InferenceModelRewrite",
    "InferenceObjective",
    "InferencePool",
    "InferencePoolImport",
    "InferencePoolStatus",
    "InferenceRequest",
    "LabelSelector",
    "ObjectMeta",
    "Operator",
    "Outcome",
    "OutcomeKind",
    "ParentReference",
    "ParentStatus",
    "Pod",
    "PoolReference",
    "Requirement",
    "RewriteRule",
    "Snapshot",
    "TargetModel",
    "TargetPort",
    "any_slot",
    "canonical_address",
    "join_host_port",
    "next_slot",
    "nth_slot",
    "parse_object",
    "to_endpoint_set",
    "to_slots",
    "validate",
]
