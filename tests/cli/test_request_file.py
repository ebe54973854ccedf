from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inferencepool.cli._request_file import read_request_file
from inferencepool.model import InferenceRequest


def _read(folder: Path, body: dict[str, Any]) -> InferenceRequest:
    file = folder / "request.json"
    file.write_text(json.dumps(body), encoding="utf-8")
    return read_request_file(str(file))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, ""),
        ({"prompt": None, "messages": None}, ""),
        ({"prompt": "Grüße"}, "Grüße"),
        ({"prompt": ["one"]}, "one"),
        ({"messages": [{"role": "system", "content": "one"}, {"role": "user", "content": "two"}]}, "one\ntwo"),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": []}]}, ""),
        ({"messages": [{"content": [{"type": "text", "text": "one"}, {"type": "image_url"}]}]}, "one"),
    ],
)
def test_prompt(body: dict[str, Any], expected: str, tmp_path: Path) -> None:
    """The prompt is the text of the prompts or messages, as UTF-8."""
    assert expected.encode() == _read(tmp_path, body).prompt


def test_several_prompts(tmp_path: Path) -> None:
    """Each is a prompt of its own."""
    request = _read(tmp_path, {"prompt": ["one", "two", "three"]})

    assert (b"one", [b"two", b"three"]) == (request.prompt, list(request.more_prompts))
    assert b"" == _read(tmp_path, {"prompt": []}).prompt


def test_headers_and_id(tmp_path: Path) -> None:
    """Names of headers become lower case; the id is the field, or else the header of requests' ids."""
    request = _read(tmp_path, {"model": "llama-3", "headers": {"X-Request-Id": "7", "Accept": "*/*"}})

    assert "llama-3" == request.model
    assert {"x-request-id": "7", "accept": "*/*"} == request.headers
    assert "7" == request.id
    assert "8" == _read(tmp_path, {"id": "8", "headers": {"x-request-id": "7"}}).id
