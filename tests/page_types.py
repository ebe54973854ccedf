"""
Check the types of what the documentation shows, with pyright: ``python -m tests.page_types``.

The ``python`` blocks of a page become one module, as they share their variables when `tests.test_docs` runs them; of
doctests the statements. `basedpyright` is pyright with its own Node.js, so that nothing is downloaded when it runs; the
rules are pyright's.
"""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, SkipParser

from tests.test_docs import PAGES, ROOT

__all__ = ["check_pages", "module_of"]


def module_of(page: Path) -> str:
    """Gather the ``python`` blocks of a page, each line where it stands in the page."""
    lines = [""] * len(page.read_text(encoding="utf-8").splitlines())

    def put(example: Example) -> None:
        code, first = str(example.parsed), example.line
        if code.lstrip().startswith(">>>"):
            for item in doctest.DocTestParser().get_examples(code):
                _put(lines, first + item.lineno, item.source)
        else:
            _put(lines, first, code)

    parsers = (CodeBlockParser("python", put), CodeBlockParser("console", lambda _: None), SkipParser())
    for example in Document.parse(str(page), *parsers).examples():
        example.evaluate()
    return "\n".join(lines) + "\n"


def _put(lines: list[str], first: int, code: str) -> None:
    for number, line in enumerate(code.splitlines(), first):
        lines[number] = line


def check_pages(pages: dict[str, str]) -> list[str]:
    """Check modules by name with pyright; give one line for each error."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in pages.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        settings = {"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
        Path(folder, "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
        command = ["-m", "basedpyright", "--project", folder, "--outputjson", "--pythonpath", sys.executable]
        completed = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    try:
        found = json.loads(completed.stdout)["generalDiagnostics"]
    except ValueError:
        raise SystemExit(completed.stdout + completed.stderr) from None
    return [
        f"{Path(item['file']).name}:{item['range']['start']['line'] + 1}: {item['message']}"
        for item in found
        if item["severity"] == "error"
    ]


def main() -> int:
    """Check all pages that show Python; 1 if there is an error."""
    pages = {
        str(page.relative_to(ROOT)).replace("/", ".").replace("-", "_") + ".py": text
        for page in PAGES
        if (text := module_of(page)).strip()
    }
    errors = check_pages(pages)
    sys.stdout.write("\n".join(errors) or f"pyright: no errors in the blocks of {len(pages)} pages")
    sys.stdout.write("\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
