"""Secrets get into no message, no log line and no `repr`."""

from __future__ import annotations

import asyncio
import json
import os
import time
import traceback
from base64 import b64encode
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from inferencepool.errors import ApiServerError, ConfigurationError
from inferencepool.lab.apiserver import ApiServer
from inferencepool.runtime.kubernetes import LightkubeTransport, load_cluster
from inferencepool.runtime.kubernetes._plugin import TokenPlugin
from inferencepool.runtime.kubernetes._secrets import hide_secrets
from tests.patience import PATIENCE
from tests.runtime.kubernetes.test_lightkube import PODS, connected, kubeconfig_of, run

SECRET = "s3cr3t-Zm9vYmFyYmF6cXV4"  # noqa: S105 - of a test
KEY = b64encode(SECRET.encode()).decode()
BAD = [f"{SECRET}\n{SECRET}", f"{SECRET}\r\nx: y", f"{SECRET}\0", f"{SECRET}\u0142", f"{SECRET} ", f"a{SECRET}" * 5000]


def script(path: Path, text: str) -> dict[str, Any]:
    """A user of a kubeconfig whose plugin is a shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}}


def write_kubeconfig(path: Path, user: Any) -> str:
    """A kubeconfig whose second user is *user*."""
    document = {
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "first", "context": {"cluster": "a", "user": "me"}}],
        "users": [{"name": "other", "user": {"token": "t"}}, {"name": "me", "user": user}],
        "current-context": "first",
    }
    path.write_text(json.dumps(document))
    return str(path)


def everything(error: BaseException) -> str:
    """All that a traceback shows of an error and of its causes."""
    return "".join(traceback.format_exception(error))


def processes_of(directory: Path) -> list[Path]:
    """The running processes whose command lines name *directory*."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if str(directory).encode() in line.read_bytes():
                found.append(line)
    return found


async def until_there(file: Path) -> None:
    """Wait until a plugin has made *file*."""
    while not file.exists():  # noqa: ASYNC110, ASYNC240 - another process makes it
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("token", BAD)
def test_token_of_a_kubeconfig(token: str, tmp_path: Path) -> None:
    """A token that no header can carry is refused before anything is asked, by the path of its field."""
    with pytest.raises(ConfigurationError, match=r"config: users\[1\]\.user\.token: ") as caught:
        load_cluster(write_kubeconfig(tmp_path / "config", {"token": token}))

    assert SECRET not in everything(caught.value)


@pytest.mark.parametrize("field", ["username", "password"])
def test_password(field: str, tmp_path: Path) -> None:
    """A name or a password with a control character is refused in the same way."""
    user = {"username": "me", "password": "p"} | {field: f"{SECRET}\n"}
    with pytest.raises(ConfigurationError, match=rf"users\[1\]\.user\.{field}: ") as caught:
        load_cluster(write_kubeconfig(tmp_path / "config", user))

    assert SECRET not in everything(caught.value)


@pytest.mark.parametrize("token", BAD)
def test_token_file(token: str, tmp_path: Path) -> None:
    """A token in a file is refused by the name of the file, at each try."""

    async def scenario() -> None:
        with ApiServer(initializing=0) as server:
            file = tmp_path / "token"
            file.write_text(f"{token}x")
            async with connected(kubeconfig_of(server, tmp_path / "config", {"tokenFile": str(file)})) as transport:
                for _ in range(2):
                    with pytest.raises(ApiServerError, match=f"no credentials: .*token file {file}: ") as caught:
                        await transport.get(PODS, {})
                    assert SECRET not in everything(caught.value)
            assert 0 == len(server.requests)

    run(scenario)


@pytest.mark.parametrize("around", ["{}\n", "{}\r\n", " {} \n\n"])
def test_white_space_around_the_token_of_a_file(around: str, tmp_path: Path) -> None:
    """A line feed at the end of a token file is no part of the token."""

    async def scenario() -> None:
        with ApiServer(initializing=0) as server:
            file = tmp_path / "token"
            file.write_text(around.format(server.admin.token))
            async with connected(kubeconfig_of(server, tmp_path / "config", {"tokenFile": str(file)})) as transport:
                await transport.get(PODS, {})

    run(scenario)


def test_token_file_that_never_ends(tmp_path: Path) -> None:
    """A pipe without a writer holds nobody up."""

    async def scenario() -> None:
        file = tmp_path / "token"
        os.mkfifo(file)
        async with connected(write_kubeconfig(tmp_path / "config", {"tokenFile": str(file)})) as transport:
            with pytest.raises(ApiServerError, match="is no regular file"):
                await transport.get(PODS, {})

    run(scenario)


