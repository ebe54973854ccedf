"""What options are refused, and the options for tests that are not about load."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.lab.model_servers import SimulatorOptions


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", ()),
        ("models", "m"),
        ("models", [""]),
        ("models", ["a,b"]),
        ("models", 3),
        ("adapters", [None]),
        ("adapters", ["simulated"]),
        ("max_adapters", 0),
        ("max_running_requests", 0),
        ("max_running_requests", True),
        ("max_step_tokens", 1.5),
        ("prefill_tokens_per_second", 0),
        ("prefill_tokens_per_second", True),
        ("decode_tokens_per_second", -1.0),
        ("decode_tokens_per_second", nan),
        ("kv_blocks", 0),
        ("kv_blocks", 2**31),
        ("kv_block_size", "16"),
        ("typical_output_tokens", 0),
        ("time_scale", inf),
        ("max_body_size", 0),
        ("seed", -1),
    ],
)
def test_refuses(field: str, value: object) -> None:
    """The message names the field and what is allowed."""
    wrong: dict[str, Any] = {field: value}

    with pytest.raises(ConfigurationError, match=rf"^model server simulator: .*{field}: .* is not a "):
        SimulatorOptions(**wrong)


def test_immediate() -> None:
    """Options may be set beside the ones that make it fast."""
    options = SimulatorOptions.immediate(models=["m"], kv_block_size=32)

    assert (("m",), 32) == (options.models, options.kv_block_size)
    assert 2**31 == options.max_model_tokens
