"""Filters that look at the labels of an endpoint's pod; asked once in an endpoint's lifetime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from inferencepool._checks import checked_flag, checked_text, refusal
from inferencepool.model import Endpoint, LabelSelector

__all__ = ["ROLE_LABEL", "ByLabel", "DecodeFilter", "EncodeFilter", "LabelSelectorFilter", "PrefillFilter"]

_BY_LABEL = "by-label"
_LABEL_SELECTOR = "label-selector-filter"

ROLE_LABEL = "llm-d.ai/role"
"""The pod label that tells which phases of inference a model server takes part in."""


@attrs.frozen
class DecodeFilter:
    """
    Keep the endpoints that decode.

    *When to choose it:* in the profile that decides where tokens are generated, when prefill runs on pods of its own.

    *Looks at:* the label ``llm-d.ai/role``: keeps ``decode``, ``prefill-decode``, ``both`` and
    ``encode-prefill-decode``, and every endpoint without the label, since a server without a role does everything.

    *Configuration:* type ``decode-filter``, no parameters.
    """

    roles: ClassVar[frozenset[str]] = frozenset({"decode", "prefill-decode", "both", "encode-prefill-decode"})

    def keep(self, endpoint: Endpoint, /) -> bool:
        """Tell whether *endpoint* decodes."""
        role = endpoint.labels.get(ROLE_LABEL)
        return role is None or role in self.roles


@attrs.frozen
class PrefillFilter:
    """
    Keep the endpoints that prefill.

    *When to choose it:* in the profile that decides where prompts are processed, when prefill runs on pods of its own.

    *Looks at:* the label ``llm-d.ai/role``: keeps ``prefill``, ``encode-prefill``, ``prefill-decode``, ``both`` and
    ``encode-prefill-decode``. An endpoint without the label is dropped.

    *Configuration:* type ``prefill-filter``, no parameters.
    """

    roles: ClassVar[frozenset[str]] = frozenset(
        {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"}
    )

    def keep(self, endpoint: Endpoint, /) -> bool:
        """Tell whether *endpoint* prefills."""
        return endpoint.labels.get(ROLE_LABEL) in self.roles


@attrs.frozen
class EncodeFilter:
    """
    Keep the endpoints that encode images, audio or video.

    *When to choose it:* in the profile that decides where media are encoded, when encoders run on pods of their own.

    *Looks at:* the label ``llm-d.ai/role``: keeps ``encode``, ``encode-prefill`` and ``encode-prefill-decode``. An
    endpoint without the label is dropped.

    *Configuration:* type ``encode-filter``, no parameters.
    """

    roles: ClassVar[frozenset[str]] = frozenset({"encode", "encode-prefill", "encode-prefill-decode"})

    def keep(self, endpoint: Endpoint, /) -> bool:
        """Tell whether *endpoint* encodes."""
        return endpoint.labels.get(ROLE_LABEL) in self.roles


def _to_values(values: Any) -> frozenset[str]:
    is_list = isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping)
    found = list(values) if is_list else None
    if found is None or not all(isinstance(value, str) for value in found):
        raise refusal(_BY_LABEL, "valid_values", values, "is not a list of strings")
    return frozenset(found)


@attrs.frozen
class ByLabel:
    """
    Keep the endpoints whose value of one label is among those listed.

    *When to choose it:* to limit a profile to some hardware, zone or version. `LabelSelectorFilter` can say more.

    *Looks at:* one label of the endpoint.

    *Configuration:* type ``by-label``; ``label`` (required), ``validValues`` (a list, default empty) and
    ``allowsNoLabel`` (default false). Either some values or ``allowsNoLabel`` must be given.

    Attributes:
        label: Name of the label.
        valid_values: Values to keep.
        allows_no_label: Whether to keep endpoints that do not have the label.

    Raises:
        ConfigurationError: *label* is empty, or nothing could ever be kept, or a parameter has the wrong type.
    """

    label: str = attrs.field(validator=checked_text(_BY_LABEL))
    valid_values: frozenset[str] = attrs.field(default=frozenset(), converter=_to_values)
    allows_no_label: bool = attrs.field(default=False, validator=checked_flag(_BY_LABEL))

    def __attrs_post_init__(self) -> None:
        if not (self.valid_values or self.allows_no_label):
            raise refusal(_BY_LABEL, "valid_values", [], "keeps nothing: give a value, or allow no label")

    def keep(self, endpoint: Endpoint, /) -> bool:
        """Tell whether the label of *endpoint* has one of the values."""
        value = endpoint.labels.get(self.label)
        return self.allows_no_label if value is None else value in self.valid_values


def _check_selector(_: Any, __: Any, value: Any) -> None:
    if not isinstance(value, LabelSelector):
        raise refusal(_LABEL_SELECTOR, "selector", value, "is no LabelSelector")


@attrs.frozen
class LabelSelectorFilter:
    """
    Keep the endpoints that a Kubernetes label selector matches; an empty selector matches all.

    *When to choose it:* to limit a profile to a part of the pool that takes more than one label to describe.

    *Looks at:* the labels of the endpoint.

    *Configuration:* type ``label-selector-filter`` (or ``by-label-selector``); ``matchLabels`` and
    ``matchExpressions`` as in every Kubernetes label selector.

    Attributes:
        selector: The selector.

    Raises:
        ConfigurationError: *selector* is no `LabelSelector`.
    """

    selector: LabelSelector = attrs.field(validator=_check_selector)

    def keep(self, endpoint: Endpoint, /) -> bool:
        """Tell whether the selector matches *endpoint*."""
        return self.selector.matches(endpoint.labels)
