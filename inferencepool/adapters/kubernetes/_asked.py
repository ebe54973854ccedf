"""Which objects are asked for, and whether those that come are any of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, final

import attrs

from inferencepool.adapters.kubernetes._feed import Get, Stream
from inferencepool.adapters.kubernetes._listing import metadata_of
from inferencepool.adapters.kubernetes._resources import ApiResource

__all__ = ["Asked"]

# Characters; that of Kubernetes.
_MAX_NAME: Final = 253
_SHOWN: Final = 100


@final
@attrs.frozen
class Asked:
    """
    What was asked for. A server may ignore selectors, and what stands in between may mix answers up.

    Attributes:
        resource: The kind of object.
        namespace: Where.
        name: Which one; empty for all.
        label_selector: Which ones, by labels; empty for all.
    """

    resource: ApiResource
    namespace: str
    name: str
    label_selector: str = ""

    @property
    def _selectors(self) -> dict[str, str]:
        selectors = {
            "labelSelector": self.label_selector,
            "fieldSelector": f"metadata.name={self.name}" if self.name else "",
        }
        return {name: text for name, text in selectors.items() if text}

    def page(self, limit: int | None, token: str = "") -> Get:
        """Ask for a page of *limit* objects; None for all. A *token* tells where the list goes on."""
        params = self._selectors
        if limit is not None:
            params["limit"] = str(limit)
        if token:
            params["continue"] = token
        return Get(self.resource.collection(self.namespace), params)

    def watch(self, seconds: int, params: Mapping[str, str]) -> Stream:
        """Ask for events, for *seconds* or so."""
        common = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
        return Stream(self.resource.collection(self.namespace), {**self._selectors, **common, **params})

    def why_not(self, document: object) -> str:
        """Tell why *document* is none of the objects that were asked for; empty if it is, or says nothing of that."""
        if not isinstance(document, dict):
            return ""
        metadata, resource = metadata_of(document), self.resource
        name = metadata.get("name")
        if isinstance(name, str) and len(name) > _MAX_NAME:
            return f"its name has more than {_MAX_NAME} characters"
        if self.name and name != self.name:
            return f"it is called {str(name)[:_SHOWN]!r}, not {self.name!r}"
        if (
            metadata.get("namespace") == self.namespace
            and document.get("kind") == resource.kind
            and document.get("apiVersion") == resource.api_version
        ):
            return ""
        # Items of lists need not say what they are.
        for what, found, wanted in (
            ("of namespace", metadata.get("namespace"), self.namespace),
            ("of kind", document.get("kind"), resource.kind),
            ("of version", document.get("apiVersion"), resource.api_version),
        ):
            if found not in (None, "", wanted):
                return f"it is {what} {str(found)[:_SHOWN]!r}, not {wanted!r}"
        return ""