@pytest.mark.parametrize(
    "text",
    [
        f"users:\n- name: me\n  user:\n    token: {SECRET}: x\n",
        f"users:\n- name: me\n  user: {{token: *{SECRET}}}\n",
        f"users:\n- name: me\n  user: {{token: !{SECRET} x}}\n",
        f'{{"clusters": [], "users": "{SECRET}",',
        f"{SECRET}: [",
        SECRET,
        f"[{SECRET}]",
        f"clusters: {SECRET}\ncontexts: []\n",
    ],
)
def test_kubeconfig_that_cannot_be_read(text: str, tmp_path: Path) -> None:
    """What is wrong in a kubeconfig is told by kind and place, not by what is there."""
    (tmp_path / "config").write_text(text)
    with pytest.raises(ConfigurationError, match="config: ") as caught:
        load_cluster(str(tmp_path / "config"))

    assert SECRET not in everything(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &a [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n".replace("*a0", "*a") for n in range(1, 40)),
         "holds more than 100000 values"),
        ("a: &a [*a]", "an alias stands inside what it stands for"),
        ("[" * 100_000, "has more than 100 lists and objects in each other"),
        ("- " * 2_000, "cannot be read: RecursionError"),
        ("#" * (4 * 1024 * 1024 + 1), "exceeds the limit of 4 MiB"),
    ],
    ids=["bomb", "loop", "deep", "deep in lines", "long"],
)  # fmt: skip
def test_kubeconfig_without_an_end(text: str, expected: str, tmp_path: Path) -> None:
    """A kubeconfig is bounded, whatever it says."""
    (tmp_path / "config").write_text(text)
    with pytest.raises(ConfigurationError, match=expected):
        load_cluster(str(tmp_path / "config"))


@pytest.mark.parametrize(
    "user",
    [
        {"token": SECRET},
        {"username": "me", "password": SECRET},
        {"client-key-data": KEY},
        {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": "login",
                "args": [SECRET],
                "env": [{"name": "A", "value": SECRET}],
            }
        },
    ],
    ids=["token", "password", "key", "plugin"],
)
def test_repr(user: Any, tmp_path: Path) -> None:
    """What was read of a kubeconfig tells which credentials there are, and not what they are."""
    config = load_cluster(write_kubeconfig(tmp_path / "config", user))

    assert config.user is not None
    shown = f"{config!r} {config.user!r} {config.user.exec!r}"
    assert SECRET not in shown
    assert KEY not in shown


def test_password_in_the_url(tmp_path: Path) -> None:
    """A password that stands in the URL of the server is refused, and not told."""
    file = Path(write_kubeconfig(tmp_path / "config", {}))
    file.write_text(file.read_text().replace("http://", f"http://me:{SECRET}@"))

    with pytest.raises(ConfigurationError, match="a user or a password in an address is not supported") as caught:
        load_cluster(str(file))
    assert SECRET not in everything(caught.value)


