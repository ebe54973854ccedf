"""The code blocks of the documentation's pages, and what each page says that it needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Final

import attrs
from markdown_it import MarkdownIt
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["PAGES", "ROOT", "Block", "absent_modules", "blocks_of", "needs_of"]

ROOT: Final = Path(__file__).resolve().parents[2]
#: Every page, by its path from the root.
PAGES: Final = tuple(
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if page.exists()
)

# Before a block that is not run: why.
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->", re.DOTALL)
# What is installed for a page, in a clone: `pip install ".[epp,yaml]" grpcio`.
_INSTALL = re.compile(r'pip install ("?\.(?:\[[\w,]+\])?"?(?: [\w-]+)*)')
_PROJECT = "inferencepool"


@attrs.frozen
class Block:
    """
    A block of code on a page.

    Attributes:
        language: What stands behind the fence.
        code: What is in it.
        line: Line of the page that its first line is, from 1.
        output: The `text` block that follows at once, which is what the block prints; empty if there is none.
        not_run: Why it is only to be read; empty if it is run.
    """

    language: str
    code: str
    line: int
    output: str = ""
    not_run: str = ""


def blocks_of(text: str) -> tuple[Block, ...]:
    """Gather the blocks of a page."""
    found: list[Block] = []
    not_run, may_print = "", False
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "fence" and token.map is not None:
            if token.info == "text" and may_print:
                found[-1] = attrs.evolve(found[-1], output=token.content)
            else:
                found.append(Block(token.info, token.content, token.map[0] + 2, not_run=not_run))
            may_print = token.info in {"python", "bash"}
            not_run = ""
        elif token.type == "html_block" and (reason := _NOT_RUN.fullmatch(token.content.strip())):
            not_run = reason[1]
        else:
            not_run, may_print = "", False
    return tuple(found)


def needs_of(text: str) -> frozenset[str]:
    """Tell the requirements that a page has its reader install, in the project's own words for it."""
    found: set[str] = set()
    for line in _INSTALL.findall(text):
        found.update(word.strip('"').replace(".", _PROJECT, 1) if "." in word else word for word in line.split())
    return frozenset(found)


def absent_modules(needs: AbstractSet[str]) -> frozenset[str]:
    """Tell the modules at top level that are installed here and would not be with nothing but *needs*."""
    present: set[tuple[str, str]] = set()
    for need in (_PROJECT, *needs):
        requirement = Requirement(need)
        for extra in ("", *requirement.extras):
            _gather(canonicalize_name(requirement.name), extra, present)
    names = {name for name, _ in present}
    return frozenset(
        module
        for module, owners in packages_distributions().items()
        if not names.intersection(map(canonicalize_name, owners))
    )


def _gather(name: str, extra: str, present: set[tuple[str, str]]) -> None:
    """Put what a distribution, with an extra of its own, needs into *present*."""
    if (name, extra) in present:
        return
    present.add((name, extra))
    for requirement in _requirements(name, extra):
        for other in ("", *requirement.extras):
            _gather(canonicalize_name(requirement.name), other, present)


def _requirements(name: str, extra: str) -> Iterator[Requirement]:
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            yield requirement
