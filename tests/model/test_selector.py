from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidDocumentError, InvalidSelectorError
from inferencepool.model import LabelSelector, Operator, Requirement
from tests.strategies.documents import JSON

KEYS = st.sampled_from(["app", "in", "notin", "example.com/tier"])
VALUES = st.sampled_from(["", "a", "b", "in", "X.y-1"])
WITH_VALUES = st.builds(
    Requirement, KEYS, st.sampled_from([Operator.IN, Operator.NOT_IN]), st.lists(VALUES, min_size=1, max_size=3)
)
WITHOUT_VALUES = st.builds(Requirement, KEYS, st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]))
LABELS = st.dictionaries(KEYS, VALUES)
SELECTORS = st.builds(LabelSelector, LABELS, st.lists(WITH_VALUES | WITHOUT_VALUES, max_size=3))


def _naive(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    verdicts = [labels.get(key) == value for key, value in selector.match_labels.items()]
    for requirement in selector.match_expressions:
        there = requirement.key in labels
        listed = there and labels[requirement.key] in requirement.values
        verdicts.append({"In": listed, "NotIn": not listed, "Exists": there}.get(requirement.operator, not there))
    return all(verdicts)


@given(SELECTORS, LABELS)
def test_matches(selector: LabelSelector, labels: dict[str, str]) -> None:
    """All conditions must hold; `NotIn` holds where the label is absent."""
    assert _naive(selector, labels) == selector.matches(labels)


@given(SELECTORS, LABELS)
def test_text_round_trip(selector: LabelSelector, labels: dict[str, str]) -> None:
    """The text of a selector is read as one that matches the same, and has the same text."""
    again = LabelSelector.parse(str(selector))

    assert selector.matches(labels) == again.matches(labels)
    assert again == LabelSelector.parse(str(again))
    assert hash(again) == hash(LabelSelector.parse(str(again)))


@given(SELECTORS)
def test_document_round_trip(selector: LabelSelector) -> None:
    """A selector is read from its own document."""
    assert selector == LabelSelector.from_dict(selector.to_dict(), unknown="error")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t", ""),
        ("app=a", "app=a"),
        (" app == a ", "app=a"),
        ("app=", "app="),
        ("app=,b", "app=,b"),
        ("app!=a", "app notin (a)"),
        ("app!=", "app notin ()"),
        ("app in (b, a,a)", "app in (a,b)"),
        ("app in (a)", "app=a"),
        ("app in ()", "app="),
        ("app in (,a)", "app in (,a)"),
        ("app notin(a,b)", "app notin (a,b)"),
        ("app", "app"),
        ("!app", "!app"),
        ("! example.com/app , b", "!example.com/app,b"),
        ("in in (in)", "in=in"),
        ("app=a,app=b", "app=a,app in (b)"),
    ],
)
def test_parse(text: str, expected: str) -> None:
    """The forms that `kubectl -l` takes are read."""
    assert expected == str(LabelSelector.parse(text))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (",", "at character 0: found ',', expected a label key or '!'"),
        ("a,", "at character 2: found the end, expected a label key after the comma"),
        ("a,,b", "at character 2: found ',', expected a label key or '!'"),
        ("a b", "at character 2: found 'b', expected one of =, ==, !=, >, <, in, notin or a comma"),
        ("a=b c", "at character 4: found 'c', expected ','"),
        ("a=!b", "at character 2: found '!', expected a value"),
        ("!a=b", "at character 2: found '=', expected ','"),
        ("!", "at character 1: found the end, expected a label key"),
        ("a in b", "at character 5: found 'b', expected '('"),
        ("a in (b", "at character 7: found the end, expected ')'"),
        ("a in (b=c)", "at character 7: found '=', expected ')'"),
        ("a>b", "at character 0: 'b' is not a whole number of 64 bits"),
        ("a<", "at character 0: '' is not a whole number of 64 bits"),
        ("a>9223372036854775808", "at character 0: '9223372036854775808' is not a whole number of 64 bits"),
        ("a>1,b>(1)", "at character 6: found '(', expected a value"),
        ("a, é", "at character 3: found 'é', expected a label key, a value or one of"),
        ("x, -a=b", "at character 3: the key '-a' is no qualified name"),
        ("a=-b", "at character 0: '-b' does not match"),
        (f"a={'b' * 64}", "at most 63"),
    ],
)
def test_parse_refuses(text: str, reason: str) -> None:
    """An error shows the text, where it stops making sense and what would."""
    with pytest.raises(InvalidSelectorError) as caught:
        LabelSelector.parse(text)

    assert str(caught.value).startswith("label selector ")
    assert reason in str(caught.value)


