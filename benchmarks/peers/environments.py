"""A virtual environment for each peer: their requirements do not agree with each other."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

__all__ = ["NotInstalledError", "make_environment"]

_UNREACHED = "it is no package of PyPI, and this machine does not reach its repository"


class NotInstalledError(Exception):
    """Raised when a peer cannot be installed here; tells why."""


def make_environment(folder: Path, requirements: Path) -> str:
    """
    Make the environment in *folder*, unless it is there and up to date.

    Returns:
        The path of its interpreter.

    Raises:
        NotInstalledError: It cannot be made, or something in it cannot be installed.
    """
    state = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    python, ready = folder / "bin" / "python", folder / "ready"
    if not (ready.exists() and ready.read_text() == state):
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--no-input", "--requirement", str(requirements))
        ready.write_text(state)
    return str(python)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        if any(line.startswith("fatal:") for line in lines):
            # Git's word, where pip asked git.
            raise NotInstalledError(_UNREACHED)
        errors = [line for line in lines if line.startswith("ERROR:")]
        raise NotInstalledError((errors[-1:] or lines[-1:] or ["no reason given"])[0])
