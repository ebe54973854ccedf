"""Samples of metrics pages, and the pages that hold them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from inferencepool.adapters.exposition import Sample

# Metrics that engines export, names at the edge of the grammar, and any other.
NAMES = st.sampled_from(["vllm:num_requests_waiting", "a", "_", ":", "A:b_9"]) | st.from_regex(
    r"[a-zA-Z_:][a-zA-Z0-9_:]{0,8}", fullmatch=True
)
LABEL_NAMES = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,6}", fullmatch=True).filter(lambda name: name != "__name__")
AWKWARD_VALUES = st.sampled_from(
    ['"', "\\", "\n", "}", "{", " ", ",", "=", "#", "\\n", "\r", "\u2028", "a b} 1\n# x", ""]
)
LABEL_VALUES = AWKWARD_VALUES | st.text(st.characters(codec="utf-8"), max_size=12)
TIMESTAMPS = st.none() | st.integers(-(2**63), 2**63 - 1)


def samples() -> st.SearchStrategy[Sample]:
    """Make samples with any value, NaN aside, which equals nothing."""
    return st.builds(
        Sample,
        name=NAMES,
        labels=st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=3),
        value=st.floats(allow_nan=False),
        timestamp=TIMESTAMPS,
    )


def pages() -> st.SearchStrategy[tuple[list[Sample], str]]:
    """Make lists of samples together with a page that holds them."""
    return st.tuples(st.lists(samples(), max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans()).map(
        lambda drawn: (drawn[0], render(drawn[0], line_end=drawn[1], comments=drawn[2]))
    )


def render(samples: Sequence[Sample], *, line_end: str = "\n", comments: bool = False) -> str:
    """Write *samples* as a page."""
    lines = [_render_one(sample) for sample in samples]
    if comments:
        lines = [part for line in lines for part in ("# HELP x {not} a sample", "", line)]
    return "".join(line + line_end for line in lines)


def _render_one(sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escape(value)}"' for key, value in sample.labels.items())
    timestamp = "" if sample.timestamp is None else f" {sample.timestamp}"
    return f"{sample.name}{f'{{{labels}}}' if labels else ''} {sample.value!r}{timestamp}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
