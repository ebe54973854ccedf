from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from inferencepool.cli import _input_file, _yaml
from inferencepool.cli._documents import Document, parse_documents, read_documents
from inferencepool.cli._input_file import read_text
from inferencepool.errors import InvalidDocumentError, MissingExtraError
from tests.strategies.documents import mappings


def _values(text: str, file: str = "f.yaml") -> list[dict[str, Any]]:
    return [document.value for document in parse_documents(text, file)]


def _error(text: str, file: str = "f.yaml") -> str:
    with pytest.raises(InvalidDocumentError) as caught:
        parse_documents(text, file)
    return str(caught.value)


def _write_yaml(value: dict[str, Any]) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return "".join(each if each.isascii() else f"\\U{ord(each):08x}" for each in text) + "\n"


class _Stdin:
    def __init__(self, content: bytes) -> None:
        self.buffer = io.BytesIO(content)


class TestProperties:
    @given(st.lists(mappings(), min_size=1, max_size=3))
    def test_json_comes_back(self, written: list[dict[str, Any]]) -> None:
        """Documents written as JSON, one after the other, are read again."""
        assert written == _values("\n".join(json.dumps(each) for each in written), "f.json")

    @given(st.lists(mappings(), min_size=1, max_size=3))
    def test_quoted_yaml_comes_back(self, written: list[dict[str, Any]]) -> None:
        """Documents written as YAML with quoted strings are read again."""
        text = "---\n".join(_write_yaml(each) for each in written)

        assert written == _values("---\n" + text)

    @given(st.text(max_size=80) | st.text("{}[]:,-&*a1\"'|>#!?<\n ", max_size=60))
    @example("&a")
    @example("? ")
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        """Whatever the text, it gives mappings or our error."""
        for file in ("f.yaml", "f.json"):
            with contextlib.suppress(InvalidDocumentError):
                assert all(isinstance(value, dict) for value in _values(text, file))


