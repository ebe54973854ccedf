"""Finding out which cluster is meant."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.runtime.kubernetes import LightkubeTransport, choose_namespace, load_cluster

NOWHERE = "/nowhere"


def kubeconfig_of(path: Path, *, user: Any = None, **fields: Any) -> Path:
    """Write a kubeconfig with two contexts, ``first`` and ``second``; *fields* replace its parts."""
    document = {
        "clusters": [{"name": name, "cluster": {"server": f"https://{name}.example:6443"}} for name in "ab"],
        "contexts": [
            {"name": "first", "context": {"cluster": "a", "user": "u", "namespace": "team-a"}},
            {"name": "second", "context": {"cluster": "b"}},
        ],
        "users": [{"name": "u", "user": user if user is not None else {"token": "t"}}],
        "current-context": "first",
    }
    path.write_text(json.dumps({name: value for name, value in (document | fields).items() if value is not None}))
    return path


@pytest.fixture(name="home", autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home without a kubeconfig, and an environment that names none."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "NAMESPACE", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(name="account")
def _account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the files and the environment of a pod."""
    folder = tmp_path / "account"
    folder.mkdir()
    (folder / "token").write_text("secret")
    (folder / "namespace").write_text("own\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return str(folder)


class TestNothingIsIgnored:
    @pytest.mark.parametrize(
        ("more", "expected"),
        [
            (
                {"interactiveMode": "Always"},
                r"exec\.interactiveMode: 'Always' is not supported, as there is no terminal",
            ),
            ({"provideClusterInfo": True}, r"exec\.provideClusterInfo: is not supported"),
        ],
    )
    def test_plugins(self, more: dict[str, object], expected: str, tmp_path: Path) -> None:
        """A plugin that wants what it would not get is refused."""
        plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "true", "interactiveMode": "IfAvailable"}
        load_cluster(str(kubeconfig_of(tmp_path / "config", user={"exec": plugin | {"provideClusterInfo": False}})))
        with pytest.raises(ConfigurationError, match=r"users\[0\]\.user\." + expected):
            load_cluster(str(kubeconfig_of(tmp_path / "config", user={"exec": plugin | more})))

    @pytest.mark.parametrize("field", ["client-certificate-data", "client-key-data"])
    def test_credentials_that_are_no_base64(self, field: str, tmp_path: Path) -> None:
        """They are named, and not shown; line ends are no fault."""
        user = {"client-certificate-data": "eA==\n", "client-key-data": "ey\r\nJ9"}
        load_cluster(str(kubeconfig_of(tmp_path / "config", user=user)))
        with pytest.raises(ConfigurationError, match=rf"users\[0\]\.user\.{field}: is no base64$"):
            load_cluster(str(kubeconfig_of(tmp_path / "config", user=user | {field: "s3cret!!"})))

    @pytest.mark.parametrize(
        ("cluster", "expected"),
        [
            ({"server": "https://u:s3cret@a.example"}, "server: a user or a password in an address is not supported$"),
            ({"certificate-authority-data": "s3cret!!"}, "certificate-authority-data: is no base64$"),
        ],
    )
    def test_clusters(self, cluster: dict[str, object], expected: str, tmp_path: Path) -> None:
        """A password in an address is not shown, and a certificate is one."""
        clusters = [{"name": "a", "cluster": {"server": "https://a.example/@x"} | cluster}]
        with pytest.raises(ConfigurationError, match=r"clusters\[0\]\.cluster\." + expected):
            load_cluster(str(kubeconfig_of(tmp_path / "config", clusters=clusters)))


class TestImpersonation:
    def test_headers(self, tmp_path: Path) -> None:
        """Every request tells whom a user acts as, with all groups."""
        user = {"token": "t", "as": "epp", "as-groups": ["a", "b"], "as-uid": "7"}
        transport = LightkubeTransport(load_cluster(str(kubeconfig_of(tmp_path / "config", user=user))))
        headers = transport._client.headers

        assert ("epp", "7") == (headers["impersonate-user"], headers["impersonate-uid"])
        assert ["a", "b"] == headers.get_list("impersonate-group")

    def test_nobody(self, tmp_path: Path) -> None:
        """Who acts as nobody else says nothing of that."""
        transport = LightkubeTransport(load_cluster(str(kubeconfig_of(tmp_path / "config"))))

        assert not [name for name in transport._client.headers if name.startswith("impersonate")]

    @pytest.mark.parametrize(
        ("user", "expected"),
        [
            ({"as": "a\nb"}, "users[0].user.as: is not a text that a header can carry"),
            ({"as": 5}, "users[0].user.as: is not a text that a header can carry"),
            ({"as": "a", "as-groups": "b"}, "users[0].user.as-groups: is not a list of up to 100 names"),
            (
                {"as": "a", "as-groups": ["b", " c"]},
                "users[0].user.as-groups[1]: is not a text that a header can carry",
            ),
            ({"as-groups": ["b"]}, "users[0].user.as-groups: is of no use without users[0].user.as"),
            ({"as": "a", "as-user-extra": {"b": ["c"]}}, "users[0].user.as-user-extra: is not supported"),
        ],
    )
    def test_refused(self, user: dict[str, Any], expected: str, tmp_path: Path) -> None:
        """What no header can carry is named by its field."""
        file = str(kubeconfig_of(tmp_path / "config", user={"token": "t"} | user))
        with pytest.raises(ConfigurationError) as caught:
            load_cluster(file)

        assert f"kubeconfig: {file}: {expected}" == str(caught.value)


