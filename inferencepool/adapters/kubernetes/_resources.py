"""The kinds of objects that are followed, as the API server serves them."""

from __future__ import annotations

from typing import Final

import attrs

__all__ = [
    "LEGACY_POOLS",
    "OBJECTIVES",
    "PODS",
    "POOLS",
    "REWRITES",
    "ApiResource",
]


@attrs.frozen
class ApiResource:
    """
    A kind of object with a namespace, as the API server serves it.

    Attributes:
        group: API group; empty for the core group.
        version: Version of the group.
        plural: Its name in paths.
        kind: Its name in documents.
    """

    group: str
    version: str
    plural: str
    kind: str

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path at which the API server tells which kinds this version of the group has."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def collection(self, namespace: str) -> str:
        """Give the path of all objects of *namespace*."""
        return f"{self.root}/namespaces/{namespace}/{self.plural}"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS: Final = ApiResource("", "v1", "pods", "Pod")
POOLS: Final = ApiResource("inference.networking.k8s.io", "v1", "inferencepools", "InferencePool")
LEGACY_POOLS: Final = ApiResource("inference.networking.x-k8s.io", "v1alpha2", "inferencepools", "InferencePool")

_GROUPS = ("llm-d.ai", "inference.networking.x-k8s.io")

#: InferenceObjectives; of two groups that are served the first counts.
OBJECTIVES: Final = tuple(
    ApiResource(group, "v1alpha2", "inferenceobjectives", "InferenceObjective") for group in _GROUPS
)
#: InferenceModelRewrites; of two groups that are served the first counts.
REWRITES: Final = tuple(
    ApiResource(group, "v1alpha2", "inferencemodelrewrites", "InferenceModelRewrite") for group in _GROUPS
)
