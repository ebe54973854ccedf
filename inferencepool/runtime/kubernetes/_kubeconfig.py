"""Finding out which cluster is meant, and how to sign in there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from inferencepool.errors import ConfigurationError, InvalidDocumentError, MissingExtraError
from inferencepool.runtime.files import read_file
from inferencepool.runtime.kubernetes._kubeconfig_extras import check_cluster, check_user, read_impersonation
from inferencepool.runtime.kubernetes._kubeconfig_file import explain, read_kubeconfig

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import KubeConfig, SingleConfig
    from lightkube.config.models import User, UserExec

__all__ = ["SERVICE_ACCOUNT", "choose_namespace", "load_cluster"]

_MISSING = "following a cluster needs the extra 'kubernetes': pip install 'inferencepool[kubernetes]'"
#: Where a pod finds the credentials of its service account.
SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
# Bytes; a name has 63 at most.
_MAX_NAMESPACE: Final = 256
_HOME: Final = "~/.kube/config"
_EXEC_GROUP: Final = "client.authentication.k8s.io"
_EXEC_VERSIONS: Final = ("v1", "v1beta1", "v1alpha1")


def load_cluster(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: str = SERVICE_ACCOUNT,
) -> SingleConfig:
    """
    Read which cluster is meant, and how to sign in there.

    It is that of *kubeconfig*; else of the file that KUBECONFIG names; else the one that this process runs in, unless a
    *context* is given; else that of ``~/.kube/config``.

    Args:
        kubeconfig: A kubeconfig file.
        context: One of its contexts; None for the current one.
        environ: The environment.
        service_account: Directory of the token, the namespace and the certificate of a pod.

    Returns:
        A value of lightkube.

    Raises:
        ConfigurationError: There is none, or it cannot be used; the message names the file.
        MissingExtraError: lightkube is not installed.
    """
    try:
        from lightkube.config.kubeconfig import KubeConfig  # noqa: PLC0415 - an extra
        from lightkube.core.exceptions import ConfigError  # noqa: PLC0415 - as above
    except ImportError:
        raise MissingExtraError(_MISSING) from None
    path = kubeconfig or environ.get("KUBECONFIG") or ""
    inside = not path and context is None and Path(service_account, "token").exists()
    source = service_account if inside else path or _HOME
    if not path and not inside and not Path(_HOME).expanduser().is_file():
        message = "kubeconfig: none is given, this process runs in no cluster, and there is no ~/.kube/config"
        raise ConfigurationError(message)
    if os.pathsep in path:
        message = f"kubeconfig: {path!r} names several files, allowed is one"
        raise ConfigurationError(message)
    impersonation: tuple[tuple[str, str], ...] = ()
    try:
        if inside:
            config = _of_service_account(source).get()
        else:
            file = Path(source).expanduser()
            document = read_kubeconfig(file)
            parsed = KubeConfig.from_dict(document, fname=file)
            config = parsed.get(context)
            _check_user(config, [*parsed.users])
            if config is not None:
                check_cluster(document, config.context.cluster)
                check_user(document, config.context.user)
                impersonation = read_impersonation(document, config.context.user)
    except (ConfigError, ConfigurationError) as error:
        reason = str(error)
    except KeyError as error:
        reason = f"{error} is missing"
    except Exception as error:  # noqa: BLE001 - a file can be wrong in ways that nobody can list
        # Most of what errors say shows the part of the file that is wrong, and that may be a secret.
        reason = f"cannot be read: {explain(error)}"
    else:
        assert config is not None  # noqa: S101 - only with a default it could be
        return _prepare(config, impersonation)
    message = f"kubeconfig: {source}: {reason}"
    raise ConfigurationError(message) from None


def choose_namespace(
    given: str | None,
    config: SingleConfig | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    service_account: str = SERVICE_ACCOUNT,
) -> str:
    """
    Choose the namespace of a pool.

    It is the one *given*; else that of the environment variable NAMESPACE; else that of the pod in which this process
    runs; else that of the context of *config*; else ``default``.
    """
    try:
        own = _read_namespace(service_account)
    except (ConfigurationError, ValueError):
        own = ""
    context = config.context.namespace if config is not None else None
    return given or environ.get("NAMESPACE") or own or context or "default"


def _of_service_account(folder: str) -> KubeConfig:
    """Do as lightkube's `KubeConfig.from_service_account` does, which reads files of any length, and pipes."""
    from lightkube.config.kubeconfig import KubeConfig  # noqa: PLC0415 - an extra
    from lightkube.config.models import Cluster, User  # noqa: PLC0415 - as above

    from inferencepool.runtime.kubernetes._credentials import read_token_file  # noqa: PLC0415 - as above

    token_file = str(Path(folder, "token"))
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    if ":" in host:
        host = f"[{host}]"
    return KubeConfig.from_one(
        cluster=Cluster(server=f"https://{host}:{port}", certificate_auth=str(Path(folder, "ca.crt"))),
        user=User(token=read_token_file(token_file), token_file=token_file),
        namespace=_read_namespace(folder),
    )


