"""Strategies as objects: what they are called, which methods they offer, and which names are probably misspelt."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

from inferencepool.errors import ConfigurationError

__all__ = ["LISTENING", "check_spelling", "kind_of", "quoted", "strategy_name"]

_LONGEST_SHOWN = 200

LISTENING = ("prepare", "has_cached", "picked", "started", "released", "response_headers")
"""Methods that a strategy or a producer may have to be told, or asked, of what became of a request."""

# What any strategy or producer may have beside the method of its role; what else it has is its own affair.
_METHODS = ("amounts", "notes", "produce", *LISTENING)
_ATTRIBUTES = ("is_preference", "pointwise", "producers", "until_started")

# How alike names must be, from 0 to 1. Nearer ones are honest names: ``start``, ``picker``, ``preferred``.
_LIKE_METHOD = 0.85
_LIKE_ATTRIBUTE = 0.8


def strategy_name(strategy: object) -> str:
    """Name a strategy the way configurations do: its class name in kebab case, ``QueueScorer`` -> ``queue-scorer``."""
    name = getattr(strategy, "__name__", None) or type(strategy).__name__
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower().strip("_")


def quoted(value: object) -> str:
    """Show what a strategy gave, which may be anything, in an error; long texts are cut."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the error to be told is another one
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def kind_of(strategy: object, methods: tuple[str, ...], role: str) -> str:
    """
    Tell which of *methods* a strategy offers.

    Raises:
        ConfigurationError: It is a class, or offers none of them, or several, so that its kind cannot be told.
    """
    _refuse_class(strategy, role)
    offered = [name for name in methods if callable(getattr(strategy, name, None))]
    if len(offered) != 1:
        found = f"has {' and '.join(offered)}" if offered else f"has none of them{_nearest(strategy, methods)}"
        message = (
            f"{role} {strategy_name(strategy)}: a {role} has exactly one of {', '.join(methods)}; this one {found}"
        )
        raise ConfigurationError(message)
    return offered[0]


def check_spelling(strategy: object) -> None:
    """
    Refuse a strategy or a producer whose optional parts would be passed over in silence, because of their names.

    A public method, or attribute, that is nearly called like one that is looked for is refused where the strategy does
    not have that one too.

    Raises:
        ConfigurationError: There is such a name, or *strategy* is a class.
    """
    _refuse_class(strategy, "producer")
    own = [name for name in dir(strategy) if not name.startswith("_")]
    methods = [name for name in own if callable(getattr(type(strategy), name, None))]
    attributes = [name for name in own if name not in methods]
    for names, known, likeness in ((methods, _METHODS, _LIKE_METHOD), (attributes, _ATTRIBUTES, _LIKE_ATTRIBUTE)):
        for name in names:
            is_known = name in _METHODS or name in _ATTRIBUTES
            near = [] if is_known else get_close_matches(name, known, 1, likeness)
            if near and near[0] not in own:
                message = (
                    f"{strategy_name(strategy)}: {name}: is not looked for, but {near[0]} is; if it is meant to be "
                    "something else, let its name begin with an underscore"
                )
                raise ConfigurationError(message)


def _nearest(strategy: object, methods: Iterable[str]) -> str:
    """Name the method that may be meant by one that *strategy* has; empty where none is near."""
    for name in dir(strategy):
        if not name.startswith("_") and (near := get_close_matches(name, methods, 1)):
            return f", but {name}; is {near[0]} meant?"
    return ""


def _refuse_class(strategy: object, role: str) -> None:
    if isinstance(strategy, type):
        name = strategy.__name__
        message = f"{role} {strategy_name(strategy)}: {name} is a class; give an instance, such as {name}()"
        raise ConfigurationError(message)
