"""What the pages of the documentation name exists, and readers find what they search for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inferencepool.cli._main import _parser
from tests.pages.blocks import ROOT

TROUBLES = ROOT / "docs" / "how-to" / "troubleshooting.md"


def _text(folder: str) -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / folder).rglob("*.py")))


class TestTroubleshooting:
    """A symptom leads to names of flags, metrics and events; each of them is there."""

    def test_flags(self) -> None:
        """Flags are those of `serve`."""
        (commands,) = [action.choices for action in _parser(["serve"])._actions if isinstance(action.choices, dict)]
        known = {flag for action in commands["serve"]._actions for flag in action.option_strings} | {"--explain"}
        flags = set(re.findall(r"`(--[a-z][a-z0-9-]+)", TROUBLES.read_text(encoding="utf-8")))

        assert len(flags) > 10
        assert flags <= known

    def test_metrics(self) -> None:
        """Metrics are those that are exported."""
        exported = (ROOT / "docs" / "how-to" / "read-the-metrics.md").read_text(encoding="utf-8")
        metrics = set(re.findall(r"`((?:llm_d|inferencepool)_[a-z_]+)`", TROUBLES.read_text(encoding="utf-8")))

        assert len(metrics) > 5
        assert [metric for metric in sorted(metrics) if f"`{metric}`" not in exported] == []

    @pytest.mark.parametrize(
        "words",
        [
            "there are no ready endpoints",
            "pod without endpoint",
            "pods_without_endpoint",
            "pool not found",
            "cluster not followed",
            "standing by",
            "endpoint ejected",
            "metrics stale",
            "not considered",
            "no connection: ",
            "holds no metrics of engine",
        ],
    )
    def test_words(self, words: str) -> None:
        """What the log, pages and explanations say is what the page says that they say."""
        assert words in TROUBLES.read_text(encoding="utf-8")
        assert words in _text("inferencepool")


@pytest.mark.parametrize(
    ("word", "page"),
    [
        ("docker", "questions.md"),
        ("fastapi", "questions.md"),
        ("vllm", "how-to/scrape-model-servers.md"),
        ("retr", "how-to/embed-in-a-gateway.md"),
        ("503", "how-to/troubleshooting.md"),
        ("istio", "how-to/troubleshooting.md"),
    ],
)
def test_what_readers_search_for_is_on_a_page(word: str, page: str) -> None:
    """The search finds words of pages, headings first."""
    assert word in (Path(ROOT, "docs", page)).read_text(encoding="utf-8").lower()
