"""How ``serve`` picks is chosen by its flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferencepool.cli import _serve as serve
from inferencepool.cli._main import _parser
from inferencepool.cli._serve_assembly import assemble
from inferencepool.model import InferenceRequest
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import PrefixCacheScorer


def picker_of(folder: Path, *flags: str) -> EndpointPicker:
    """Make the picker that ``serve`` makes with *flags*, for two endpoints."""
    file = folder / "endpoints.yaml"
    entries = ", ".join(f'{{"name": "{name}", "address": "10.0.0.{name}", "port": 8000}}' for name in "12")
    file.write_text(f'{{"endpoints": [{entries}]}}', encoding="utf-8")
    arguments = _parser().parse_args(["serve", "--endpoints-file", str(file), "--metrics-port", "off", *flags])
    serve._check(arguments)
    return assemble(arguments, serve._options(arguments), serve._scraping(arguments))._processor.picker


@pytest.mark.parametrize(("flags", "spread"), [((), True), (("--reserve",), True), (("--reserve=false",), False)])
def test_whether_picks_count_at_once(tmp_path: Path, flags: tuple[str, ...], *, spread: bool) -> None:
    """Without reservation one prompt stays where it is cached, however many requests have it; otherwise they spread."""
    picker = picker_of(tmp_path, "--seed=0", *flags)
    results = [picker.pick(InferenceRequest(prompt=b"x" * 4096)) for _ in range(20)]

    assert spread == (len({result.destination for result in results}) > 1)


@pytest.mark.parametrize(("flags", "tokens"), [((), 16), (("--prefix-compatibility",), 64)])
def test_how_cached_prompts_are_known(tmp_path: Path, flags: tuple[str, ...], tokens: int) -> None:
    """In the reference's blocks where that is wanted, else in those of engines."""
    profile = picker_of(tmp_path, *flags).profile
    (scorer,) = (each.scorer for each in profile.scorers if isinstance(each.scorer, PrefixCacheScorer))

    assert tokens == scorer.producer.tokens_per_block
