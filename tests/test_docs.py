"""
Run what the documentation shows, page by page and from top to bottom, in the folder of the repository.

- ``python`` blocks of a page share their variables; blocks that begin with ``>>>`` are compared as doctests.
- In ``console`` blocks every ``$ inferencepool ...`` line runs, and ``$ echo $?`` gives its exit status. What it prints
  must be what follows, up to the next ``$``; ``...`` stands for anything. Lines with other commands only show.
- ``<!--- skip: next -->`` leaves out the block below it.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if page.exists()]
ENVIRONMENT = os.environ | {"COLUMNS": "120", "PYTHONUTF8": "1"}


def _run(command: str, status: int) -> tuple[str, int] | None:
    """Give what *command* prints and its exit status; None for a command that only shows."""
    words = shlex.split(command)
    if words == ["echo", "$?"]:
        return f"{status}\n", 0
    if not words or words[0] != "inferencepool":
        return None
    completed = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return completed.stdout, completed.returncode


def _is_as_shown(shown: str, printed: str) -> bool:
    """Compare without looking at spaces at the ends of lines; ``...`` in *shown* stands for any text."""
    trimmed = re.sub(r"[ \t]+$", "", printed, flags=re.MULTILINE).rstrip()
    pattern = ".*".join(re.escape(part) for part in shown.rstrip().split("..."))
    return re.fullmatch(pattern, trimmed, re.DOTALL) is not None


def evaluate_console(example: Example) -> str | None:
    """Run the commands of a ``console`` block; give the first difference to what it shows."""
    status = 0
    for session in re.split(r"^\$ ", str(example.parsed), flags=re.MULTILINE)[1:]:
        command, _, shown = session.replace("\\\n", "").partition("\n")
        result = _run(command, status)
        if result is None:
            continue
        printed, status = result
        if not _is_as_shown(shown, printed):
            return f"$ {command}\n--- shown\n{shown}\n--- printed\n{printed}"
    return None


PARSERS = (
    PythonCodeBlockParser(doctest_optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE),
    CodeBlockParser("console", evaluate_console),
    SkipParser(),
)


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_page_does_what_it_shows(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every code block of a page runs, and prints what the page says it prints."""
    monkeypatch.chdir(ROOT)

    for example in Document.parse(str(page), *PARSERS).examples():
        example.evaluate()


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        ("one\ntwo\n", "one  \ntwo\n\n", True),
        ("one ... three\n", "one two\ntwo three\n", True),
        ("one\n", "one\ntwo\n", False),
        ("", "", True),
    ],
)
def test_output_is_compared_as_a_whole(shown: str, printed: str, *, expected: bool) -> None:
    """All that is printed must be shown, save for spaces at line ends and what an ellipsis stands for."""
    assert expected == _is_as_shown(shown, printed)
