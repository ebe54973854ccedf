"""Ctrl-C at any moment of a command, its imports included; and in programs that are not the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no SIGINT to send on this system")

# Python runs it before anything else. Does something when a module is first looked for.
HOOK = """
import importlib.abc, os, signal, sys

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            {action}

sys.meta_path.insert(0, Hook())
"""

# A program that uses the library, and tells whether Ctrl-C raises KeyboardInterrupt in it, as it did before.
FOREIGN = """
import signal, inferencepool
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""

AS_MODULE = ("-m", "inferencepool")


def started(
    folder: Path,
    name: str,
    action: str,
    command: Sequence[str] = (sys.executable, *AS_MODULE),
    arguments: Sequence[str] = ("--version",),
) -> subprocess.Popen[str]:
    """Start the command with the hook."""
    (folder / "sitecustomize.py").write_text(HOOK.format(name=name, action=action), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("attrs", "pick"),
        ("inferencepool.model", "pick"),
        ("inferencepool.registry", "serve"),
        ("inferencepool.cli._main", "--version"),
        ("inferencepool.cli._serve", "serve"),
    ],
)
def test_ctrl_c_during_an_import(tmp_path: Path, name: str, command: str) -> None:
    """Whatever is being imported when SIGINT comes, the command ends with status 130 and says nothing."""
    interrupt = "os.kill(os.getpid(), signal.SIGINT)"
    with started(tmp_path, name, interrupt, arguments=[command, "--help"]) as process:
        _, errors = process.communicate(timeout=PATIENCE)

    assert (130, "") == (process.returncode, errors)


@pytest.mark.parametrize("way", [("-minferencepool",), ("-X", "utf8", *AS_MODULE), ("-um", "inferencepool"), ()])
def test_ctrl_c_however_it_was_started(tmp_path: Path, way: Sequence[str]) -> None:
    """The flags of Python before the module's name make no difference, nor does the installed script."""
    script = tmp_path / "inferencepool"
    script.write_text("import sys\nfrom inferencepool.cli import main\nsys.exit(main())\n", encoding="utf-8")
    action = "os.kill(os.getpid(), signal.SIGINT)"
    with started(tmp_path, "inferencepool.cli._main", action, (sys.executable, *(way or (str(script),)))) as process:
        _, errors = process.communicate(timeout=PATIENCE)

    assert (130, "") == (process.returncode, errors)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_ctrl_c_at_many_moments(tmp_path: Path, delay: float) -> None:
    """From the first import on there is never a traceback: the command ends by the signal, or had ended before."""
    with started(tmp_path, "inferencepool.cli", "os.write(1, b'begun\\n')") as process:
        assert process.stdout is not None
        assert "begun\n" == process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)

    assert "" == errors
    # While Python itself ends, a signal does what it does to any process.
    assert process.returncode in {0, 130, -signal.SIGINT}


@pytest.mark.parametrize("start", [("train.py",), ("-m", "train"), ("-m", "trainer"), ("-c", FOREIGN)])
@pytest.mark.parametrize("arguments", [(), AS_MODULE, ("inferencepool",)])
def test_other_programs_keep_their_ctrl_c(tmp_path: Path, start: Sequence[str], arguments: Sequence[str]) -> None:
    """A program that imports the library is interrupted as it was, whatever its own arguments are."""
    (tmp_path / "train.py").write_text(FOREIGN, encoding="utf-8")
    package = tmp_path / "trainer"
    package.mkdir()
    # It is imported while Python still looks for the module to run.
    (package / "__init__.py").write_text(FOREIGN, encoding="utf-8")
    (package / "__main__.py").write_text("", encoding="utf-8")
    found = subprocess.run(
        [sys.executable, *start, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert ("True\n", "") == (found.stdout, found.stderr)
