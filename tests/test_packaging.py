from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

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


class TestMake:
    """What `make` installs before it runs something, in a clone where nothing is installed yet."""

    @pytest.fixture(name="clone")
    def _clone(self, root: Path, tmp_path: Path) -> Path:
        if shutil.which("make") is None:
            pytest.skip("there is no make on this machine")
        for name in ("Makefile", "pyproject.toml"):
            shutil.copy(root / name, tmp_path)
        (tmp_path / ".venv").mkdir()
        return tmp_path

    @pytest.mark.parametrize(
        ("target", "extra"), [("demo", "demo"), ("explain", "demo"), ("test", "dev"), ("check", "dev")]
    )
    def test_a_target_installs_what_it_needs(self, clone: Path, target: str, extra: str) -> None:
        """The demonstrations do not wait for what only development needs, and what is installed is said first."""
        commands = _make(clone, target)

        assert [f"'.[{extra}]'"] == re.findall(r"'\.\[\w+\]'", commands)
        assert commands.startswith('echo "Installing ')

    def test_what_development_needs_is_enough_for_the_demo(self, clone: Path) -> None:
        """Where everything is installed nothing is installed for the demonstrations."""
        (clone / ".venv" / ".ready").touch()

        assert "pip install" not in _make(clone, "demo")

    def test_a_change_of_the_dependencies_installs_them_anew(self, clone: Path) -> None:
        """What was installed before pyproject.toml was changed counts for nothing."""
        for name in (".ready", ".demo"):
            (clone / ".venv" / name).touch()
            os.utime(clone / ".venv" / name, (0, 0))

        assert "'.[demo]'" in _make(clone, "demo")


def _make(folder: Path, target: str) -> str:
    """Tell what `make` would do, also where a make with several jobs started the tests."""
    completed = subprocess.run(
        [str(shutil.which("make")), "--dry-run", target],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert (0, "") == (completed.returncode, completed.stderr)
    return completed.stdout


def test_documentation_installs_from_a_clone(root: Path) -> None:
    """As long as the package is not on PyPI, no page tells to install it from there."""
    pages = [root / "README.md", *(root / "docs").rglob("*.md")]
    told = [
        f"{page.relative_to(root)}: {line}"
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.search(r"pip install [^`]*\binferencepool\b", line)
    ]

    assert [] == told