class TestPlugins:
    @pytest.mark.parametrize("token", BAD)
    def test_token(self, token: str, tmp_path: Path) -> None:
        """A token that no header can carry is refused by name of the plugin's field."""

        async def scenario() -> None:
            (tmp_path / "answer").write_text(json.dumps({"status": {"token": token}}))
            user = script(tmp_path / "login", f"cat {tmp_path}/answer")
            async with connected(write_kubeconfig(tmp_path / "config", user)) as transport:
                with pytest.raises(ApiServerError, match=r"login'?: status\.token: ") as caught:
                    await transport.get(PODS, {})
                assert SECRET not in everything(caught.value)

        run(scenario)

    @pytest.mark.parametrize(
        "text",
        [
            f"echo 'not accepted: {SECRET}' >&2; exit 1",
            'echo "not accepted: $PASSWORD" >&2; exit 1',
            f'echo \'{{"status": {{"token": "{SECRET}"}},\'',
            f"echo {SECRET}; exit 1",
            "cat /dev/zero | head -c 100000000 >&2; exit 1",
        ],
    )
    def test_complaints(self, text: str, tmp_path: Path) -> None:
        """What a plugin says is cut, and told without what may be a secret."""

        async def scenario() -> None:
            user = script(tmp_path / "login", text)
            user["exec"]["env"] = [{"name": "PASSWORD", "value": "open sesame"}]
            async with connected(write_kubeconfig(tmp_path / "config", user)) as transport:
                with pytest.raises(ApiServerError, match="no credentials") as caught:
                    await transport.get(PODS, {})
                told = everything(caught.value)
                assert SECRET not in told
                assert "open sesame" not in told
                assert len(str(caught.value)) < 1000

        run(scenario)

    def test_child_that_keeps_the_pipe(self, tmp_path: Path) -> None:
        """A process that a plugin leaves behind holds nobody up."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                answer = json.dumps({"status": {"token": server.admin.token}})
                user = script(tmp_path / "login", f"sleep 600 &\necho $! > {tmp_path}/child\necho '{answer}'")
                try:
                    async with connected(kubeconfig_of(server, tmp_path / "config", user)) as transport:
                        await transport.get(PODS, {})
                finally:
                    os.kill(int((tmp_path / "child").read_text()), 9)

        run(scenario)

    def test_time(self, tmp_path: Path) -> None:
        """A plugin that takes too long is killed, with what it has started."""

        async def scenario() -> None:
            user = script(tmp_path / "login", f"sleep 600 &\necho $! > {tmp_path}/child\nwait")
            config = load_cluster(write_kubeconfig(tmp_path / "config", user))
            assert config.user is not None
            assert config.user.exec is not None
            with pytest.raises(ConfigurationError, match=r"took longer than 0\.5 s"):
                await TokenPlugin(config.user.exec, seconds=0.5).fetch()

        run(scenario)
        child = Path("/proc") / (tmp_path / "child").read_text().strip()
        deadline = time.monotonic() + PATIENCE
        while child.exists() and "\nState:\tZ" not in (child / "status").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_runs(self, tmp_path: Path) -> None:
        """A server that refuses every token does not have the plugin run each time."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                user = script(tmp_path / "login", f'echo x >> {tmp_path}/runs; echo \'{{"status":{{"token":"no"}}}}\'')
                async with connected(kubeconfig_of(server, tmp_path / "config", user)) as transport:
                    for _ in range(20):
                        with pytest.raises(ApiServerError):
                            await transport.get(PODS, {})
            assert 4 == len((tmp_path / "runs").read_text().split())

        run(scenario)

    def test_one_for_all(self, tmp_path: Path) -> None:
        """Requests that wait for a token wait for the same one, and one that gives up takes it from nobody."""

        async def scenario() -> None:
            with ApiServer(initializing=0) as server:
                answer = json.dumps({"status": {"token": server.admin.token}})
                text = f"echo x >> {tmp_path}/runs; until test -e {tmp_path}/go; do sleep 0.01; done; echo '{answer}'"
                user = script(tmp_path / "login", text)
                async with connected(kubeconfig_of(server, tmp_path / "config", user)) as transport:
                    asked = [asyncio.create_task(transport.get(PODS, {})) for _ in range(5)]
                    await until_there(tmp_path / "runs")
                    asked[0].cancel()
                    (tmp_path / "go").touch()
                    outcomes = await asyncio.gather(*asked, return_exceptions=True)
            assert ["CancelledError", *["bytes"] * 4] == [type(each).__name__ for each in outcomes]
            assert ["x"] == (tmp_path / "runs").read_text().split()

        run(scenario)


def test_hiding() -> None:
    """Words stay, secrets go, and a long text is cut."""
    assert "error: no such host api.example.com" == hide_secrets("error:\nno such  host api.example.com\n")
    assert "bad *** and ***" == hide_secrets(f"bad {SECRET} and open sesame", ["open sesame"])
    assert "***..." == hide_secrets("a1" * 1000 + " " + "x " * 1000)[:3] + "..."
    assert 303 == len(hide_secrets("x " * 1000))


@pytest.mark.parametrize("steps", range(12))
def test_plugin_is_closed_while_it_starts(steps: int, tmp_path: Path) -> None:
    """A plugin that is closed at any step of its start is gone soon, with whatever it has started."""

    async def scenario() -> None:
        config = load_cluster(write_kubeconfig(tmp_path / "config", script(tmp_path / "login", "sh $0.child & wait")))
        assert config.user is not None
        assert config.user.exec is not None
        plugin = TokenPlugin(config.user.exec)
        asked = asyncio.create_task(plugin.fetch())
        for _ in range(steps):
            await asyncio.sleep(0)
        await plugin.close()
        asked.cancel()
        await asyncio.wait([asked])
        while processes_of(tmp_path):  # noqa: ASYNC110 - the system ends them
            await asyncio.sleep(0.01)

    (tmp_path / "login.child").write_text("sleep 600; true")
    run(scenario)


def test_transport_is_closed_while_a_plugin_runs(tmp_path: Path) -> None:
    """Closing ends a plugin that runs."""

    async def scenario() -> None:
        user = script(tmp_path / "login", f"touch {tmp_path}/runs; sleep 600")
        transport = LightkubeTransport(load_cluster(write_kubeconfig(tmp_path / "config", user)))
        asked = asyncio.create_task(transport.get(PODS, {}))
        await until_there(tmp_path / "runs")
        await transport.close()
        await asyncio.wait([asked])

    run(scenario)
