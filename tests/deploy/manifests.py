"""The manifests of docs/deploy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "deploy"
FILES = {
    "one": ("pool.yaml", "rbac.yaml", "one-replica.yaml"),
    "three": ("pool.yaml", "rbac.yaml", "three-replicas.yaml"),
}
NAMESPACE = "inference"


def load(*names: str) -> list[dict[str, Any]]:
    """Give all documents of the files called *names*."""
    return [document for name in names for document in yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))]


def only(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Give the only document of a kind."""
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def rules_of(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give the rules of all roles."""
    return [rule for document in documents if document["kind"] == "Role" for rule in document["rules"]]
