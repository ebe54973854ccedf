"""From a response to a page."""

from __future__ import annotations

import gzip

import pytest

from inferencepool.runtime.scraping._answer import Answer, ScrapeError, page_of

PAGE = b"a 1\n" * 100


def answer(body: bytes = PAGE, status: int = 200, **headers: bytes) -> Answer:
    """A response; underscores in header names stand for hyphens."""
    return Answer(status, {name.replace("_", "-").encode(): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    "given",
    [
        answer(),
        answer(content_type=b"text/plain; version=0.0.4", content_encoding=b"identity"),
        answer(gzip.compress(PAGE), content_encoding=b" GZIP"),
        answer(gzip.compress(PAGE), content_encoding=b"x-gzip", content_type=b"application/openmetrics-text"),
    ],
)
def test_page(given: Answer) -> None:
    """A page is given as it was before it was compressed."""
    assert PAGE == page_of(given, len(PAGE))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (answer(status=404), "it answers 404 Not Found"),
        (answer(status=299), "it answers 299"),
        (answer(status=204), "it answers 204 No Content"),
        (answer(status=307, location=b"/metrics/\xff"), r"307 Temporary Redirect to '/metrics/\\\\xff': redirects are"),
        (answer(content_type=b"Text/HTML; charset=utf-8"), "it answers with HTML, not with a metrics page"),
        (answer(content_type=b"application/vnd.google.protobuf"), "in protobuf, not in text"),
        (answer(content_encoding=b"br"), "content-encoding 'br' was not asked for"),
        (answer(b"no gzip", content_encoding=b"gzip"), "bad gzip: "),
        (answer(gzip.compress(PAGE)[:-9], content_encoding=b"gzip"), "bad gzip: the stream does not end"),
        (answer(gzip.compress(PAGE) + b"x", content_encoding=b"gzip"), "bad gzip: the stream does not end"),
        (answer(gzip.compress(PAGE + b"\n"), content_encoding=b"gzip"), "longer than 400 bytes when decompressed"),
        (answer(gzip.compress(bytes(200_000_000)), content_encoding=b"gzip"), "longer than 400 bytes when decompr"),
    ],
)
def test_refused(given: Answer, reason: str) -> None:
    """All else is refused with the reason."""
    with pytest.raises(ScrapeError, match=reason):
        page_of(given, len(PAGE))
