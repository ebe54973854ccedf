"""The little HTML that the pages need. Everything that is not `Markup` is escaped, so nothing a client says is read."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Iterable, Sequence
from html import escape
from typing import Final, TypeAlias

__all__ = ["POLICY", "Cell", "Markup", "document", "facts", "heading", "link", "meter", "note", "table"]


class Markup(str):
    """HTML, as opposed to text."""

    __slots__ = ()


Cell: TypeAlias = Markup | str | float | None
"""What a cell of a table shows; None shows nothing, and a number stands to the right."""

_STYLE: Final = """
:root { color-scheme: light dark }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem auto; max-width: 100rem; padding: 0 1.5rem }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem }
table { border-collapse: collapse } th, td { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top }
th { font-weight: 600 } th, td { border-bottom: 1px solid #8884 }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
td:first-child, th:first-child { white-space: nowrap }
meter { width: 5rem; margin-left: .5rem } p { max-width: 60rem } .scroll { overflow-x: auto }
tr.first td { font-weight: 600 } tr.marked td { background: #e0402030 }
"""

POLICY: Final = (
    "default-src 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)
"""The policy under which a browser shows a page: its one style, and nothing else."""


def document(title: str, *parts: Markup) -> bytes:
    """Make a page of *parts*."""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    body = "\n".join((heading(title, 1), *parts))
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'.encode(
        "utf-8", "backslashreplace"
    )


def heading(text: str, level: int = 2) -> Markup:
    """Make a heading."""
    return Markup(f"<h{level}>{escape(text)}</h{level}>")


def note(*parts: str) -> Markup:
    """Make a paragraph."""
    return Markup(f"<p>{''.join(map(_escape, parts))}</p>")


def link(target: str, text: str) -> Markup:
    """Make a link to another of these pages."""
    return Markup(f'<a href="{escape(target)}">{escape(text)}</a>')


def meter(share: float) -> Markup:
    """Show a share, 0 to 1, as a number and as a bar."""
    return Markup(f'{share:z.3f}<meter value="{min(max(share, 0.0), 1.0):.3f}"></meter>')


def facts(pairs: Iterable[tuple[str, Cell]]) -> Markup:
    """Make a table of names and values; what has no value is left out."""
    rows = (f"<tr><th>{escape(name)}</th><td>{_show(value)}</td></tr>" for name, value in pairs if value is not None)
    return Markup(f'<div class="scroll"><table>{"".join(rows)}</table></div>')


def table(
    head: Sequence[str], rows: Sequence[Sequence[Cell]], *, first: bool = False, marked: Collection[int] = ()
) -> Markup:
    """Make a table; *first* tells whether its first row is set apart, *marked* the indexes of rows to be seen."""
    right = [
        all(isinstance(cell, int | float) or cell is None for cell in column) for column in zip(*rows, strict=True)
    ]
    right = right or [False] * len(head)
    lines = [_row("th", head, right)]
    kinds = ["first" if first and not index else "marked" if index in marked else "" for index in range(len(rows))]
    lines += [_row("td", row, right, kind) for row, kind in zip(rows, kinds, strict=True)]
    return Markup(f'<div class="scroll"><table>{"".join(lines)}</table></div>')


def _row(tag: str, cells: Sequence[Cell], right: Sequence[bool], kind: str = "") -> str:
    shown = (
        f"<{tag}{' class=n' if to_right else ''}>{_show(cell)}</{tag}>"
        for cell, to_right in zip(cells, right, strict=True)
    )
    return f"<tr{f' class={kind}' if kind else ''}>{''.join(shown)}</tr>\n"


def _show(cell: Cell) -> str:
    if isinstance(cell, str):
        return _escape(cell)
    if cell is None:
        return ""
    return str(cell) if isinstance(cell, int) else f"{cell:z.3f}"


def _escape(text: str) -> str:
    return text if isinstance(text, Markup) else escape(text)
