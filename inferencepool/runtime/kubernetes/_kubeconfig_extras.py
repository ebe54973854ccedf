"""What a kubeconfig may say and lightkube does not look at: whom to act as, and what is not supported."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Final

from inferencepool.errors import ConfigurationError

__all__ = ["MOST_GROUPS", "check_cluster", "check_user", "read_impersonation"]

#: Groups that a kubeconfig acts for.
MOST_GROUPS: Final = 100
# Fields of a user that only add to whom ``as`` names.
_OF_AS: Final = ("as-groups", "as-uid", "as-user-extra")


def check_cluster(document: Any, name: str | None) -> None:
    """
    Refuse what a cluster of a kubeconfig asks for and would not get.

    Raises:
        ConfigurationError: It names a proxy, a name of the server that TLS is to expect, or a password in the server's
            address, or has a certificate that is no base64.
    """
    path, cluster = _find(document, "clusters", "cluster", name)
    for field in ("tls-server-name", "proxy-url"):
        if cluster.get(field):
            message = f"{path}.{field}: is not supported"
            raise ConfigurationError(message)
    server = cluster.get("server")
    if isinstance(server, str) and "@" in server.partition("://")[2].partition("/")[0]:
        # Requests would not be signed with it, and it would be seen wherever the address is.
        message = f"{path}.server: a user or a password in an address is not supported"
        raise ConfigurationError(message)
    _check_base64(path, cluster, "certificate-authority-data")


def check_user(document: Any, name: str | None) -> None:
    """
    Refuse what a user of a kubeconfig asks for and would not get.

    Raises:
        ConfigurationError: Its plugin wants a terminal or the cluster's data, or a certificate or key is no base64.
    """
    path, user = _find(document, "users", "user", name)
    plugin = user.get("exec")
    if isinstance(plugin, dict):
        if plugin.get("interactiveMode") == "Always":
            message = f"{path}.exec.interactiveMode: 'Always' is not supported, as there is no terminal"
            raise ConfigurationError(message)
        if plugin.get("provideClusterInfo"):
            message = f"{path}.exec.provideClusterInfo: is not supported"
            raise ConfigurationError(message)
    for field in ("client-certificate-data", "client-key-data"):
        _check_base64(path, user, field)


def _check_base64(path: str, part: Mapping[str, Any], field: str) -> None:
    text = part.get(field)
    if isinstance(text, str):
        try:
            # Line ends do not count.
            b64decode("".join(text.splitlines()), validate=True)
        except (binascii.Error, ValueError):
            message = f"{path}.{field}: is no base64"
            raise ConfigurationError(message) from None


def read_impersonation(document: Any, name: str | None) -> tuple[tuple[str, str], ...]:
    """
    Read the headers with which a user of a kubeconfig acts as another one (``as``, ``as-groups``, ``as-uid``).

    Raises:
        ConfigurationError: No header can carry them, or there are groups and no user, or an extra (``as-user-extra``).
    """
    path, user = _find(document, "users", "user", name)
    if user.get("as-user-extra"):
        message = f"{path}.as-user-extra: is not supported"
        raise ConfigurationError(message)
    given = next((field for field in _OF_AS if user.get(field)), None)
    if not user.get("as"):
        if given is not None:
            message = f"{path}.{given}: is of no use without {path}.as"
            raise ConfigurationError(message)
        return ()
    headers = [("Impersonate-User", _text(user["as"], f"{path}.as"))]
    if user.get("as-uid"):
        headers.append(("Impersonate-Uid", _text(user["as-uid"], f"{path}.as-uid")))
    groups = user.get("as-groups") or []
    if not isinstance(groups, list) or len(groups) > MOST_GROUPS:
        message = f"{path}.as-groups: is not a list of up to {MOST_GROUPS} names"
        raise ConfigurationError(message)
    return (
        *headers,
        *(("Impersonate-Group", _text(each, f"{path}.as-groups[{at}]")) for at, each in enumerate(groups)),
    )


def _find(document: Any, plural: str, singular: str, name: str | None) -> tuple[str, Mapping[str, Any]]:
    """Find the part called *name*, and its path; of several the first counts. An empty one where there is none."""
    parts = document.get(plural) if isinstance(document, dict) else None
    for at, part in enumerate(parts if isinstance(parts, list) else ()):
        if isinstance(part, dict) and part.get("name") == name and isinstance(part.get(singular), dict):
            return f"{plural}[{at}].{singular}", part[singular]
    return f"{plural}[].{singular}", {}


def _text(value: object, path: str) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
        message = f"{path}: is not a text that a header can carry"
        raise ConfigurationError(message)
    return value