def _read_namespace(folder: str) -> str:
    """Read the namespace of a pod; raises `ConfigurationError`, or `ValueError` where it is no text."""
    try:
        return read_file(Path(folder, "namespace"), _MAX_NAMESPACE).decode().strip()
    except InvalidDocumentError as error:
        message = f"namespace file {error}"
        raise ConfigurationError(message) from None


def _check_user(config: SingleConfig | None, users: list[str]) -> None:
    """Refuse credentials that no request could carry, by the path of their field."""
    from inferencepool.runtime.kubernetes._credentials import make_credentials  # noqa: PLC0415 - needs the extra

    if config is not None and config.user is not None and config.context.user is not None:
        make_credentials(config.user, f"users[{users.index(config.context.user)}].user")


def _prepare(config: SingleConfig, impersonation: tuple[tuple[str, str], ...]) -> SingleConfig:
    """Make up for what lightkube leaves out: files beside the kubeconfig, plugins of today's version, and secrecy."""
    import msgspec  # noqa: PLC0415 - comes with lightkube

    user = config.user
    if user is None:
        return config
    if user.token_file:
        user = msgspec.structs.replace(user, token_file=str(config.abs_file(user.token_file)))
    if user.exec is not None:
        user = msgspec.structs.replace(user, exec=_prepare_exec(user.exec, config))
    return config._replace(user=_quiet(user, impersonation))


def _quiet(user: User, impersonation: tuple[tuple[str, str], ...]) -> User:
    """Give *user* as a value whose ``repr`` tells which credentials there are, and none of them."""
    import msgspec  # noqa: PLC0415 - comes with lightkube
    from lightkube.config import models  # noqa: PLC0415 - an extra

    class User(models.User):
        impersonation: tuple[tuple[str, str], ...] = ()

        def __repr__(self) -> str:
            given = [name for name, value in msgspec.structs.asdict(self).items() if value]
            return f"<User with {', '.join(given)}>" if given else "<User>"

    return User(**msgspec.structs.asdict(user), impersonation=impersonation)


def _prepare_exec(plugin: UserExec, config: SingleConfig) -> UserExec:
    """Let a plugin of any version run: the answer to all of them looks the same, as far as tokens go."""
    import msgspec  # noqa: PLC0415 - comes with lightkube
    from lightkube.config import models  # noqa: PLC0415 - an extra

    class UserExec(models.UserExec):
        def __repr__(self) -> str:
            return f"<UserExec of {self.command!r}>"

    group, _, version = plugin.apiVersion.rpartition("/")
    if group != _EXEC_GROUP or version not in _EXEC_VERSIONS:
        allowed = ", ".join(f"{_EXEC_GROUP}/{each}" for each in _EXEC_VERSIONS)
        message = f"kubeconfig: {config.fname}: exec.apiVersion: {plugin.apiVersion!r} is not one of {allowed}"
        raise ConfigurationError(message)
    asked = {"apiVersion": plugin.apiVersion, "kind": "ExecCredential", "spec": {"interactive": False}}
    variables = [*(plugin.env or ()), models.NameValue("KUBERNETES_EXEC_INFO", json.dumps(asked))]
    return UserExec(**msgspec.structs.asdict(plugin) | {"env": variables})