@given(st.text(st.sampled_from("ab=!(), in\tn/.é-"), max_size=12) | st.text(max_size=8))
def test_parse_anything(text: str) -> None:
    """Any text is read, or refused with the error for selectors."""
    with contextlib.suppress(InvalidSelectorError):
        LabelSelector.parse(text)


@given(st.dictionaries(st.sampled_from(["matchLabels", "matchExpressions"]), JSON) | JSON)
def test_from_anything(document: Any) -> None:
    """Any document is read, or refused with the error for documents."""
    with contextlib.suppress(InvalidDocumentError):
        LabelSelector.from_dict(document)


@pytest.mark.parametrize(
    ("item", "field", "reason"),
    [
        ({"operator": "Exists"}, ".key", "is required"),
        ({"key": "a"}, ".operator", "is required"),
        ({"key": "a", "operator": "in"}, ".operator", "'in' is not one of In, NotIn, Exists, DoesNotExist"),
        ({"key": "a", "operator": "In"}, ".values", "must not be empty for In"),
        ({"key": "a", "operator": "Exists", "values": ["b"]}, ".values", "must be empty for Exists"),
        ({"key": "a", "operator": "In", "values": "b"}, ".values", "'b' is not a list of strings"),
        ({"key": "a", "operator": "In", "values": ["b", 1]}, ".values", "['b', 1] is not a list of strings"),
        ({"key": "a", "operator": "In", "values": ["-"]}, ".values", "does not match"),
        ({"key": "", "operator": "Exists"}, ".key", "is no qualified name"),
        ({"key": "a", "operator": "Exists", "value": ""}, ".value", "is no field of this object"),
        (1, "", "1 is not an object"),
    ],
)
def test_from_dict_refuses(item: Any, field: str, reason: str) -> None:
    """A requirement that is wrong is an issue at its place."""
    with pytest.raises(InvalidDocumentError) as caught:
        LabelSelector.from_dict({"matchExpressions": [item]}, unknown="error")

    [issue] = caught.value.issues
    assert f"matchExpressions[0]{field}" == issue.field
    assert reason in issue.reason


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("a", "Near"), "operator: 'Near' is not one of In, NotIn, Exists, DoesNotExist"),
        (("a", "In", "prod"), "values: 'prod' is not a list of strings"),
        (("a", "In", [1]), r"values: \[1\] is not a list of strings"),
        (("a", "In", []), "values: must not be empty for In"),
    ],
)
def test_requirement_refuses(arguments: tuple[Any, ...], reason: str) -> None:
    """A requirement cannot be built by hand against the rules either."""
    with pytest.raises(InvalidDocumentError, match=f"^label requirement: {reason}"):
        Requirement(*arguments)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(7, "matchLabels: 7 is not an object"), ({"a": "-"}, r"matchLabels\['a'\]: '-' does not match")],
)
def test_selector_refuses(labels: Any, reason: str) -> None:
    """A selector cannot be built by hand against the rules either."""
    with pytest.raises(InvalidDocumentError, match=reason):
        LabelSelector(labels)


def test_is_a_value() -> None:
    """A selector does not change with the mapping that it was built from."""
    labels = {"a": "b"}
    selector = LabelSelector(labels)
    labels["a"] = "c"

    assert selector.matches({"a": "b"})
