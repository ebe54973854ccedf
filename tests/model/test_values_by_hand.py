"""Values that are made by hand of parts of a wrong type, and what makes selectors equal."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidDocumentError
from inferencepool.model import InferencePool, LabelSelector, ObjectMeta, Requirement


class TestByHand:
    @pytest.mark.parametrize(
        ("fields", "field"),
        [
            ({"name": 5}, "metadata.name"),
            ({"namespace": None}, "metadata.namespace"),
            ({"target_ports": 5}, "spec.targetPorts"),
            ({"target_ports": "80"}, "spec.targetPorts"),
            ({"metadata": 5}, "metadata"),
            ({"metadata": ObjectMeta(name="llama", labels={"-": "a"})}, "metadata.labels['-']"),
            ({"metadata": ObjectMeta(name="llama", annotations={"-": "a"})}, "metadata.annotations['-']"),
            ({"endpoint_picker_ref": "epp"}, "spec.endpointPickerRef"),
            ({"status": 5}, "status"),
        ],
    )
    def test_wrong_types(self, fields: dict[str, Any], field: str) -> None:
        """What is of a wrong type is refused as what has a wrong value is."""
        with pytest.raises(InvalidDocumentError) as caught:
            InferencePool(**{"name": "llama", "selector": "app=llama", "target_ports": [8000]} | fields)

        assert [field] == [issue.field for issue in caught.value.issues]

    @pytest.mark.parametrize(
        ("build", "field"),
        [
            (lambda wrong: Requirement(wrong, "Exists"), "key"),
            (lambda wrong: Requirement("a", "In", wrong), "values"),
            (lambda wrong: LabelSelector({}, wrong), "matchExpressions"),
            (lambda wrong: LabelSelector({}, [wrong]), "matchExpressions"),
            (lambda wrong: LabelSelector({wrong: "a"}), "matchLabels[5]"),
        ],
    )
    def test_wrong_parts_of_selectors(self, build: Any, field: str) -> None:
        """So are the parts of selectors."""
        with pytest.raises(InvalidDocumentError) as caught:
            build(5)

        assert [field] == [issue.field for issue in caught.value.issues]

    def test_expressions_have_no_document(self) -> None:
        """A pool with expressions has no document, because the API server would drop them."""
        pool = InferencePool(name="llama", selector="app!=llama", target_ports=[8000])
        with pytest.raises(InvalidDocumentError) as caught:
            pool.to_dict()

        assert ["spec.selector.matchExpressions"] == [issue.field for issue in caught.value.issues]


class TestSelectors:
    @given(
        st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "x", "y"])),
        st.lists(
            st.builds(
                Requirement,
                st.sampled_from("ab"),
                st.sampled_from(["In", "NotIn"]),
                st.sets(st.sampled_from(["", "x", "y"]), min_size=1),
            )
            | st.builds(Requirement, st.sampled_from("ab"), st.sampled_from(["Exists", "DoesNotExist"])),
            max_size=3,
        ),
    )
    def test_text_gives_an_equal_selector(self, labels: dict[str, str], requirements: list[Requirement]) -> None:
        """The text of a selector is read as an equal one, with an equal hash."""
        selector = LabelSelector(labels, requirements)
        again = LabelSelector.parse(str(selector))

        assert selector == again
        assert hash(selector) == hash(again)

    def test_equal_by_meaning(self) -> None:
        """A label and `In` with one value are the same; two values for one label are not one of them."""
        assert LabelSelector({"a": "x"}) == LabelSelector({}, [Requirement("a", "In", ["x"])])
        assert LabelSelector({"a": "x"}) != LabelSelector.parse("a=x,a=y")
        assert LabelSelector({"a": "x"}) != LabelSelector({"a": "y"})
        assert LabelSelector() != {}

    @pytest.mark.parametrize("space", ["\u2028", "\u00a0", "\f", "\v"])
    def test_space(self, space: str) -> None:
        """What is no space to Kubernetes is none here."""
        with pytest.raises(ValueError, match="at character 1"):
            LabelSelector.parse(f"a{space}=b")
