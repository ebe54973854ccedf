"""Who asks, and whether they may: tokens, and roles with their bindings."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import final

from inferencepool.testing.apiserver import _refusals as refusals
from inferencepool.testing.apiserver._requests import ApiRequest
from inferencepool.testing.apiserver._resources import Document, Resource
from inferencepool.testing.apiserver._store import ObjectStore

__all__ = ["ADMIN", "Access", "service_account_name"]

#: The user of the server's own token; may do everything.
ADMIN = "kubernetes-admin"
_RBAC = "rbac.authorization.k8s.io"
# What every authenticated user may read: the group system:authenticated has the roles for it in a new cluster.
_PUBLIC = ("/api", "/apis", "/healthz", "/livez", "/openapi", "/readyz", "/version")


def service_account_name(namespace: str, name: str) -> str:
    """Give the user name of a service account."""
    return f"system:serviceaccount:{namespace}:{name}"


@final
class Access:
    """Valid tokens, and the rights of their users as the roles in the store give them. Thread-safe."""

    def __init__(self, store: ObjectStore, resources: Iterable[Resource]) -> None:
        """Begin without tokens; roles are read from *store*, where *resources* has them."""
        self._store = store
        self._rbac = {known.plural: known for known in resources if known.group == _RBAC}
        self._lock = Lock()
        self._users: dict[str, str] = {}

    def new_token(self, user: str) -> str:
        """Make a token for *user*; those it has stay valid."""
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._users[token] = user
        return token

    def revoke(self, user: str) -> None:
        """Make all tokens of *user* invalid."""
        with self._lock:
            self._users = {token: owner for token, owner in self._users.items() if owner != user}

    def user(self, request: ApiRequest) -> str:
        """
        Tell who asks.

        Raises:
            RefusedError: 401, the token is missing or not valid.
        """
        with self._lock:
            user = self._users.get(request.token)
        if user is None:
            raise refusals.unauthorized()
        return user

    def check(self, user: str, request: ApiRequest, resource: Resource | None) -> None:
        """
        Check that *user* may do what *request* asks for.

        Raises:
            RefusedError: 403, no role that is bound to them allows it.
        """
        if user == ADMIN:
            return
        target = request.target
        if resource is None:
            if request.verb not in ("get", "head") or not request.path.startswith(_PUBLIC):
                raise refusals.forbidden(None, "", user, f'{request.verb} path "{request.path}"')
            return
        if any(_allows(rule, request) for rule in self._rules(user, target.namespace)):
            return
        what = f"{target.plural}/{target.subresource}" if target.subresource else target.plural
        where = f' in the namespace "{target.namespace}"' if target.namespace else " at the cluster scope"
        action = f'{request.verb} resource "{what}" in API group "{target.group}"{where}'
        raise refusals.forbidden(resource, target.name, user, action)

    def _rules(self, user: str, namespace: str) -> Iterator[Document]:
        """Give the rules of all roles that are bound to *user* for *namespace*."""
        for binding in self._documents("clusterrolebindings"):
            if _binds(binding, user):
                yield from self._role(binding, "")
        for binding in self._documents("rolebindings"):
            if namespace and binding["metadata"]["namespace"] == namespace and _binds(binding, user):
                yield from self._role(binding, namespace)

    def _role(self, binding: Document, namespace: str) -> Iterator[Document]:
        reference = binding.get("roleRef") or {}
        in_namespace = reference.get("kind") == "Role"
        plural = "roles" if in_namespace else "clusterroles"
        resource = self._rbac.get(plural)
        if resource is None:
            return
        stored = self._store.get(resource, (namespace if in_namespace else "", reference.get("name", "")))
        yield from (stored.document.get("rules") or []) if stored else ()

    def _documents(self, plural: str) -> Iterator[Document]:
        resource = self._rbac.get(plural)
        if resource is not None:
            yield from (stored.document for _, stored in self._store.snapshot(resource))


def _binds(binding: Document, user: str) -> bool:
    for subject in binding.get("subjects") or []:
        name = subject.get("name", "")
        if subject.get("kind") == "ServiceAccount":
            name = service_account_name(subject.get("namespace", ""), name)
        if name == user:
            return True
    return False


def _allows(rule: Document, request: ApiRequest) -> bool:
    target = request.target
    what = f"{target.plural}/{target.subresource}" if target.subresource else target.plural
    wanted = (("verbs", request.verb), ("apiGroups", target.group), ("resources", what))
    if not all({"*", value} & set(rule.get(field) or ()) for field, value in wanted):
        return False
    names = rule.get("resourceNames")
    return not names or _name_of(request) in names


def _name_of(request: ApiRequest) -> str:
    # A list or watch of one object is about that object.
    field, _, name = request.query.get("fieldSelector", "").partition("=")
    return request.target.name or (name.lstrip("=") if field == "metadata.name" else "")