class TestFiles:
    def test_file(self, root: Path) -> None:
        """A list as kubectl prints it gives its items."""
        file = str(root / "docs/examples/pods.yaml")
        documents = read_documents(file)

        assert {"Pod"} == {document.value["kind"] for document in documents}
        assert f"{file}: document 1, items[3]" == documents[3].label
        assert isinstance(documents[0].value["metadata"]["creationTimestamp"], str)

    def test_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A dash stands for standard input; a byte order mark is left out."""
        monkeypatch.setattr(sys, "stdin", _Stdin(b'\xef\xbb\xbf{"a": 1}'))
        (document,) = read_documents("-")

        assert Document("-", 1, {"a": 1}) == document
        assert "standard input: document 1" == document.label

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "is empty"),
            (b" \n\t\n", "is empty"),
            (b"# nothing\n---\n", "holds no document"),
            (b"a: \xff", "not UTF-8 text: byte 0xff at offset 3"),
            ("a: 1".encode("utf-16"), "it looks like UTF-16"),
            (b"a: 1\nb: \x00", "control character 0x00 in line 2"),
        ],
    )
    def test_content(self, tmp_path: Path, content: bytes, reason: str) -> None:
        """A file that holds no text, or nothing, is refused by name."""
        file = tmp_path / "f.yaml"
        file.write_bytes(content)
        with pytest.raises(InvalidDocumentError) as caught:
            read_documents(str(file))

        assert str(caught.value).startswith(f"{file}: ")
        assert reason in str(caught.value)

    def test_missing_file(self, tmp_path: Path) -> None:
        """A file that does not exist, or is none, is refused by name."""
        with pytest.raises(InvalidDocumentError, match=r"x\.yaml: no such file"):
            read_text(str(tmp_path / "x.yaml"))
        with pytest.raises(InvalidDocumentError, match="is a directory"):
            read_text(str(tmp_path))
        with pytest.raises(InvalidDocumentError, match="cannot be read"):
            read_text("a\0b")
        with pytest.raises(InvalidDocumentError, match="cannot be read"):
            read_text(str(tmp_path / ("x" * 5_000)))

    def test_permission(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that may not be read is refused by name."""

        def refuse(*_: object) -> None:
            raise PermissionError

        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(InvalidDocumentError, match="secret: no permission to read it"):
            read_text("secret")

    def test_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file has a greatest size, also where its size cannot be told beforehand."""
        file = tmp_path / "f.yaml"
        with file.open("wb") as stream:
            os.truncate(stream.fileno(), _input_file.MAX_FILE_SIZE + 1)
        with pytest.raises(InvalidDocumentError, match="longer than 64 MiB"):
            read_text(str(file))
        monkeypatch.setattr(_input_file, "MAX_FILE_SIZE", 3)
        file.write_bytes(b"abc")
        assert "abc" == read_text(str(file))


class TestLists:
    def test_typed_list(self) -> None:
        """An item of a typed list gets its kind and version, unless it has its own."""
        text = "{kind: PodList, apiVersion: v1, items: [{a: 1}, {kind: X, b: 2}]}"

        assert [{"apiVersion": "v1", "kind": "Pod", "a": 1}, {"kind": "X", "b": 2}] == _values(text)
        assert [{"kind": "Pod"}] == _values("{kind: PodList, items: [{}]}")

    def test_nested_lists(self) -> None:
        """A list in a list is flattened too, and the path shows both."""
        documents = parse_documents("a: 1\n---\n---\n{kind: List, items: [{}, {kind: List, items: [{b: 2}]}]}", "f")

        assert ["document 1", "document 3, items[0]", "document 3, items[1].items[0]"] == [
            document.position for document in documents
        ]

    @pytest.mark.parametrize("text", ["kind: List", "kind: List\nitems:", "kind: PodList\nitems: []"])
    def test_empty_list(self, text: str) -> None:
        """A list may be empty."""
        assert [] == _values(text)

    @pytest.mark.parametrize("text", ["kind: AllowList", "kind: [List]", "kind: Pod\nitems: []"])
    def test_no_list(self, text: str) -> None:
        """What only looks like a list is a document."""
        assert 1 == len(_values(text))

    def test_wrong_items(self) -> None:
        """Items are a list of mappings."""
        assert "f.yaml: document 1: items: must be a list, not a mapping" == _error("{kind: List, items: {}}")
        assert "f.yaml: document 1, items[1]: must be a mapping, not null" == _error("{kind: List, items: [{}, null]}")


class TestYaml:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            *((text, True) for text in ("y", "Yes", "ON", "true")),
            *((text, False) for text in ("n", "No", "off", "FALSE")),
            *((text, None) for text in ("", "~", "Null")),
            *((text, text) for text in ("yEs", "1:30", "2026-03-02", "2026-03-02T09:11:02Z", "=", "1.2.3", "+", "0x")),
            *((text, 8) for text in ("010", "0o10", "0x8", "0b1000", "8", "+8", "!!int '8'")),
            *((text, 8) for text in ("08", "8.", "8.0", "0.8e1", "80e-1", "!!float 8")),
            ("8.5", 8.5),
            *((text, "8") for text in ("'8'", "! 8", "!!str 8")),
            ("1_000", 1000),
            ("-1e3", -1000),
            ("18446744073709551615", 2**64 - 1),
            ("18446744073709551616", 2.0**64),
            ("1" * 100, float("1" * 100)),
            ("!!bool on", True),
            ("!!null ''", None),
            ("!!map {}", {}),
            ("!!seq []", []),
        ],
    )
    def test_scalar(self, text: str, expected: object) -> None:
        """A scalar is what the Kubernetes tools make of it, type and all."""
        (value,) = _values(f"a: {text}\n")

        assert expected == value["a"]
        assert type(expected) is type(value["a"])

    def test_keys_become_strings(self) -> None:
        """Keys are strings in JSON."""
        assert [{"1": 1, "true": 2, "false": 3, "1.5": 4, "k": 5}] == _values("1: 1\non: 2\nno: 3\n1.5: 4\n&k k: 5")

    def test_aliases_and_merges(self) -> None:
        """Aliases repeat values; a key overrides merged ones, and the first merged mapping wins."""
        text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: [{y: 9}, *a]}\nd: *a\ne: {'<<': 1}\n"

        assert _values(text) == [
            {
                "a": {"x": 1, "true": 2},
                "b": {"x": 3, "true": 2},
                "c": {"x": 1, "true": 9},
                "d": {"x": 1, "true": 2},
                "e": {"<<": 1},
            }
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("a: [1,", "document 1: not YAML: line 2, column 1: "),
            ("a: 1\n---\nb: 'x", "document 2: not YAML: line "),
            ("a: \x7f", "not YAML: "),
            ("a: 1\nb: 2\na: 3", "document 1: a: line 3, column 1: key is given twice"),
            ("a: {b: {1: 2, '1': 3}}", "document 1: a.b.1: line 1, column 15: key is given twice"),
            ("a: .nan", "a: line 1, column 4: .nan is not a JSON number"),
            ("a: -.Inf", "-.Inf is not a JSON number"),
            ("a: 1e999", "1e999 is too great"),
            ("? [a]\n: 1", "a key must be a string"),
            ("~: 1", "a key must be a string"),
            ("a: !!set {b}", "tag 'tag:yaml.org,2002:set' is not allowed"),
            ("a: !!timestamp 2026-03-02", "timestamp' is not allowed"),
            ("a: !x []", "tag '!x' is not allowed"),
            ("a: !!int x", "'x' is not of tag !!int"),
            ("a: !!int true", "'true' is not of tag !!int"),
            ("a: {<<: 1}", "<< takes a mapping"),
            ("a: *b", "no anchor &b"),
            ("a: &a [*a]", "a[0]: line 1, column 8: alias *a stands inside what it stands for"),
            ("a: " + "[" * 100_000, "nested deeper than 200"),
            ("- " * 100_000, "nested deeper than 200"),
            ("--- {}\n--- [1]", "document 2: must be a mapping, not a list"),
            ("text", "document 1: must be a mapping, not a string"),
        ],
    )
    def test_refused(self, text: str, message: str) -> None:
        """An error names document, path, line and column."""
        error = _error(text)

        assert error.startswith("f.yaml: document ")
        assert message in error

    def test_alias_bomb(self) -> None:
        """Aliases of aliases are refused before they grow."""
        lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
        lines += [f"a{at}: &a{at} [{','.join([f'*a{at - 1}'] * 10)}]" for at in range(1, 30)]

        assert "aliases repeat more than 100000 values" in _error("\n".join(lines))

    def test_pure_python_parser(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without the C parser the same is read."""
        monkeypatch.delattr(yaml, "CBaseLoader", raising=False)

        assert [{"a": [1, "b"]}] == _values("a: [1, b]")
        assert "half of a surrogate pair" in _error(r'a: "\ud800"')
        assert "nested deeper" in _error("- " * 1_000)
        assert "line 1" in _error("a: [")

    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without PyYAML the error says what to install, and JSON is still read."""
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(MissingExtraError, match=r'f: .*pip install "inferencepool\[yaml\]"'):
            list(_yaml.parse_yaml("a: 1", "f"))

        assert [{"a": 1}] == _values('{"a": 1}')


class TestJson:
    def test_several(self) -> None:
        """Documents may follow each other with or without space."""
        assert [{"a": 1.5}, {}, {"b": "\U0001f600"}] == _values('{"a": 1.5}{}\n {"b": "\\ud83d\\ude00"} \n', "f.json")

    def test_flow_style(self) -> None:
        """What starts like JSON may be YAML, unless the file is called otherwise."""
        assert [{"a": "b"}] == _values("{a: b}")
        assert "f.JSON: not JSON: line 1, column 2: " in _error("{a: b}", "f.JSON")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"a": NaN}', "document 1: NaN is not a JSON number"),
            ('{"a": -Infinity}', "-Infinity is not a JSON number"),
            ('{"a": 1e999}', "number 1e999 is too great"),
            ('{"a": ' + "1" * 5000 + "}", "is too great"),
            ('{} {"a": [{"b": 1, "b": 2}]}', "document 2: a[0].b: key is given twice"),
            (r'{"a": ["\ud800"]}', r"document 1: a[0]: half of a surrogate pair in '\ud800'"),
            (r'{"\udfff": 1}', r"document 1: half of a surrogate pair in '\udfff'"),
            ('{"a":' * 300 + "1" + "}" * 300, "nested deeper than 200"),
            ('{"a":' * 100_000, "nested deeper than 200"),
            ("[{}]", "document 1: must be a mapping, not a list"),
        ],
    )
    def test_refused(self, text: str, message: str) -> None:
        """What an API server refuses is refused, with its path."""
        assert message in _error(text)
