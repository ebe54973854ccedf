"""
Run the blocks of one page: ``python -m tests.pages.run PAGE`` with the blocks as JSON on standard input.

It needs nothing but the standard library, as it runs where only what the page names is installed.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import traceback
from contextlib import redirect_stdout
from typing import Any

__all__ = ["is_as_shown"]

_PATIENCE = 120.0


def is_as_shown(shown: str, printed: str) -> bool:
    """Compare without looking at spaces at the ends of lines; ``...`` in *shown* stands for any text."""
    trimmed = re.sub(r"[ \t]+$", "", printed, flags=re.MULTILINE).rstrip()
    pattern = ".*".join(re.escape(part) for part in shown.rstrip().split("..."))
    return re.fullmatch(pattern, trimmed, re.DOTALL) is not None


def _python(page: str, block: dict[str, Any], variables: dict[str, Any]) -> str:
    """Run a block as a part of the page's program, and give what it prints."""
    code = compile("\n" * (block["line"] - 1) + block["code"], page, "exec", dont_inherit=True)
    with redirect_stdout(io.StringIO()) as printed:
        exec(code, variables)  # noqa: S102 - the page is ours
    return printed.getvalue()


def _bash(block: dict[str, Any]) -> str:
    """Run a block as a shell does that it is pasted to, and give what is seen."""
    completed = subprocess.run(
        ["bash", "-c", block["code"]],  # noqa: S607 - whichever the reader has
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_PATIENCE,
    )
    return completed.stdout


def _run(page: str, blocks: list[dict[str, Any]]) -> str:
    """Run blocks until one does not do what the page says; tell about that one."""
    variables: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks:
        where = f"{page}:{block['line']}"
        try:
            printed = _python(page, block, variables) if block["language"] == "python" else _bash(block)
        except BaseException:  # noqa: BLE001 - whatever it is, it is told
            return f"{where}: the block failed\n{traceback.format_exc()}"
        if not is_as_shown(block["output"], printed):
            return f"{where}: the block prints something else\n--- shown\n{block['output']}--- printed\n{printed}"
    return ""


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1], json.load(sys.stdin)) or None)
