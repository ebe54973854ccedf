"""The command ``convert``: manifests of the other version of the API."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from inferencepool.cli._conversion import Converted, convert_document
from inferencepool.cli._documents import Document, parse_documents
from inferencepool.cli._input_file import display_name, read_text
from inferencepool.cli._output import report
from inferencepool.cli._yaml import write_yaml
from inferencepool.errors import InvalidDocumentError, Issue

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]


def add_command(commands: _SubParsersAction[argparse.ArgumentParser], text: str) -> None:
    """Add the command to the parser; the *text* says what it does."""
    parser = commands.add_parser(
        "convert",
        help=text,
        description=f"{text.capitalize()}. Prints all documents of the file, those of other kinds as they are, without "
        "comments; what cannot be said in the other version, and what else changes, is noted on standard error.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="YAML or JSON; - for standard input")
    add("--to", choices=("v1", "v1alpha2"), required=True, help="the version of InferencePool to write")
    add("--output", choices=("yaml", "json"), help="the form of the output (that of the file)")
    parser.set_defaults(run=_run, usage_error=parser.error)


def _run(arguments: argparse.Namespace) -> int:
    text = read_text(arguments.file)
    documents = parse_documents(text, arguments.file)
    source = display_name(arguments.file)
    form = arguments.output or ("json" if text.lstrip()[:1] in ("{", "[") else "yaml")
    made: list[dict[str, Any]] = []
    issues: list[Issue] = []
    for document in documents:
        try:
            converted = convert_document(document.value, arguments.to)
        except InvalidDocumentError as error:
            issues += map(document.at, error.issues)
            continue
        made += converted.documents
        _tell(document, converted)
    if issues:
        raise InvalidDocumentError(issues, source=source)
    if any(line.lstrip().startswith("#") or " #" in line for line in text.split("\n")) and form == "yaml":
        report(f"note: {source}: comments are not kept")
    print(_to_text(made, form))
    return 0


def _tell(document: Document, converted: Converted) -> None:
    for note in converted.notes:
        report(f"note: {document.label}: {note}")


def _to_text(documents: list[dict[str, Any]], form: str) -> str:
    if form == "json":
        value = documents[0] if len(documents) == 1 else {"apiVersion": "v1", "kind": "List", "items": documents}
        return json.dumps(value, indent=2, ensure_ascii=False)
    return write_yaml(documents)
