from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.exposition import ENGINES, Combine, Engine, MetricSpec, Sample, engine_named, read_page
from inferencepool.errors import ConfigurationError
from tests.strategies.exposition import LABEL_NAMES, LABEL_VALUES, NAMES


@given(st.builds(MetricSpec, NAMES, st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=3)))
def test_text_of_a_specification_is_read_again(spec: MetricSpec) -> None:
    """What a specification is written as is read as the same one."""
    assert spec == MetricSpec.parse(str(spec))


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Whatever the text, it is a specification or an error of configuration."""
    with contextlib.suppress(ConfigurationError):
        assert str(MetricSpec.parse(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a:b ", MetricSpec("a:b")),
        ("a{}", MetricSpec("a")),
        ("a{b=c d , e='f'}", MetricSpec("a", {"b": "c d", "e": "'f'"})),
        ('a { b = "c,}" , }', MetricSpec("a", {"b": "c,}"})),
        ("a{b=}", MetricSpec("a", {"b": ""})),
    ],
)
def test_forms(text: str, expected: MetricSpec) -> None:
    """Quotes are optional, and so are the braces."""
    assert expected == MetricSpec.parse(text)


@pytest.mark.parametrize("text", ["", "{a=b}", "a{b}", "a{b=c", "a{b=c}d", "a b", 'a{b="c" d}', "a{b=1,b=2}", 'a{b="c'])
def test_refused(text: str) -> None:
    """Another form is an error that shows the text."""
    with pytest.raises(ConfigurationError, match="metric specification"):
        MetricSpec.parse(text)


@pytest.mark.parametrize(
    ("timestamps", "expected"),
    [([None, None], 0), ([1, None], 0), ([None, 1], 1), ([1, 2], 1), ([2, 1], 0), ([2, 2], 0), ([None, -5, 3], 2)],
)
def test_latest_sample(timestamps: list[int | None], expected: int) -> None:
    """The greatest timestamp wins, then the first sample."""
    page = "".join(f'a{{n="{at}"}} {at} {stamp or ""}\n' for at, stamp in enumerate(timestamps))
    engine = Engine(name="mine", queued_requests=MetricSpec("a", combine=Combine.LATEST))

    assert expected == read_page(page, engine).metrics.waiting_queue_size


def test_which_samples_match() -> None:
    """A series needs the name and every label of the specification."""
    samples = [Sample("a", {"b": "d"}, 1.0), Sample("ab", {"b": "c"}, 1.0), Sample("a", {}, 1.0)]
    wanted = Sample("a", {"b": "c", "d": "e"}, 1.0)

    assert [wanted] == list(filter(MetricSpec("a", {"b": "c"}).matches, [*samples, wanted]))


def test_engines() -> None:
    """The five engines of the reference are there, its default first."""
    assert ["vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton"] == list(ENGINES)
    assert all(name == engine.name for name, engine in ENGINES.items())
    assert ENGINES["triton"] is engine_named("triton")


def test_unknown_engine() -> None:
    """An engine that does not exist is an error with those that do."""
    with pytest.raises(ConfigurationError, match="unknown engine 'abacus'; allowed: vllm, sglang"):
        engine_named("abacus")


def test_empty_specification_disables() -> None:
    """An engine takes specifications as text, and an empty one as none."""
    engine = Engine(name="mine", queued_requests="q", running_requests="  ", kv_usage=MetricSpec("k"))

    assert (MetricSpec("q"), MetricSpec("k")) == engine.specs
    assert hash(engine) == hash(Engine(name="mine", queued_requests="q", kv_usage="k"))
