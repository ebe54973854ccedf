"""Ctrl-C at any moment of a command, its imports included."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there is no SIGINT to send on this system")

# Runs the command as the installed script does, and does something when a module is first looked for.
PROGRAM = """
import importlib.abc, os, signal, sys

class Hook(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            {action}

sys.orig_argv = ["python", "-m", "inferencepool"]
sys.meta_path.insert(0, Hook())
from inferencepool.cli import main
sys.exit(main(["--version"]))
"""


def started(name: str, action: str) -> subprocess.Popen[str]:
    """Start the program."""
    program = PROGRAM.format(name=name, action=action)
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    "name", ["attrs", "inferencepool.model", "inferencepool.scheduling", "inferencepool.cli._serve"]
)
def test_ctrl_c_during_an_import(name: str) -> None:
    """Whatever is being imported when SIGINT comes, the command ends with status 130 and says nothing."""
    with started(name, "os.kill(os.getpid(), signal.SIGINT)") as process:
        _, errors = process.communicate(timeout=PATIENCE)

    assert (130, "") == (process.returncode, errors)


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_ctrl_c_at_many_moments(delay: float) -> None:
    """From the first import on there is never a traceback: the command ends by the signal, or had ended before."""
    with started("inferencepool.errors", "os.write(1, b'begun\\n')") as process:
        assert process.stdout is not None
        assert "begun\n" == process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=PATIENCE)

    assert "" == errors
    assert process.returncode in {0, 130}
