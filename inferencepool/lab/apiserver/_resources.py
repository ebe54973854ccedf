"""What is served: the resources of the core API that pools and their controllers meet, and those of inference."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import attrs

__all__ = ["NAMESPACES", "RBAC", "RESOURCES", "Document", "Resource"]

#: An object as JSON has it.
Document: TypeAlias = dict[str, Any]

_ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


def _to_verbs(verbs: Iterable[str]) -> tuple[str, ...]:
    return tuple(verbs)


@attrs.frozen(kw_only=True, cache_hash=True)
class Resource:
    """
    A kind of object that the server stores, and what the API server's rules for it are.

    Attributes:
        group: API group; empty for the core.
        version: Version of the group.
        plural: Name in paths.
        kind: Kind of its objects.
        namespaced: Whether its objects live in namespaces.
        short_names: What kubectl takes for the name.
        fields: Field selectors beside ``metadata.name`` and ``metadata.namespace``.
        actions: What is done to an object by creating such a subresource of it.
        status: Whether the status is a subresource, so that writes to the object leave it alone and the reverse.
        generations: Whether ``metadata.generation`` counts the changes of everything but metadata and status.
        custom: Whether it is a custom resource: it must be updated with a resource version, and has no strategic
            merge patch.
        conditional: Whether updates need a resource version.
        upsert: Whether an update creates what is missing.
        verbs: What may be done with it.
        bookmark: What the body of a bookmark has beside its metadata: the zero value of the type.
    """

    group: str = ""
    version: str = "v1"
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    status: bool = False
    generations: bool = False
    custom: bool = False
    conditional: bool = False
    upsert: bool = False
    verbs: tuple[str, ...] = attrs.field(default=_ALL_VERBS, converter=_to_verbs)
    bookmark: Document = attrs.field(factory=dict, hash=False)

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone for the core."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The name in messages: ``pods``, ``leases.coordination.k8s.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """The kind in messages: ``Pod``, ``Lease.coordination.k8s.io``."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


def _custom(group: str, version: str, plural: str, kind: str, *short_names: str) -> Resource:
    return Resource(
        group=group,
        version=version,
        plural=plural,
        kind=kind,
        short_names=short_names,
        status=True,
        generations=True,
        custom=True,
        conditional=True,
    )


def _review(group: str, plural: str, kind: str) -> Resource:
    """Describe a question that is asked by creating it; nothing is kept of it."""
    return Resource(group=group, plural=plural, kind=kind, namespaced=False, verbs=("create",))


_POD_FIELDS = ("spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "status.phase", "status.podIP")
_EVENT_FIELDS = (
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.uid",
    "reason",
    "type",
)
#: API group of roles and their bindings.
RBAC = "rbac.authorization.k8s.io"

NAMESPACES = Resource(
    plural="namespaces",
    kind="Namespace",
    namespaced=False,
    short_names=("ns",),
    fields=("status.phase",),
    status=True,
    bookmark={"spec": {}, "status": {}},
)

RESOURCES: tuple[Resource, ...] = (
    Resource(
        plural="pods",
        kind="Pod",
        short_names=("po",),
        fields=_POD_FIELDS,
        actions=("binding",),
        status=True,
        bookmark={"spec": {"containers": None}, "status": {}},
    ),
    Resource(
        plural="services",
        kind="Service",
        short_names=("svc",),
        status=True,
        bookmark={"spec": {}, "status": {"loadBalancer": {}}},
    ),
    NAMESPACES,
    Resource(plural="secrets", kind="Secret", fields=("type",)),
    Resource(plural="configmaps", kind="ConfigMap", short_names=("cm",)),
    Resource(plural="serviceaccounts", kind="ServiceAccount", short_names=("sa",), actions=("token",)),
    Resource(
        plural="events",
        kind="Event",
        short_names=("ev",),
        fields=_EVENT_FIELDS,
        bookmark={"involvedObject": {}, "source": {}, "reportingComponent": "", "reportingInstance": ""},
    ),
    Resource(
        group="events.k8s.io",
        plural="events",
        kind="Event",
        short_names=("ev",),
        fields=("reason", "type"),
        bookmark={"eventTime": None, "regarding": {}, "deprecatedSource": {}},
    ),
    Resource(
        group="apps",
        plural="deployments",
        kind="Deployment",
        short_names=("deploy",),
        status=True,
        generations=True,
        bookmark={"spec": {"selector": None, "template": {"spec": {"containers": None}}}, "status": {}},
    ),
    Resource(
        group="coordination.k8s.io",
        plural="leases",
        kind="Lease",
        conditional=True,
        upsert=True,
        bookmark={"spec": {}},
    ),
    Resource(
        group="discovery.k8s.io",
        plural="endpointslices",
        kind="EndpointSlice",
        bookmark={"addressType": "", "endpoints": None, "ports": None},
    ),
    Resource(
        group="policy",
        plural="poddisruptionbudgets",
        kind="PodDisruptionBudget",
        short_names=("pdb",),
        status=True,
        generations=True,
        bookmark={"spec": {}, "status": {}},
    ),
    Resource(group=RBAC, plural="roles", kind="Role", bookmark={"rules": None}),
    Resource(group=RBAC, plural="rolebindings", kind="RoleBinding", bookmark={"roleRef": {}}),
    Resource(group=RBAC, plural="clusterroles", kind="ClusterRole", namespaced=False, bookmark={"rules": None}),
    Resource(
        group=RBAC, plural="clusterrolebindings", kind="ClusterRoleBinding", namespaced=False, bookmark={"roleRef": {}}
    ),
    _review("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview"),
    _review("authentication.k8s.io", "tokenreviews", "TokenReview"),
    _review("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    _review("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
    _custom("inference.networking.k8s.io", "v1", "inferencepools", "InferencePool", "infpool"),
    _custom("inference.networking.x-k8s.io", "v1alpha2", "inferencepools", "InferencePool", "xinfpool"),
    _custom("inference.networking.x-k8s.io", "v1alpha2", "inferenceobjectives", "InferenceObjective"),
    _custom("inference.networking.x-k8s.io", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite"),
    _custom("inference.networking.x-k8s.io", "v1alpha1", "inferencepoolimports", "InferencePoolImport", "infpimp"),
    _custom("llm-d.ai", "v1alpha2", "inferenceobjectives", "InferenceObjective"),
    _custom("llm-d.ai", "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite"),
    _custom("gateway.networking.k8s.io", "v1", "gateways", "Gateway", "gtw"),
    _custom("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute"),
    _custom("gateway.networking.k8s.io", "v1beta1", "referencegrants", "ReferenceGrant", "refgrant"),
)
