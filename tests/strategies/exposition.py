"""Samples of metrics pages, and the pages that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, nan

import attrs
from hypothesis import strategies as st

from inferencepool.adapters.exposition import ENGINES, Engine, Sample

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


def _render_one(sample: Sample, *, seconds: bool = False) -> str:
    labels = ",".join(f'{key}="{_escape(value)}"' for key, value in sample.labels.items())
    timestamp = ""
    if sample.timestamp is not None:
        timestamp = f" {sample.timestamp / 1000}" if seconds else f" {sample.timestamp}"
    return f"{sample.name}{f'{{{labels}}}' if labels else ''} {sample.value!r}{timestamp}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@attrs.define
class Family:
    """All lines of one metric; several of them make a page."""

    name: str
    comments: list[str]
    series: list[Sample]

    def lines(self, *, exemplar: str, seconds: bool) -> list[str]:
        """Write the family; *exemplar* goes behind each sample."""
        return self.comments + [_render_one(sample, seconds=seconds) + exemplar for sample in self.series]


_PLAIN_NUMBERS = st.integers(0, 30).map(float) | st.sampled_from([0.0, 0.25, 1.0, 31250.0])
_NUMBERS = _PLAIN_NUMBERS | st.sampled_from([1.5, -1.0, 1e300, nan, inf, -0.0])
_MEANT_LABELS = {
    "running_lora_adapters": st.sampled_from(["", "sql", " a ,, b", "sql,chat"]),
    "waiting_lora_adapters": st.sampled_from(["", "legal"]),
    "max_lora": st.sampled_from(["4", "None", "-1", "x"]),
    "block_size": st.sampled_from(["16", "None", "1e3"]),
    "num_gpu_blocks": st.sampled_from(["100", "None", ""]),
    "page_size": st.just("16"),
    "num_pages": st.just("100"),
    "request_type": st.sampled_from(["waiting", "scheduled", "max"]),
    "kv_cache_block_type": st.sampled_from(["fraction", "tokens_per", "max"]),
}


@attrs.frozen
class Scene:
    """
    What the pages of a server are made of.

    Attributes:
        engine: The server's engine.
        is_plain: Whether there are no timestamps and no impossible values, as in the pages of most servers.
    """

    engine: Engine
    is_plain: bool

    @property
    def names(self) -> st.SearchStrategy[str]:
        """The engine's metrics, longer names that begin or end like them, and others."""
        wanted = st.sampled_from(sorted({spec.name for spec in self.engine.specs}))
        if self.is_plain:
            return wanted | wanted | NAMES
        return wanted | wanted.map(lambda name: f"{name}_by_reason") | wanted.map(lambda name: f"x_{name}")

    @property
    def numbers(self) -> st.SearchStrategy[float]:
        """Values."""
        return _PLAIN_NUMBERS if self.is_plain else _NUMBERS

    def series_of(self, name: str) -> st.SearchStrategy[Sample]:
        """Samples of one metric."""
        meant = st.fixed_dictionaries({}, optional=_MEANT_LABELS)
        odd = st.just({}) if self.is_plain else st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=2)
        return st.builds(
            Sample,
            name=st.just(name),
            labels=st.tuples(odd, meant).map(lambda both: both[0] | both[1]),
            value=self.numbers,
            timestamp=st.none() if self.is_plain else st.none() | st.integers(0, 3),
        )


@st.composite
def families(draw: st.DrawFn, scene: Scene) -> Family:
    """Make a family; half of them have a type, and a help text that may mention another metric."""
    name = draw(scene.names)
    comments = []
    if draw(st.booleans()):
        comments.append(f"# HELP {name} Like {draw(scene.names)}, but other.")
    if draw(st.booleans()):
        kinds = ["gauge", "counter"] if scene.is_plain else ["gauge", "untyped", "summary"]
        comments.append(f"# TYPE {name} {draw(st.sampled_from(kinds))}")
    return Family(name, comments, draw(st.lists(scene.series_of(name), min_size=scene.is_plain, max_size=3)))


@attrs.define
class PageForm:
    """
    How a page is written.

    Attributes:
        line_end: What ends each line.
        open_metrics: Whether it is in OpenMetrics text.
        exemplar: What stands behind each sample there.
        indent: What stands before each line.
    """

    line_end: str
    open_metrics: bool
    exemplar: str
    indent: str

    def write(self, written: Sequence[Family]) -> str:
        """Write a page that holds *written*."""
        exemplar = self.exemplar if self.open_metrics else ""
        lines = [
            self.indent + line
            for family in written
            for line in family.lines(exemplar=exemplar, seconds=self.open_metrics)
        ]
        return "".join(f"{line}{self.line_end}" for line in [*lines, *(["# EOF"] if self.open_metrics else [])])


PAGE_FORMS = st.builds(
    PageForm,
    line_end=st.sampled_from(["\n", "\n", "\r\n"]),
    open_metrics=st.sampled_from([False, False, True]),
    exemplar=st.sampled_from(["", "", "", ' # {trace_id="x # 7"} 0.5', ' # {trace_id="x"} 3 1.5e3', " # {} 4"]),
    indent=st.sampled_from(["", "", "", " ", "\t"]),
)


@st.composite
def successive_pages(draw: st.DrawFn) -> tuple[Engine, list[str]]:
    """Make the pages that one server gives one after the other: mostly numbers move, sometimes more does."""
    scene = Scene(ENGINES[draw(st.sampled_from(sorted(ENGINES)))], draw(st.booleans()))
    form = draw(PAGE_FORMS)
    least = 3 if scene.is_plain else 0
    current = draw(st.lists(families(scene), min_size=least, max_size=8, unique_by=lambda family: family.name))
    written = [form.write(current)]
    for _ in range(draw(st.integers(0, 6))):
        current = draw(_next_families(scene, current))
        if not draw(st.integers(0, 9)):
            form = draw(PAGE_FORMS)
        written.append(form.write(current))
    return scene.engine, written


@st.composite
def _next_families(draw: st.DrawFn, scene: Scene, before: Sequence[Family]) -> list[Family]:
    after = [Family(each.name, each.comments, list(each.series)) for each in before]
    for family in after:
        for index, sample in enumerate(family.series):
            if draw(st.booleans()):
                family.series[index] = attrs.evolve(sample, value=draw(scene.numbers))
    if after and not draw(st.integers(0, 2)):
        _disturb(draw, scene, draw(st.sampled_from(after)))
    if not draw(st.integers(0, 9)):
        new = draw(families(scene))
        if new.name not in {family.name for family in after}:
            after.insert(draw(st.integers(0, len(after))), new)
    if after and not draw(st.integers(0, 9)):
        after.pop(draw(st.integers(0, len(after) - 1)))
    return after


def _disturb(draw: st.DrawFn, scene: Scene, family: Family) -> None:
    """Change more of a family than its values."""
    place = draw(st.integers(0, len(family.series)))
    match draw(st.sampled_from(["add", "remove", "comments", "odd value"])):
        case "add":
            family.series.insert(place, draw(scene.series_of(family.name)))
        case "remove":
            del family.series[place:]
        case "comments":
            family.comments = family.comments[:-1]
        case _:
            odd = st.builds(Sample, st.just(family.name), st.just({}), _NUMBERS, st.none() | st.integers(0, 3))
            family.series.insert(place, draw(odd))
