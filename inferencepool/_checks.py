"""What values of options and parameters may be; a broken rule is a `ConfigurationError` that names owner and field."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite
from typing import Any, Final, TypeAlias

import attrs

from inferencepool.errors import ConfigurationError

__all__ = [
    "MOST",
    "Validator",
    "checked_choice",
    "checked_flag",
    "checked_method",
    "checked_number",
    "checked_port",
    "checked_text",
    "checked_whole_number",
    "optional",
    "refusal",
]

Validator: TypeAlias = Callable[[Any, Any, Any], None]
"""What attrs calls: with the instance, the attribute and the value."""

MOST: Final = 2**31 - 1
"""The greatest whole number that an option may be, unless it has a reason for another."""

_MAX_PORT: Final = 65535


def refusal(owner: str, field: str, value: object, rule: str) -> ConfigurationError:
    """Word the error for a *value* that breaks *rule*: ``load-aware-scorer: threshold: 0 is not ...``."""
    return ConfigurationError.of(owner, field, f"{value!r} {rule}", value)


def checked_whole_number(
    owner: str, least: int, most: int | None = MOST, *, noun: str = "whole number", unit: str = ""
) -> Validator:
    """Make a validator that accepts an int from *least* to *most*, None for any number, and no bool."""
    counted = f" of {unit}" if unit else ""
    of = "," if unit else " of"
    rule = f"is not a {noun}{counted}" + (f"{of} {least} or more" if most is None else f" from {least} to {most}")

    def check(_: Any, attribute: Any, value: Any) -> None:
        if type(value) is not int or value < least or (most is not None and value > most):
            raise refusal(owner, attribute.name, value, rule)

    return check


def checked_number(
    owner: str, least: float = 0.0, most: float = inf, *, above: bool = False, unit: str = "", infinite: bool = False
) -> Validator:
    """
    Make a validator that accepts a number, and no bool.

    Args:
        owner: What it is an option of.
        least: The least that is allowed; not itself if *above*.
        most: The most that is allowed.
        above: As said.
        unit: What is counted.
        infinite: Whether infinity is allowed, which stands for never.
    """
    if most < inf:
        bounds = f"above {least:g}, up to {most:g}" if above else f"from {least:g} to {most:g}"
    else:
        bounds = f"above {least:g}" if above else f"of {least:g} or more"
    kind = "a number" if infinite or most < inf else "a finite number"
    never = ", or infinite for never" if infinite else ""
    rule = f"is not {kind} {f'of {unit} ' if unit else ''}{bounds}{never}"

    def check(_: Any, attribute: Any, value: Any) -> None:
        fits = type(value) in {int, float} and least <= value <= most and not (above and value == least)
        if not (fits and (infinite or isfinite(value))):
            raise refusal(owner, attribute.name, value, rule)

    return check


def checked_port(owner: str, least: int = 1) -> Validator:
    """Make a validator that accepts a port; with *least* 0, which stands for any that is free, that as well."""
    return checked_whole_number(owner, least, _MAX_PORT, noun="port")


def checked_choice(owner: str, *allowed: str) -> Validator:
    """Make a validator that accepts the strings *allowed* only."""
    rule = f"is none of {', '.join(map(repr, allowed))}"

    def check(_: Any, attribute: Any, value: Any) -> None:
        if not (isinstance(value, str) and value in allowed):
            raise refusal(owner, attribute.name, value, rule)

    return check


def checked_method(owner: str, method: str, what: str) -> Validator:
    """Make a validator that accepts objects with *method*, and no classes; *what* names such an object."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if isinstance(value, type) or not callable(getattr(value, method, None)):
            raise refusal(owner, attribute.name, value, f"is no {what} with a method {method}")

    return check


def checked_text(owner: str) -> Validator:
    """Make a validator that accepts a string that is not empty."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if not (isinstance(value, str) and value):
            raise refusal(owner, attribute.name, value, "is not a string of one or more characters")

    return check


def checked_flag(owner: str) -> Validator:
    """Make a validator that accepts True and False only."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if not isinstance(value, bool):
            raise refusal(owner, attribute.name, value, "is neither true nor false")

    return check


def optional(check: Validator) -> Validator:
    """Make a validator that accepts None as well: that of attrs, whose own type fits fewer fields."""
    return attrs.validators.optional(check)
