"""What a simulated model server is like."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, Self

import attrs

from inferencepool.errors import ConfigurationError

__all__ = ["SimulatorOptions"]

_MOST = 2**31 - 1
_Validator = Callable[[Any, Any, Any], None]


def _refuse(value: object, field: str, allowed: str) -> ConfigurationError:
    return ConfigurationError(f"model server simulator: {field}: {value!r} is not {allowed}")


def _whole_number(least: int) -> _Validator:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if type(value) is not int or not least <= value <= _MOST:
            raise _refuse(value, attribute.name, f"a whole number from {least} to {_MOST}")

    return check


def _check_speed(_: Any, attribute: Any, value: Any) -> None:
    if type(value) not in (int, float) or not (isfinite(value) and value > 0):
        raise _refuse(value, attribute.name, "a finite number above 0")


def _check_flag(_: Any, attribute: Any, value: Any) -> None:
    if type(value) is not bool:
        raise _refuse(value, attribute.name, "true or false")


def _to_names(value: Any) -> Any:
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else value


def _check_names(_: Any, attribute: Any, value: Any) -> None:
    # A comma would split a name in two on the metrics page.
    if not isinstance(value, tuple) or not all(isinstance(name, str) and name and "," not in name for name in value):
        raise _refuse(value, attribute.name, "a list of names, none of them empty or with a comma")


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
    max_adapters: int = attrs.field(default=4, validator=_whole_number(1))
    max_running_requests: int = attrs.field(default=16, validator=_whole_number(1))
    max_step_tokens: int = attrs.field(default=2048, validator=_whole_number(1))
    prefill_tokens_per_second: float = attrs.field(default=8_000.0, validator=_check_speed)
    decode_tokens_per_second: float = attrs.field(default=50.0, validator=_check_speed)
    kv_blocks: int = attrs.field(default=2048, validator=_whole_number(1))
    kv_block_size: int = attrs.field(default=16, validator=_whole_number(1))
    keeps_prefixes: bool = attrs.field(default=True, validator=_check_flag)
    typical_output_tokens: int = attrs.field(default=32, validator=_whole_number(1))
    time_scale: float = attrs.field(default=1.0, validator=_check_speed)
    max_body_size: int = attrs.field(default=64 * 1024 * 1024, validator=_whole_number(1))
    seed: int = attrs.field(default=0, validator=_whole_number(0))

    def __attrs_post_init__(self) -> None:
        if not self.models:
            raise _refuse(self.models, "models", "a list of one or more names")
        names = (*self.models, *self.adapters)
        if len(set(names)) < len(names):
            raise _refuse(names, "models and adapters", "a list of different names")

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
