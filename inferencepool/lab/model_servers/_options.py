"""What a simulated model server is like."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import attrs

from inferencepool._checks import checked_flag, checked_number, checked_whole_number, refusal

__all__ = ["SimulatorOptions"]

_OWNER = "model server simulator"
_at_least_1 = checked_whole_number(_OWNER, 1)
_speed = checked_number(_OWNER, above=True)


def _to_names(value: Any) -> Any:
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _check_names(_: Any, attribute: Any, value: Any) -> None:
    # A comma would split a name in two on the metrics page.
    if not isinstance(value, tuple) or not all(isinstance(name, str) and name and "," not in name for name in value):
        raise refusal(_OWNER, attribute.name, value, "is not a list of names, none of them empty or with a comma")


@attrs.frozen(kw_only=True)
class SimulatorOptions:
    """
    How fast a simulated model server is and how much it holds.

    One step of the server takes ``1 / decode_tokens_per_second + tokens / prefill_tokens_per_second`` seconds, where
    *tokens* are all the tokens of the step: one for each answer that is being written, and parts of prompts.

    Attributes:
        models: Names that requests may ask for; the first one labels the metrics. At least one.
        adapters: Names of LoRA adapters, which may be asked for as models.
        max_adapters: How many adapters fit into one step, ``max_lora`` on the metrics page. At least 1.
        max_running_requests: The batch limit: how many requests the server works on at a time. At least 1.
        max_step_tokens: How many tokens one step takes in; longer prompts take several steps. At least 1.
        prefill_tokens_per_second: Speed at which tokens are computed when there are many. Above 0.
        decode_tokens_per_second: Speed of a single answer when there is nothing else to do. Above 0.
        kv_blocks: Blocks in the KV cache. At least 1.
        kv_block_size: Tokens in one block. At least 1.
        keeps_prefixes: Whether prompts are remembered, as many blocks of them as the KV cache has, so that others that
            begin with them need less computing.
        typical_output_tokens: Length of an answer whose request sets no limit: between half of this and one and a
            half of this. At least 1.
        time_scale: Simulated seconds that pass in a real second; 10 makes everything ten times faster. Above 0.
        max_body_size: Bytes in the body of a request; a longer one is answered with 413. At least 1.
        seed: Of the lengths of the answers.

    Raises:
        ConfigurationError: A field holds a value that is not allowed; the message names it.
    """

    models: tuple[str, ...] = attrs.field(default=("simulated",), converter=_to_names, validator=_check_names)
    adapters: tuple[str, ...] = attrs.field(default=(), converter=_to_names, validator=_check_names)
    max_adapters: int = attrs.field(default=4, validator=_at_least_1)
    max_running_requests: int = attrs.field(default=16, validator=_at_least_1)
    max_step_tokens: int = attrs.field(default=2048, validator=_at_least_1)
    prefill_tokens_per_second: float = attrs.field(default=8_000.0, validator=_speed)
    decode_tokens_per_second: float = attrs.field(default=50.0, validator=_speed)
    kv_blocks: int = attrs.field(default=2048, validator=_at_least_1)
    kv_block_size: int = attrs.field(default=16, validator=_at_least_1)
    keeps_prefixes: bool = attrs.field(default=True, validator=checked_flag(_OWNER))
    typical_output_tokens: int = attrs.field(default=32, validator=_at_least_1)
    time_scale: float = attrs.field(default=1.0, validator=_speed)
    max_body_size: int = attrs.field(default=64 * 1024 * 1024, validator=_at_least_1)
    seed: int = attrs.field(default=0, validator=checked_whole_number(_OWNER, 0))

    def __attrs_post_init__(self) -> None:
        if not self.models:
            raise refusal(_OWNER, "models", self.models, "is not a list of one or more names")
        names = (*self.models, *self.adapters)
        if len(set(names)) < len(names):
            raise refusal(_OWNER, "models and adapters", names, "is not a list of different names")

    @classmethod
    def immediate(cls, **options: Any) -> Self:
        """
        Make options of a server that answers at once and takes prompts of any size.

        For tests that are not about load: a step takes about a microsecond, and the KV cache is never full.

        Args:
            options: Fields to set otherwise.

        Raises:
            ConfigurationError: As for the class.
        """
        defaults: dict[str, Any] = {
            "max_running_requests": 4096,
            "max_step_tokens": 2**30,
            "prefill_tokens_per_second": 1e15,
            "decode_tokens_per_second": 1e6,
            "kv_blocks": 2**26,
        }
        return cls(**(defaults | options))

    @property
    def max_model_tokens(self) -> int:
        """How many tokens a request may have, prompt and answer together: what the KV cache holds."""
        return self.kv_blocks * self.kv_block_size
