"""Rules for options; a broken one becomes a `ConfigurationError` that names what it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite
from typing import Any

from inferencepool.errors import ConfigurationError

__all__ = ["MOST", "Validator", "checked_flag", "checked_number", "checked_whole_number", "refusal"]

MOST = 2**31 - 1
"""The greatest whole number that an option may be."""

# What attrs calls: the instance, the attribute and the value.
Validator = Callable[[Any, Any, Any], None]


def refusal(owner: str, field: str, value: object, allowed: str) -> ConfigurationError:
    """Word the error for a *value* that is not *allowed*."""
    return ConfigurationError(f"{owner}: {field}: {value!r} is not {allowed}")


def checked_whole_number(owner: str, least: int, most: int = MOST) -> Validator:
    """Make a validator that accepts an int from *least* to *most*, and no bool."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise refusal(owner, attribute.name, value, f"a whole number from {least} to {most}")

    return check


def checked_number(owner: str, least: float = 0.0, most: float = inf, *, above: bool = False) -> Validator:
    """Make a validator that accepts a finite number, and no bool: from *least* to *most*, or *above* least."""
    bound = f"above {least:g}" if above else f"of {least:g} or more"
    allowed = f"a finite number {bound}" if most == inf else f"a number from {least:g} to {most:g}"

    def check(_: Any, attribute: Any, value: Any) -> None:
        fits = type(value) in (int, float) and isfinite(value) and least <= value <= most
        if not fits or (above and value == least):
            raise refusal(owner, attribute.name, value, allowed)

    return check


def checked_flag(owner: str) -> Validator:
    """Make a validator that accepts True and False only."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if not isinstance(value, bool):
            raise refusal(owner, attribute.name, value, "true or false")

    return check
