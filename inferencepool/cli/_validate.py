"""The command ``validate``: are these manifests what the API allows?"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from inferencepool.cli._documents import Document, read_documents
from inferencepool.cli._flags import add_strict
from inferencepool.cli._input_file import STANDARD_INPUT, display_name
from inferencepool.cli._objects import JUDGED, judge
from inferencepool.cli._output import one_line, report
from inferencepool.cli._passing_over import pass_over
from inferencepool.errors import InferencePoolError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]


def add_command(commands: _SubParsersAction[argparse.ArgumentParser], text: str) -> None:
    """Add the command to the parser; the *text* says what it does."""
    parser = commands.add_parser(
        "validate",
        help=text,
        description=f"{text.capitalize()}. Prints FILE: DOCUMENT: FIELD: reason for each error, to standard error. "
        "Documents of other kinds are passed over.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", help="YAML or JSON; - for standard input")
    add_strict(parser)
    parser.set_defaults(run=_run, usage_error=parser.error)


def _run(arguments: argparse.Namespace) -> int:
    files: list[str] = arguments.files
    if files.count(STANDARD_INPUT) > 1:
        arguments.usage_error("standard input (-) can be read only once")
    # All files are reported, also those after the first that is wrong.
    verdicts = [_validate_file(file, strict=arguments.strict) for file in files]
    return int(not all(verdicts))


def _validate_file(file: str, *, strict: bool) -> bool:
    try:
        documents, note = pass_over(read_documents(file), file, JUDGED, strict=strict)
    except InferencePoolError as error:
        message = str(error)
        lead = display_name(file)
        report("\n".join(line if line.startswith(lead) else f"{lead}: {line}" for line in message.split("\n")), "")
        return False
    if note:
        report(note, "")
    lines = [line for document in documents for line in _lines(document)]
    if lines:
        report("\n".join(lines), "")
        return False
    noun = "document" if len(documents) == 1 else "documents"
    print(one_line(f"{display_name(file)}: {len(documents)} {noun} valid"))
    return True


def _lines(document: Document) -> Iterator[str]:
    for issue in judge(document.value):
        yield one_line(f"{document.label}: {issue}")
