"""The documents in the files that a command was given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs

from inferencepool.cli._input_file import display_name, read_text, refuse
from inferencepool.cli._json import parse_json
from inferencepool.cli._yaml import parse_yaml
from inferencepool.errors import Issue

__all__ = ["Document", "parse_documents", "parse_values", "read_documents"]

_LIST = "List"


@attrs.frozen
class Document:
    """
    One object in a file.

    Attributes:
        file: The file it was read from; ``-`` for standard input.
        index: Which document of the file it is, from 1 and with empty ones counted; items share that of their list.
        value: What it says.
        path: Where in the document it stands, such as ``items[3]``; empty for the document itself.
    """

    file: str
    index: int
    value: dict[str, Any] = attrs.field(hash=False)
    path: str = ""

    @property
    def position(self) -> str:
        """Give its place in the file, such as ``document 2`` or ``document 1, items[3]``."""
        return f"document {self.index}, {self.path}" if self.path else f"document {self.index}"

    @property
    def label(self) -> str:
        """Give its file and place, as errors name it: ``pods.yaml: document 1, items[3]``."""
        return f"{display_name(self.file)}: {self.position}"

    def at(self, issue: Issue) -> Issue:
        """Give an *issue* of its value as one of the file, with its place in it."""
        field = f"{self.position}: {issue.field}" if issue.field else self.position
        return Issue(field, issue.reason, issue.value)


def read_documents(file: str) -> tuple[Document, ...]:
    """
    Read every object in a file.

    YAML and JSON are read, also several documents in a file; empty documents between separators are skipped. Lists as
    ``kubectl get`` prints them (``kind: List`` and ``kind: PodList`` alike) give their items; an item of a typed list
    lacks `apiVersion` and `kind`, which are filled in.

    Args:
        file: The name of the file; ``-`` for standard input.

    Returns:
        The objects in the order of the file; none for an empty list.

    Raises:
        InvalidDocumentError: The file cannot be read, is empty or no text, or is neither YAML nor JSON, or a document
            is not a mapping; the message names file, document, and line and column where there are any.
        MissingExtraError: The file is YAML and PyYAML is not installed.
    """
    return parse_documents(read_text(file), file)


def parse_documents(text: str, file: str) -> tuple[Document, ...]:
    """Find every object in *text*, as `read_documents` does in a file."""
    return tuple(
        document for index, value in parse_values(text, file) for document in _flatten(Document(file, index, value))
    )


def parse_values(text: str, file: str) -> list[tuple[int, dict[str, Any]]]:
    """
    Find every document in *text*, lists not flattened, each with its number.

    A text that starts like a JSON object or array is read as JSON, so that it needs no extra and keeps what YAML would
    change; where that fails and the file is not called ``.json`` it may still be YAML, whose flow style looks alike.
    """
    source = display_name(file)
    if not text.strip():
        raise refuse(source, "is empty")
    numbered = [(index, value) for index, value in _parse(text, file, source) if value is not None]
    if not numbered:
        raise refuse(source, "holds no document, only comments or separators")
    for index, value in numbered:
        if not isinstance(value, dict):
            reason = f"must be a mapping, not {_describe(value)}"
            where = f"{source}: document {index}"
            raise refuse(where, reason, value=value)
    return numbered


def _parse(text: str, file: str, source: str) -> list[tuple[int, Any]]:
    named_json = file.lower().endswith(".json")
    if named_json or text.lstrip()[0] in "{[":
        try:
            return list(enumerate(parse_json(text, source), start=1))
        except json.JSONDecodeError as error:
            if named_json:
                reason = f"not JSON: line {error.lineno}, column {error.colno}: {error.msg}"
                raise refuse(source, reason) from None
    return list(parse_yaml(text, source))


def _describe(value: object) -> str:
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "a mapping"}
    return names.get(type(value), "null")


def _flatten(document: Document) -> Iterator[Document]:
    value = document.value
    kind = value.get("kind")
    if not isinstance(kind, str) or not kind.endswith(_LIST) or (kind != _LIST and "items" not in value):
        yield document
        return
    items = value.get("items")
    prefix = f"{document.path}." if document.path else ""
    if items is None:
        items = []
    if not isinstance(items, list):
        raise refuse(document.label, f"must be a list, not {_describe(items)}", f"{prefix}items", items)
    for at, item in enumerate(items):
        path = f"{prefix}items[{at}]"
        if not isinstance(item, dict):
            label = f"{display_name(document.file)}: document {document.index}, {path}"
            raise refuse(label, f"must be a mapping, not {_describe(item)}", value=item)
        filled = _typed(item, value, kind.removesuffix(_LIST))
        yield from _flatten(Document(document.file, document.index, filled, path))


def _typed(item: dict[str, Any], parent: dict[str, Any], kind: str) -> dict[str, Any]:
    if not kind or "kind" in item:
        return item
    inherited = {"apiVersion": parent["apiVersion"]} if "apiVersion" in parent else {}
    return {**inherited, "kind": kind, **item}
