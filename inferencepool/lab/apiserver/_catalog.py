"""Which resources are served at the moment, and the documents that tell clients so."""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import final

from inferencepool.errors import ConfigurationError
from inferencepool.lab.apiserver._resources import Document, Resource

__all__ = ["Catalog"]

_ACTION_KINDS: dict[str, Document] = {
    "binding": {"kind": "Binding"},
    "token": {"kind": "TokenRequest", "group": "authentication.k8s.io", "version": "v1"},
}
_VERSION: Document = {"major": "1", "minor": "37", "gitVersion": "v1.37.0+inferencepool", "platform": "python"}


@final
class Catalog:
    """The resources that are served; one lock guards them, and documents are made when they are asked for."""

    def __init__(self, resources: Iterable[Resource]) -> None:
        """Serve *resources*."""
        self._lock = Lock()
        self._served: dict[tuple[str, str, str], Resource] = {}
        for resource in resources:
            self.add(resource)

    @property
    def resources(self) -> tuple[Resource, ...]:
        """What is served."""
        with self._lock:
            return tuple(self._served.values())

    def add(self, resource: Resource) -> None:
        """Serve *resource*, too."""
        with self._lock:
            self._served[resource.group, resource.version, resource.plural] = resource

    def remove(self, group: str) -> list[Resource]:
        """Serve nothing of *group* any more; gives what was served of it."""
        with self._lock:
            gone = [resource for resource in self._served.values() if resource.group == group]
            for resource in gone:
                del self._served[resource.group, resource.version, resource.plural]
            return gone

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Find what a path names; None where it is not served."""
        with self._lock:
            return self._served.get((group, version, plural))

    def has_version(self, group: str, version: str) -> bool:
        """Tell whether anything of a version of a group is served."""
        return any((known.group, known.version) == (group, version) for known in self.resources)

    def named(self, plural: str, group: str | None) -> Resource:
        """
        Find a resource by its name, and by its group where several have the name.

        Raises:
            ConfigurationError: None or several have it.
        """
        found = [known for known in self.resources if known.plural == plural and group in (None, known.group)]
        if len(found) != 1:
            names = ", ".join(known.qualified for known in found or self.resources)
            what = "is ambiguous: give the group of one of" if found else "is not served; there are"
            message = f"API server: resource {plural!r} {what} {names}"
            raise ConfigurationError(message)
        return found[0]

    def of_kind(self, api_version: str, kind: str) -> Resource:
        """
        Find the resource whose objects are of *kind*.

        Raises:
            ConfigurationError: None has it.
        """
        for known in self.resources:
            if (known.api_version, known.kind) == (api_version, kind):
                return known
        message = f"API server: apiVersion {api_version!r}, kind {kind!r} is not served"
        raise ConfigurationError(message)

    def document(self, path: str, address: str) -> Document | None:
        """Give the document at one of the paths by which clients ask what is served; None for any other path."""
        match [part for part in path.split("/") if part]:
            case ["version"]:
                return dict(_VERSION)
            case ["api"]:
                return _core_versions(address)
            case ["api", version]:
                return self._resource_list("", version)
            case ["apis", *rest]:
                return self._groups_document(rest)
            case _:
                return None

    def _groups_document(self, rest: list[str]) -> Document | None:
        known = list(dict.fromkeys(resource.group for resource in self.resources if resource.group))
        match rest:
            case []:
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [self._group(group) for group in known]}
            case [group]:
                return {"kind": "APIGroup", "apiVersion": "v1", **self._group(group)} if group in known else None
            case [group, version]:
                return self._resource_list(group, version)
            case _:
                return None

    def _group(self, group: str) -> Document:
        names = dict.fromkeys(known.version for known in self.resources if known.group == group)
        versions = [{"groupVersion": f"{group}/{version}", "version": version} for version in names]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def _resource_list(self, group: str, version: str) -> Document | None:
        listed = [known for known in self.resources if (known.group, known.version) == (group, version)]
        if not listed:
            return None
        entries = [entry for known in listed for entry in _entries(known)]
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": listed[0].api_version,
            "resources": entries,
        }


def _core_versions(address: str) -> Document:
    client = {"clientCIDR": "0.0.0.0/0", "serverAddress": address}
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [client]}


def _entries(resource: Resource) -> list[Document]:
    entry: Document = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    actions = [
        {
            "name": f"{resource.plural}/{action}",
            "singularName": "",
            "namespaced": resource.namespaced,
            **_ACTION_KINDS[action],
            "verbs": ["create"],
        }
        for action in resource.actions
    ]
    if not resource.status:
        return [entry, *actions]
    status = {
        "name": f"{resource.plural}/status",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["get", "patch", "update"],
    }
    return [entry, *actions, status]
