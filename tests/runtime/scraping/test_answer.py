"""From a response to a page."""

from __future__ import annotations

import gzip

import pytest

from inferencepool.runtime.scraping._answer import Answer, ScrapeError, inflated, page_of
from tests.bombs import gzip_bomb

PAGE = b"a 1\n" * 100


def answer(body: bytes = PAGE, status: int = 200, **headers: bytes) -> Answer:
    """A response; underscores in header names stand for hyphens."""
    return Answer(status, {name.replace("_", "-").encode(): value for name, value in headers.items()}, body)


def read(given: Answer, limit: int) -> bytes:
    """The page, with all steps done."""
    return steps_of(given, limit)[0]


def steps_of(given: Answer, limit: int) -> tuple[bytes, int]:
    """The page, and how often something else could be done while it was read."""
    page = page_of(given)
    if page is not None:
        return page, 0
    steps = inflated(given.body, limit)
    for count in range(1000):
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
    raise AssertionError


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
    assert PAGE == read(given, len(PAGE))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (answer(status=404), "it answers 404 Not Found"),
        (answer(status=299), "it answers 299"),
        (answer(status=204), "it answers 204 No Content"),
        (answer(status=307, location=b"/metrics/\xff"), r"307 Temporary Redirect to '/metrics/\\\\xff': redirects are"),
        (answer(content_type=b"Text/HTML; charset=utf-8"), "it answers with HTML, not with a metrics page"),
        (answer(content_type=b"application/vnd.google.protobuf"), "in protobuf, not in text"),
        (
            answer(content_type=b"application/x-protobuf; proto=io.prometheus.client.MetricFamily"),
            "in protobuf, not in text: 'application/x-protobuf; proto=io.prometheus.client.metricfamily'",
        ),
        (answer(b"[]", content_type=b"application/json"), "JSON, .*: that of trtllm-serve is at /prometheus/metrics"),
        (answer(content_encoding=b"br"), "content-encoding 'br' was not asked for"),
        (answer(b"no gzip", content_encoding=b"gzip"), "bad gzip: "),
        (answer(gzip.compress(PAGE)[:-9], content_encoding=b"gzip"), "bad gzip: the stream does not end"),
        (answer(gzip.compress(PAGE) + b"x", content_encoding=b"gzip"), "bad gzip: the stream does not end"),
        (answer(gzip.compress(PAGE + b"\n"), content_encoding=b"gzip"), "longer than 400 bytes when decompressed"),
        (answer(gzip_bomb(200), content_encoding=b"gzip"), "longer than 400 bytes when decompr"),
    ],
)
def test_refused(given: Answer, reason: str) -> None:
    """All else is refused with the reason."""
    with pytest.raises(ScrapeError, match=reason):
        read(given, len(PAGE))


@pytest.mark.parametrize("size", [0, 1, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 8 * 1024 * 1024])
def test_long_pages_are_inflated_in_pieces(size: int) -> None:
    """No more than 256 KiB are inflated before something else may be done, and nothing is lost between two pieces."""
    page, steps = steps_of(answer(gzip.compress(bytes(size)), content_encoding=b"gzip"), size)

    assert bytes(size) == page
    assert size // (256 * 1024) == steps
