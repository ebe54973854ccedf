"""How picks are made is chosen by flags of ``serve``."""

from __future__ import annotations

from pathlib import Path

import pytest

from inferencepool.cli import _serve as serve
from inferencepool.cli._main import _parser
from inferencepool.cli._serve_assembly import assemble
from inferencepool.model import InferenceRequest
from inferencepool.prefix import HashChainIndex


@pytest.mark.parametrize(
    ("flags", "reserves", "chained"),
    [([], 1, False), (["--reserve=false"], 0, False), (["--reserve", "true", "--prefix-compatibility"], 1, True)],
)
def test_reservation_and_prefixes(flags: list[str], reserves: int, chained: bool, tmp_path: Path) -> None:
    """A pick counts as pending unless that is off, and prompts are kept as hashes where the reference's way is on."""
    file = tmp_path / "endpoints.yaml"
    file.write_text('{"endpoints": [{"name": "a", "address": "10.0.0.1", "port": 8000}]}', encoding="utf-8")
    arguments = _parser(["serve"]).parse_args(["serve", "--endpoints-file", str(file), "--metrics-port", "off", *flags])
    serve._check(arguments)
    picker = assemble(arguments, serve._options(arguments), serve._scraping(arguments))._processor.picker
    picker.pick(InferenceRequest())

    assert [reserves] == list(picker.reserved().pending)
    (producer,) = picker.profile.parts_with("match")
    assert chained == isinstance(producer.index, HashChainIndex)
