"""Values that YAML and JSON documents hold."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# Strings that YAML 1.1 takes for something else unless they are quoted.
AWKWARD_STRINGS = st.sampled_from(
    [
        "",
        "y",
        "on",
        "No",
        "null",
        "~",
        "010",
        "1e3",
        "1:30",
        "2026-03-02",
        ".inf",
        "<<",
        "=",
        "- a",
        "a: b",
        "{",
        "#",
        "\u2028",
    ]
)
STRINGS = AWKWARD_STRINGS | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STRINGS
)


def mappings() -> st.SearchStrategy[dict[str, Any]]:
    """Make mappings as documents hold them, nested a few times."""
    values: st.SearchStrategy[Any] = st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(STRINGS, inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(STRINGS.filter(lambda key: key != "kind"), values, max_size=4)
