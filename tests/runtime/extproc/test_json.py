"""The fastest reader of JSON that is installed."""

from __future__ import annotations

import sys

import msgspec
import orjson
import pytest

from inferencepool.adapters.bodies import loads_json
from inferencepool.runtime.extproc._json import fastest_loads


def test_orjson_comes_first() -> None:
    """Where orjson is installed, it reads."""
    assert fastest_loads() is orjson.loads


def test_msgspec_comes_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without orjson msgspec reads, and refuses with an error of values."""
    monkeypatch.setitem(sys.modules, "orjson", None)
    loads = fastest_loads()

    assert isinstance(loads.__self__, msgspec.json.Decoder)  # type: ignore[attr-defined]  # it is a bound method
    assert loads(b'{"a": [1]}') == {"a": [1]}
    with pytest.raises(ValueError, match="malformed"):
        loads(b"{]")


def test_the_standard_library_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without both, the standard library reads."""
    monkeypatch.setitem(sys.modules, "orjson", None)
    monkeypatch.setitem(sys.modules, "msgspec", None)

    assert fastest_loads() is loads_json