@pytest.mark.parametrize("field", ["tls-server-name", "proxy-url"])
def test_what_a_cluster_asks_for_and_would_not_get(field: str, tmp_path: Path) -> None:
    """It is refused by name, and only where the cluster is the one that is used."""
    clusters = [
        {"name": "a", "cluster": {"server": "https://a.example:6443", field: "https://proxy.example"}},
        {"name": "b", "cluster": {"server": "https://b.example:6443", field: ""}},
    ]
    file = str(kubeconfig_of(tmp_path / "config", clusters=clusters))
    with pytest.raises(ConfigurationError, match=rf"clusters\[0\].cluster.{field}: is not supported$"):
        load_cluster(file)

    assert "https://b.example:6443" == load_cluster(file, "second").cluster.server


class TestChoice:
    def test_file(self, tmp_path: Path) -> None:
        """A file that is given counts, with its current context or another one."""
        file = str(kubeconfig_of(tmp_path / "config"))

        assert "https://a.example:6443" == load_cluster(file).cluster.server
        assert "https://b.example:6443" == load_cluster(file, "second").cluster.server

    def test_order(self, home: Path, account: str) -> None:
        """A file that is given wins over the environment, that over the cluster around, and that over the home."""
        (home / ".kube").mkdir()

        def server(*arguments: Any, **environ: str) -> str:
            return load_cluster(*arguments, environ=environ, service_account=account).cluster.server

        given = str(kubeconfig_of(home / "given"))
        named = str(kubeconfig_of(home / "named", **{"current-context": "second"}))
        kubeconfig_of(home / ".kube" / "config")
        assert "https://a.example:6443" == server(given, KUBECONFIG=named)
        assert "https://b.example:6443" == server(KUBECONFIG=named)
        assert "https://10.96.0.1:443" == server()
        assert "https://b.example:6443" == server(None, "second")
        assert "https://a.example:6443" == load_cluster(environ={}, service_account=NOWHERE).cluster.server

    def test_none(self) -> None:
        """Without any of them the message says where a cluster was looked for."""
        with pytest.raises(ConfigurationError) as caught:
            load_cluster(service_account=NOWHERE)

        assert "kubeconfig: none is given, this process runs in no cluster, and there is no ~/.kube/config" == str(
            caught.value
        )

    @pytest.mark.parametrize("name", ["token", "namespace"])
    def test_pod_with_files_of_any_kind(self, account: str, name: str) -> None:
        """A file of a pod that is too long, or a pipe, is refused by name, and nothing waits for it."""
        file = Path(account, name)
        file.write_text("x" * 10_000_000)
        with pytest.raises(ConfigurationError, match=f"{name} file {file}: exceeds the limit of"):
            load_cluster(service_account=account)
        file.unlink()
        os.mkfifo(file)
        with pytest.raises(ConfigurationError, match=f"{name} file {file}: is no regular file"):
            load_cluster(service_account=account)

        assert "default" == choose_namespace(None, service_account=account) or name == "token"

    def test_pod_without_a_cluster(self, account: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A token without the variables that name the server is no cluster."""
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
        with pytest.raises(ConfigurationError, match=f"kubeconfig: {account}: 'KUBERNETES_SERVICE_HOST' is missing"):
            load_cluster(service_account=account)

    @pytest.mark.parametrize(
        ("content", "context", "expected"),
        [
            (None, None, "no such file"),
            ("", None, "cannot be read: "),
            ("[]", None, "cannot be read: AttributeError"),
            ("a: b: c", None, "cannot be read: ScannerError: line 1, column 5"),
            ("{}", None, "'clusters' is missing"),
            ('{"clusters": [], "contexts": []}', None, "No current context set"),
            ('{"clusters": [], "contexts": [], "current-context": "x"}', None, "Context 'x' not found"),
            ('{"clusters": [{"name": "a", "cluster": 5}], "contexts": []}', None, "cannot be read: ValidationError"),
        ],
    )
    def test_unreadable(self, content: str | None, context: str | None, expected: str, tmp_path: Path) -> None:
        """A file that cannot be used is named, with the reason."""
        file = tmp_path / "config"
        if content is not None:
            file.write_text(content)
        with pytest.raises(ConfigurationError, match=f"^kubeconfig: {file}: {expected}"):
            load_cluster(str(file), context)

    def test_unknown_context(self, tmp_path: Path) -> None:
        """A context that is not there is named."""
        with pytest.raises(ConfigurationError, match="Context 'third' not found"):
            load_cluster(str(kubeconfig_of(tmp_path / "config")), "third")

    def test_several_files(self, tmp_path: Path) -> None:
        """Several files are not merged, and that is said."""
        several = os.pathsep.join(["a", "b"])
        with pytest.raises(ConfigurationError, match="names several files, allowed is one"):
            load_cluster(environ={"KUBECONFIG": several}, service_account=str(tmp_path))

    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without lightkube the message says what to install."""
        monkeypatch.setitem(sys.modules, "lightkube.config.kubeconfig", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'inferencepool\[kubernetes\]'"):
            load_cluster()


class TestCredentials:
    def test_files_beside_the_kubeconfig(self, tmp_path: Path) -> None:
        """A token file with a relative name lies beside the kubeconfig."""
        config = load_cluster(str(kubeconfig_of(tmp_path / "config", user={"tokenFile": "token"})))
        assert config.user is not None

        assert str(tmp_path / "token") == config.user.token_file

    @pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
    def test_plugins(self, version: str, tmp_path: Path) -> None:
        """Plugins of all versions are run, and told which version is meant."""
        plugin = {
            "apiVersion": f"client.authentication.k8s.io/{version}",
            "command": "login",
            "args": ["--token"],
            "env": [{"name": "A", "value": "b"}],
            "interactiveMode": "Never",
        }
        config = load_cluster(str(kubeconfig_of(tmp_path / "config", user={"exec": plugin})))
        assert config.user is not None
        assert config.user.exec is not None
        variables = {variable.name: variable.value for variable in config.user.exec.env or ()}

        assert {"A", "KUBERNETES_EXEC_INFO"} == variables.keys()
        assert plugin["apiVersion"] == json.loads(variables["KUBERNETES_EXEC_INFO"])["apiVersion"]

    def test_unknown_plugin(self, tmp_path: Path) -> None:
        """A plugin of a version that is not known is refused at once, not at the first request."""
        plugin = {"apiVersion": "client.authentication.k8s.io/v9", "command": "login"}
        with pytest.raises(ConfigurationError, match=r"exec\.apiVersion: 'client\.[.a-z0-9/]+v9' is not one of"):
            load_cluster(str(kubeconfig_of(tmp_path / "config", user={"exec": plugin})))

    @pytest.mark.parametrize(
        ("user", "cluster", "expected"),
        [
            ({"client-certificate": "none", "client-key": "none"}, {}, "No such file"),
            ({}, {"certificate-authority": "none"}, "No such file"),
            ({}, {"certificate-authority-data": "bm9uZQ=="}, "SSLError"),
            ({}, {"server": "https://[::"}, "InvalidURL"),
        ],
    )
    def test_that_cannot_be_used(self, user: Any, cluster: Any, expected: str, tmp_path: Path) -> None:
        """What is wrong with certificates and credentials is told when the client is made, not later."""
        clusters = [{"name": "a", "cluster": {"server": "https://a.example"} | cluster}]
        config = load_cluster(str(kubeconfig_of(tmp_path / "config", user=user, clusters=clusters)))
        with pytest.raises(ConfigurationError, match=f"^kubeconfig: context first: cannot be used: .*{expected}"):
            LightkubeTransport(config)


class TestNamespace:
    @pytest.mark.parametrize(
        ("given", "environ", "inside", "context", "expected"),
        [
            ("flag", {"NAMESPACE": "env"}, True, "first", "flag"),
            (None, {"NAMESPACE": "env"}, True, "first", "env"),
            (None, {"NAMESPACE": ""}, True, "first", "own"),
            (None, {}, False, "first", "team-a"),
            (None, {}, False, "second", "default"),
            (None, {}, False, None, "default"),
        ],
    )
    def test_order(
        self,
        given: str | None,
        environ: dict[str, str],
        inside: bool,
        context: str | None,
        expected: str,
        account: str,
        tmp_path: Path,
    ) -> None:
        """Flag, environment, pod, context, default: the first that says something counts."""
        config = load_cluster(str(kubeconfig_of(tmp_path / "config")), context) if context else None
        where = account if inside else NOWHERE

        assert expected == choose_namespace(given, config, environ=environ, service_account=where)
