"""Rules for the parameters of strategies; a broken one becomes a `ConfigurationError` that names the strategy."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isfinite
from typing import Any

from inferencepool.errors import ConfigurationError

__all__ = [
    "checked_choice",
    "checked_flag",
    "checked_method",
    "checked_number",
    "checked_text",
    "checked_whole_number",
    "refusal",
]

# What attrs calls: the instance, the attribute and the value.
_Validator = Callable[[Any, Any, Any], None]


def refusal(plugin: str, parameter: str, value: object, rule: str) -> ConfigurationError:
    """Word the error for a *value* that breaks *rule*: ``load-aware-scorer: threshold: 0 is not ...``."""
    return ConfigurationError(f"{plugin}: {parameter}: {value!r} {rule}")


_MOST = 2**31 - 1


def checked_whole_number(plugin: str, least: int, most: int = _MOST) -> _Validator:
    """Make a validator that accepts an int from *least* to *most* (2^31 - 1 by default), and no bool."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise refusal(plugin, attribute.name, value, f"is not a whole number from {least} to {most}")

    return check


def checked_number(plugin: str, least: float, most: float = inf) -> _Validator:
    """Make a validator that accepts a finite number from *least* to *most*, and no bool."""
    rule = f"of {least:g} or more" if most == inf else f"from {least:g} to {most:g}"

    def check(_: Any, attribute: Any, value: Any) -> None:
        if type(value) not in (int, float) or not (isfinite(value) and least <= value <= most):
            raise refusal(plugin, attribute.name, value, f"is not a finite number {rule}")

    return check


def checked_choice(plugin: str, *allowed: str) -> _Validator:
    """Make a validator that accepts the strings *allowed* only."""
    rule = f"is none of {', '.join(map(repr, allowed))}"

    def check(_: Any, attribute: Any, value: Any) -> None:
        if not (isinstance(value, str) and value in allowed):
            raise refusal(plugin, attribute.name, value, rule)

    return check


def checked_method(plugin: str, method: str, what: str) -> _Validator:
    """Make a validator that accepts objects with *method*, and no classes; *what* names such an object."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if isinstance(value, type) or not callable(getattr(value, method, None)):
            raise refusal(plugin, attribute.name, value, f"is no {what} with a method {method}")

    return check


def checked_text(plugin: str) -> _Validator:
    """Make a validator that accepts a string that is not empty."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if not (isinstance(value, str) and value):
            raise refusal(plugin, attribute.name, value, "is not a string of one or more characters")

    return check


def checked_flag(plugin: str) -> _Validator:
    """Make a validator that accepts True and False only."""

    def check(_: Any, attribute: Any, value: Any) -> None:
        if not isinstance(value, bool):
            raise refusal(plugin, attribute.name, value, "is neither true nor false")

    return check
