"""
Check the types of what the documentation shows, with pyright and with mypy: ``python -m tests.pages.types``.

The ``python`` blocks of a page become one module, as they are one program. Both are as strict as with a program of the
reader's: a function without annotations is none of their business. `basedpyright` is pyright with its own Node.js, so
that nothing is downloaded when it runs; the rules are pyright's.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.pages.blocks import PAGES, ROOT, blocks_of

__all__ = ["check_pages", "module_of"]

_PYRIGHT: Final = {"typeCheckingMode": "standard", "pythonVersion": "3.11", "extraPaths": [str(ROOT)]}
# What annotations are there must be right; readers annotate what they like.
_MYPY: Final = """[mypy]
python_version = 3.11
strict = true
check_untyped_defs = true
disallow_untyped_defs = false
disallow_incomplete_defs = false
disallow_untyped_calls = false
disable_error_code = var-annotated

[mypy-grpc.*,grpc_health.*]
# They have no types.
ignore_missing_imports = true
"""
_MYPY_ERROR = re.compile(r"(.+?):(\d+): error: (.*)")


def module_of(text: str) -> str:
    """Gather the ``python`` blocks of a page, each line where it stands in the page."""
    lines = [""] * len(text.splitlines())
    for block in blocks_of(text):
        if block.language == "python" and not block.not_run:
            for number, line in enumerate(block.code.splitlines(), block.line - 1):
                lines[number] = line
    return "\n".join(lines) + "\n"


def check_pages(pages: Mapping[str, str]) -> list[str]:
    """Check the programs of *pages*, texts by name, with both; give one line for each error."""
    programs = {
        re.sub(r"[^\w.]", "_", name.replace("/", "__")): (name, module)
        for name, text in pages.items()
        if (module := module_of(text)).strip()
    }
    with tempfile.TemporaryDirectory() as folder:
        for file, (_, module) in programs.items():
            Path(folder, file + ".py").write_text(module, encoding="utf-8")
        found = [*_pyright(folder), *_mypy(folder, [file + ".py" for file in programs])]
    return sorted(f"{programs[Path(file).name.removesuffix('.py')][0]}:{line}: {text}" for file, line, text in found)


def _pyright(folder: str) -> list[tuple[str, int, str]]:
    Path(folder, "pyrightconfig.json").write_text(json.dumps(_PYRIGHT), encoding="utf-8")
    options = ["--project", folder, "--outputjson", "--pythonpath", sys.executable]
    output = _run(folder, "basedpyright", options)
    try:
        found = json.loads(output)["generalDiagnostics"]
    except ValueError:
        raise SystemExit(output) from None
    return [
        (item["file"], item["range"]["start"]["line"] + 1, f"pyright: {item['message']}")
        for item in found
        if item["severity"] == "error"
    ]


def _mypy(folder: str, files: list[str]) -> list[tuple[str, int, str]]:
    """Check each file as a program of its own: their names are no names of modules."""
    Path(folder, "mypy.ini").write_text(_MYPY, encoding="utf-8")
    cache = str(ROOT / ".mypy_cache" / "pages")
    options = ["--config-file", "mypy.ini", "--cache-dir", cache, "--scripts-are-modules", "--no-error-summary"]
    output = _run(folder, "mypy", [*options, *files])
    errors = [found for line in output.splitlines() if (found := _MYPY_ERROR.match(line))]
    if output.strip() and not errors:
        raise SystemExit(output)
    return [(found[1], int(found[2]), f"mypy: {found[3]}") for found in errors]


def _run(folder: str, tool: str, options: list[str]) -> str:
    command = [sys.executable, "-m", tool, *options]
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return completed.stdout + completed.stderr


def main() -> int:
    """Check all pages that show Python; 1 if there is an error."""
    pages = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
    errors = check_pages(pages)
    sys.stdout.write("\n".join(errors) or f"pyright and mypy: no errors in the blocks of {len(pages)} pages")
    sys.stdout.write("\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
