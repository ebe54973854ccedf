"""Who reads bodies is chosen by ``serve --parser``."""

from __future__ import annotations

from pathlib import Path

from inferencepool.cli import _serve as serve
from inferencepool.cli._main import _parser
from inferencepool.cli._serve_assembly import assemble


def test_parsers_are_used_in_the_order_given(tmp_path: Path) -> None:
    """Those of the flag and no others; without it, those of the reference."""
    file = tmp_path / "endpoints.yaml"
    file.write_text('{"endpoints": [{"name": "a", "address": "10.0.0.1", "port": 8000}]}', encoding="utf-8")
    for flags, expected in (
        (["--parser", "sglanghttp-parser", "--parser", "vllmgrpc-parser"], ["sglanghttp-parser", "vllmgrpc-parser"]),
        ([], ["openai-parser", "anthropic-parser", "vllmhttp-parser", "passthrough-parser"]),
    ):
        arguments = _parser(["serve"]).parse_args(
            ["serve", "--endpoints-file", str(file), "--metrics-port", "off", *flags]
        )
        serve._check(arguments)
        server = assemble(arguments, serve._options(arguments), serve._scraping(arguments))

        assert expected == [parser.name for parser in server._processor.parsers.parsers]
