from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

from tests.patience import PATIENCE

CORE = {"attr", "attrs", "cachetools", "inferencepool"}
LIST_IMPORTS = "import sys; before = set(sys.modules); import inferencepool; print(*(set(sys.modules) - before))"


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE
    )


def _modules_of_import(root: Path) -> set[str]:
    completed = _run(root, "-c", LIST_IMPORTS)
    assert not completed.stderr

    return {name.partition(".")[0] for name in completed.stdout.split()}


def test_import_is_silent(root: Path) -> None:
    """Importing the package prints nothing and warns of nothing."""
    completed = _run(root, "-W", "error", "-c", "import inferencepool")

    assert (0, "", "") == (completed.returncode, completed.stdout, completed.stderr)


def test_import_needs_the_core_dependencies_only(root: Path) -> None:
    """Importing the package imports nothing but the standard library, attrs and cachetools."""
    assert set() == _modules_of_import(root) - CORE - sys.stdlib_module_names


def test_import_does_without_input_and_output(root: Path) -> None:
    """Importing the package imports no event loop, no sockets, no TLS and no YAML reader."""
    assert set() == _modules_of_import(root) & {"asyncio", "http", "socket", "ssl", "yaml"}


def test_core_dependencies_are_two(root: Path) -> None:
    """Installed without extras the package brings in attrs and cachetools, nothing else."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert ["attrs", "cachetools"] == [requirement.partition(">=")[0] for requirement in project["dependencies"]]


def test_types_are_shipped() -> None:
    """The package tells type checkers that it is typed."""
    assert resources.files("inferencepool").joinpath("py.typed").is_file()


def test_module_runs_as_the_command(root: Path) -> None:
    """`python -m inferencepool` is the command."""
    completed = _run(root, "-m", "inferencepool", "--help")

    assert completed.returncode == 0
    assert "inferencepool" in completed.stdout
