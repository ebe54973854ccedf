"""
Run what the documentation shows, page by page and from top to bottom, in the folder of the repository.

- ``python`` blocks of a page are one program. Each ``bash`` block is pasted to a shell of its own.
- A ``text`` block that follows one at once is what it prints, both streams of a shell; ``...`` stands for anything.
- A page runs with nothing installed but what its own ``pip install`` lines name. These are not run.
- A block below ``<!-- not run: REASON -->`` is only to be read.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from tests.pages.blocks import PAGES, ROOT, Block, absent_modules, blocks_of, needs_of
from tests.pages.run import is_as_shown
from tests.patience import PATIENCE

# Installing takes the network, and what it brings is there.
_INSTALLS = re.compile(r"^(python3? -m )?pip install .*\n?", re.MULTILINE)
_PROMPT = re.compile(r"^(>>>|\$) ", re.MULTILINE)


def _run(name: str, text: str) -> str:
    """Run a page; give what is wrong with it."""
    blocks = [attrs.evolve(block, code=_INSTALLS.sub("", block.code)) for block in blocks_of(text) if _is_run(block)]
    environment = os.environ | {
        "ABSENT_MODULES": " ".join(absent_modules(needs_of(text))),
        "COLUMNS": "120",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT / 'tests' / 'pages' / 'environment'}:{ROOT}",
        "PYTHONUTF8": "1",
        "PYTHONWARNINGS": "error",
    }
    completed = subprocess.run(
        [sys.executable, "-m", "tests.pages.run", name],
        input=json.dumps([attrs.asdict(block) for block in blocks]),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * PATIENCE,
    )
    return "" if completed.returncode == 0 else completed.stderr


def _is_run(block: Block) -> bool:
    return block.language in {"python", "bash"} and not block.not_run


@pytest.mark.parametrize("page", PAGES)
def test_page_does_what_it_shows(page: str) -> None:
    """Every block of a page runs with what the page has installed, and prints what the page says it prints."""
    assert "" == _run(page, (ROOT / page).read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES)
def test_blocks_can_be_pasted(page: str) -> None:
    """No block holds a prompt."""
    blocks = blocks_of((ROOT / page).read_text(encoding="utf-8"))

    assert [] == [f"{page}:{block.line}" for block in blocks if _PROMPT.search(block.code)]
    assert [] == [f"{page}:{block.line}" for block in blocks if not block.language or block.language == "console"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nprint(1)\n```\n\n```text\n1\n```\n", ""),
        ("```python\nprint(1)\n```\n", "page.md:2: the block prints something else"),
        ("\n```python\nprint(1)\n```\n\n```text\n2\n```\n", "page.md:3: the block prints something else"),
        ("```python\nx = 1\n```\nand\n```python\n\nx / 0\n```\n", 'File "page.md", line 7'),
        ("```python\nimport yaml\n```\n", "No module named 'yaml'"),
        ('`pip install ".[yaml]"`\n```python\nimport yaml\n```\n', ""),
        ("`pip install . h2`\n```python\nimport h2\nimport hpack\n```\n", ""),
        ("```bash\npython -c 'import pytest'\n```\n", "No module named 'pytest'"),
        ("```bash\npip install .\nfalse\necho $?\n```\n\n```text\n1\n```\n", ""),
        ("```bash\necho wrong >&2\n```\n", "page.md:2: the block prints something else"),
        ("<!-- not run: it cannot -->\n```python\n1 / 0\n```\n", ""),
    ],
)
def test_what_is_wrong_with_a_page_is_told(text: str, complaint: str) -> None:
    """A difference, an error and a module that the page does not bring are told with page and line."""
    told = _run("page.md", text)

    assert complaint in told
    assert bool(complaint) == bool(told)


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
    assert expected == is_as_shown(shown, printed)
