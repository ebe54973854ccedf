"""Who asks, and whether they may: tokens, and roles with their bindings."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from threading import Lock
from typing import final

import attrs

from inferencepool.lab.apiserver import _refusals as refusals
from inferencepool.lab.apiserver._requests import ApiRequest
from inferencepool.lab.apiserver._resources import RBAC, Document, Resource
from inferencepool.lab.apiserver._store import ObjectStore

__all__ = ["ADMIN", "Access", "Action", "action_of", "service_account_name"]

#: The user of the server's own token; may do everything.
ADMIN = "kubernetes-admin"
# Who shows no token, and what they may read.
_UNKNOWN = "system:anonymous"
_FOR_ALL = ("/healthz", "/livez", "/readyz", "/version")
# What every authenticated user may read: the group system:authenticated has the roles for it in a new cluster.
_PUBLIC = ("/api", "/apis", "/healthz", "/livez", "/openapi", "/readyz", "/version")
# What every authenticated user may ask about itself.
_ABOUT_ONESELF = ("selfsubjectaccessreviews", "selfsubjectreviews")


def service_account_name(namespace: str, name: str) -> str:
    """Give the user name of a service account."""
    return f"system:serviceaccount:{namespace}:{name}"


@attrs.frozen(kw_only=True)
class Action:
    """
    What somebody wants to do.

    Attributes:
        verb: As rights have it.
        group: API group of the resource.
        resource: Name of the resource, with a slash and the subresource if it is about one; empty for a path.
        namespace: Namespace; empty for all.
        name: Object; empty for all.
        path: Path of no resource.
    """

    verb: str
    group: str = ""
    resource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        if not self.resource:
            return f'{self.verb} path "{self.path}"'
        where = f' in the namespace "{self.namespace}"' if self.namespace else " at the cluster scope"
        return f'{self.verb} resource "{self.resource}" in API group "{self.group}"{where}'


def action_of(request: ApiRequest) -> Action:
    """Tell what *request* wants to do."""
    target = request.target
    if not target.plural:
        return Action(verb=request.verb, path=request.path)
    # A list or watch of one object is about that object.
    field, _, name = request.query.get("fieldSelector", "").partition("=")
    return Action(
        verb=request.verb,
        group=target.group,
        resource=f"{target.plural}/{target.subresource}" if target.subresource else target.plural,
        namespace=target.namespace,
        name=target.name or (name.lstrip("=") if field == "metadata.name" else ""),
    )


@final
class Access:
    """Valid tokens, and the rights of their users as the roles in the store give them. Thread-safe."""

    def __init__(self, store: ObjectStore, resources: Iterable[Resource]) -> None:
        """Begin without tokens; roles are read from *store*, where *resources* has them."""
        self._store = store
        self._rbac = {known.plural: known for known in resources if known.group == RBAC}
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
        Tell who asks, or as whom; who shows no token is anonymous.

        Raises:
            RefusedError: 401, the token is not valid; 403, it is that of a user who may not act as the other one.
        """
        user = self.find(request.token) if request.token else _UNKNOWN
        if user is None:
            raise refusals.unauthorized()
        other = request.headers.get("impersonate-user", "")
        if not other:
            return user
        action = Action(verb="impersonate", resource="users", name=other)
        if not self.allows(user, action):
            raise refusals.forbidden(None, "", user, str(action))
        return other

    def find(self, token: str) -> str | None:
        """Tell whose *token* is; None where it is not valid."""
        with self._lock:
            return self._users.get(token)

    def check(self, user: str, request: ApiRequest, resource: Resource | None) -> None:
        """
        Check that *user* may do what *request* asks for.

        Raises:
            RefusedError: 403, no role that is bound to them allows it.
        """
        action = action_of(request)
        if not self.allows(user, action):
            raise refusals.forbidden(resource, request.target.name, user, str(action))

    def allows(self, user: str, action: Action) -> bool:
        """Tell whether *user* may do *action*."""
        known = user != _UNKNOWN
        if user == ADMIN or (known and action.resource in _ABOUT_ONESELF):
            return True
        if not action.resource:
            return action.verb in ("get", "head") and action.path.startswith(_PUBLIC if known else _FOR_ALL)
        return any(_allows(rule, action) for rule in self._rules(user, action.namespace))

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


def _allows(rule: Document, action: Action) -> bool:
    wanted = (("verbs", action.verb), ("apiGroups", action.group), ("resources", action.resource))
    if not all({"*", value} & set(rule.get(field) or ()) for field, value in wanted):
        return False
    names = rule.get("resourceNames")
    return not names or action.name in names
