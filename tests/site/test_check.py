"""What the check of the built documentation sees."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.site.browser import find_browser
from tests.site.check import check_links, check_site

WIDE = "<pre><code>" + "x" * 400 + "</code></pre>"


def _site(folder: Path, body: str) -> Path:
    (folder / "index.html").write_text(
        '<!doctype html><meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f'<style>pre > code {{display: block; overflow: auto}}</style><div class="md-content">{body}</div>',
        encoding="utf-8",
    )
    (folder / "other").mkdir()
    (folder / "other" / "index.html").write_text(
        '<link rel="icon" href="data:,"><h1 id="there">Other</h1>', encoding="utf-8"
    )
    return folder


@pytest.mark.parametrize(
    ("link", "complaint"),
    [
        ("other/#there", ""),
        ("other/", ""),
        ("https://example.com/x", ""),
        ("gone/", "there is no such page"),
        ("other/#gone", "the page has no such place"),
        ("https:///x", "no address"),
    ],
)
def test_links_lead_somewhere(tmp_path: Path, link: str, complaint: str) -> None:
    """A link to a page that is not there, or to a place that the page lacks, is told with the page it is on."""
    told = list(check_links(_site(tmp_path, f'<a href="{link}">it</a>')))

    assert ([f"/: link {link}: {complaint}"] if complaint else []) == told


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<p>All is well.</p>", ""),
        (WIDE, r"/: at \d+ px cut: code"),
        ('<div style="width: 1500px">wide</div>', r"/: at \d+ px it is"),
        ("<script>throw new Error('broken')</script>", "/: the console: "),
        ('<img src="gone.png">', "/: the console: "),
    ],
)
def test_what_is_seen_is_told(tmp_path: Path, body: str, complaint: str) -> None:
    """A page that overflows, a block that is cut and a complaint of the console are told by page and width."""
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium")

    told = asyncio.run(check_site(_site(tmp_path, body), program))

    assert bool(complaint) == bool(told), told
    assert all(re.match(complaint, line) for line in told if ": link " not in line), told
