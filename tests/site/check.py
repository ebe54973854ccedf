"""
Look at every page of the built documentation in a browser: ``python -m tests.site.check FOLDER``.

At the width of a telephone, a notebook and a large screen no page may be wider than the window; on the latter two no
block of code and no table may be cut. The console has nothing to say, and links within the site lead somewhere.
Pictures of pages are written to the folder ``--pictures`` names.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import attrs

from tests.site.browser import Browser, browser, find_browser

__all__ = ["WIDTHS", "check_links", "check_site"]

#: CSS pixels across.
WIDTHS: Final = (390, 1300, 1920)
# Below this width blocks may be scrolled sideways, each by itself.
_WIDE = 1000
# What is wider than the window, and what is cut.
_LOOK: Final = """(() => {
  const name = e => e.tagName.toLowerCase() + " " + JSON.stringify(e.textContent.trim().slice(0, 50));
  const root = document.documentElement;
  const found = {overflow: root.scrollWidth - root.clientWidth, cut: [], wide: []};
  for (const e of document.querySelectorAll(".md-content pre > code, .md-content .md-typeset__table"))
    if (e.scrollWidth > e.clientWidth + 1) found.cut.push(name(e) + " by " + (e.scrollWidth - e.clientWidth));
  if (found.overflow > 0)
    for (const e of document.querySelectorAll(".md-content *"))
      if (e.getBoundingClientRect().right > root.clientWidth + 1) { found.wide.push(name(e)); break; }
  return found;
})()"""


@attrs.define
class _Page(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    links: list[str] = attrs.field(factory=list)
    ids: set[str] = attrs.field(factory=set)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.update(filter(None, (found.get("id"), found.get("name") if tag == "a" else None)))
        link = found.get("src" if tag in {"img", "script"} else "href")
        if link and tag in {"a", "img", "link", "script"}:
            self.links.append(link)


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _pages(folder: Path) -> dict[str, _Page]:
    """Read all pages of a site, by their path."""
    found = {}
    for file in sorted(folder.rglob("*.html")):
        page = found["/" + file.relative_to(folder).as_posix().removesuffix("index.html")] = _Page()
        page.feed(file.read_text(encoding="utf-8"))
    return found


def check_links(folder: Path) -> Iterator[str]:
    """Tell the links of a built site that lead nowhere in it."""
    pages = _pages(folder)
    for path, page in pages.items():
        if path == "/404.html":
            continue
        for link in page.links:
            url, fragment = urldefrag(link)
            parts = urlsplit(url)
            if parts.scheme in {"data", "mailto"}:
                continue
            if parts.scheme or parts.netloc:
                if not (parts.scheme in {"http", "https"} and parts.netloc):
                    yield f"{path}: link {link}: no address"
                continue
            target = unquote(urljoin(path, parts.path)) if parts.path else path
            there = pages.get(target)
            if there is None and not (folder / target.lstrip("/")).is_file():
                yield f"{path}: link {link}: there is no such page"
            elif there is not None and fragment and unquote(fragment) not in there.ids:
                yield f"{path}: link {link}: the page has no such place"


async def _look(page: Browser, path: str, url: str, pictures: Path | None) -> list[str]:
    """Look at one page at all widths."""
    await page.resize(WIDTHS[0])
    await page.open(url)
    wrong = []
    for width in WIDTHS:
        await page.resize(width)
        found: Mapping[str, Any] = await page.evaluate(_LOOK)
        if found["overflow"] > 0:
            wrong.append(f"{path}: at {width} px it is {found['overflow']} px too wide: {found['wide']}")
        if width > _WIDE:
            wrong += [f"{path}: at {width} px cut: {block}" for block in found["cut"]]
        if pictures is not None:
            file = pictures / f"{path.strip('/').replace('/', '-') or 'home'}-{width}.png"
            file.write_bytes(base64.b64decode(await page.picture()))
    return wrong + [f"{path}: the console: {complaint}" for complaint in page.complaints]


async def check_site(folder: Path, program: str, pictures: Path | None = None) -> list[str]:
    """Tell what is wrong with a built site."""
    wrong = list(check_links(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        async with browser(program) as page:
            for path in _pages(folder):
                wrong += await _look(page, path, f"http://127.0.0.1:{server.server_port}{path}", pictures)
    finally:
        server.shutdown()
        server.server_close()
    return wrong


def main() -> int:
    """Check a site; 1 if anything is wrong with it, or in CI if there is no browser."""
    parser = argparse.ArgumentParser(description="Look at every page of the built documentation in a browser.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path, help="where pictures of all pages go")
    options = parser.parse_args()
    program = find_browser()
    if program is None:
        print("there is no Chromium, so nobody looked at the pages: install one, or name it in CHROMIUM")  # noqa: T201
        wrong = list(check_links(options.folder))
    else:
        wrong = asyncio.run(check_site(options.folder, program, options.pictures))
    for line in wrong:
        print(line)  # noqa: T201
    return 1 if wrong or (program is None and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())
