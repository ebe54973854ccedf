"""Questions that are asked by creating them: who is this, and may they do that?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inferencepool.lab.apiserver._access import Access, Action
from inferencepool.lab.apiserver._resources import Document, Resource

__all__ = ["answer_review", "is_review"]

_Answer = Callable[[Access, str, Document], Document]


def is_review(resource: Resource) -> bool:
    """Tell whether objects of *resource* are questions, which are answered and not kept."""
    return resource.plural in _ANSWERS


def answer_review(access: Access, user: str, resource: Resource, question: Document) -> Document:
    """Give what *user* asks with the answer in its status."""
    status = _ANSWERS[resource.plural](access, user, question.get("spec") or {})
    named = {"apiVersion": resource.api_version, "kind": resource.kind}
    return {"metadata": {}} | question | named | {"status": status}


def _may(access: Access, user: str, spec: Document) -> Document:
    return {"allowed": access.allows(user, _action(spec))}


def _may_other(access: Access, _: str, spec: Document) -> Document:
    return _may(access, str(spec.get("user", "")), spec)


def _whose(access: Access, _: str, spec: Document) -> Document:
    user = access.find(str(spec.get("token", "")))
    if user is None:
        return {"user": {}, "error": "invalid bearer token"}
    return {"authenticated": True, "user": {"username": user}}


def _oneself(_: Access, user: str, __: Document) -> Document:
    return {"userInfo": {"username": user}}


def _action(spec: Document) -> Action:
    found: dict[str, Any] = spec.get("resourceAttributes") or {}
    if not found:
        path = spec.get("nonResourceAttributes") or {}
        return Action(verb=path.get("verb", ""), path=path.get("path", ""))
    names = [found.get("resource", ""), found.get("subresource", "")]
    return Action(
        verb=found.get("verb", ""),
        group=found.get("group", ""),
        resource="/".join(filter(None, names)),
        namespace=found.get("namespace", ""),
        name=found.get("name", ""),
    )


_ANSWERS: dict[str, _Answer] = {
    "selfsubjectaccessreviews": _may,
    "selfsubjectreviews": _oneself,
    "subjectaccessreviews": _may_other,
    "tokenreviews": _whose,
}
