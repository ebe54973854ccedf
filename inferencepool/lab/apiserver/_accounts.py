"""What a client is given to come in: a token, a kubeconfig, or the files of a pod."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from inferencepool.lab.apiserver._access import Access

if TYPE_CHECKING:
    from inferencepool.lab.apiserver._server import ApiServer

__all__ = ["Account", "write_role"]


@final
class Account:
    """
    A user of the API server and its credentials.

    Files are replaced in one step, as the kubelet does it, so a reader never sees half of one.
    """

    def __init__(self, server: ApiServer, access: Access, user: str, namespace: str) -> None:
        """Give *user* a token."""
        self._server = server
        self._access = access
        self._user = user
        self._namespace = namespace
        self._token = access.new_token(user)
        self._kubeconfigs: set[Path] = set()
        self._directories: set[Path] = set()

    @property
    def user(self) -> str:
        """The user's name, as bindings of roles have it."""
        return self._user

    @property
    def namespace(self) -> str:
        """The namespace its clients work in by default."""
        return self._namespace

    @property
    def token(self) -> str:
        """The token that is valid now."""
        return self._token

    @property
    def headers(self) -> Mapping[str, str]:
        """The header by which a request shows the token."""
        return {"authorization": f"Bearer {self._token}"}

    def write_kubeconfig(self, path: str | os.PathLike[str]) -> Path:
        """Write a kubeconfig with this account as its only user, in JSON, which is YAML."""
        file = Path(path)
        self._kubeconfigs.add(file)
        _write(file, json.dumps(self._kubeconfig(), indent=2).encode())
        return file

    def write_files(self, directory: str | os.PathLike[str]) -> Path:
        """
        Write the files of a pod of this account: ``token``, ``namespace`` and, with TLS, ``ca.crt``.

        A pod finds them at ``/var/run/secrets/kubernetes.io/serviceaccount``.
        """
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        self._directories.add(folder)
        _write(folder / "token", self._token.encode())
        _write(folder / "namespace", self._namespace.encode())
        if self._server.authority is not None:
            _write(folder / "ca.crt", self._server.authority)
        return folder

    def renew(self, *, write: bool = True) -> str:
        """
        Make a new token and the old ones invalid, so that clients get 401 until they show it.

        With *write*, the files that were written for this account get it, too; `rewrite` does that later.
        """
        self._access.revoke(self._user)
        self._token = self._access.new_token(self._user)
        if write:
            self.rewrite()
        return self._token

    def rewrite(self) -> None:
        """Write again, with the token that is valid now, all files that were written for this account."""
        for file in self._kubeconfigs:
            self.write_kubeconfig(file)
        for folder in self._directories:
            self.write_files(folder)

    def __repr__(self) -> str:
        return f"<Account of {self._user}>"

    def _kubeconfig(self) -> dict[str, object]:
        cluster: dict[str, object] = {"server": self._server.url}
        if self._server.authority is not None:
            cluster["certificate-authority-data"] = base64.b64encode(self._server.authority).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": self._token}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": self._namespace}}
            ],
            "current-context": "test",
        }


def write_role(server: ApiServer, name: str, namespace: str, rules: Sequence[Mapping[str, Any]]) -> None:
    """Make a role with *rules* and bind the service account *name* to it; role and binding have its name, too."""
    metadata = {"name": name, "namespace": namespace}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", **metadata}
    server.collection("roles").add({"metadata": metadata, "rules": list(rules)})
    server.collection("rolebindings").add({"metadata": metadata, "roleRef": reference, "subjects": [subject]})


def _write(file: Path, content: bytes) -> None:
    temporary = file.with_name(f".{file.name}.new")
    temporary.write_bytes(content)
    temporary.replace(file)
