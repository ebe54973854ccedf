"""What of a file a command does not work on: documents of other kinds, and unknown fields, told in notes or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inferencepool.cli._documents import Document
from inferencepool.cli._input_file import display_name
from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import parse_object

__all__ = ["note_unknown_fields", "pass_over"]


def pass_over(
    documents: Sequence[Document], file: str, kinds: Sequence[str], *, strict: bool = False
) -> tuple[list[Document], str]:
    """
    Leave out the documents that are not of one of *kinds*; those without a kind stay, as they may be mistakes.

    Returns:
        The documents that are left, and one line about the others; empty where there are none.

    Raises:
        InvalidDocumentError: There are others, and *strict* refuses them.
    """
    kept: list[Document] = []
    others: list[Document] = []
    for document in documents:
        kind = document.value.get("kind")
        (others if isinstance(kind, str) and kind and kind not in kinds else kept).append(document)
    if strict and others:
        allowed = ", ".join(kinds)
        issues = [
            Issue(f"{each.position}: kind", f"{each.value['kind']!r} is not one of {allowed}", each.value["kind"])
            for each in others
        ]
        raise InvalidDocumentError(issues, source=display_name(file))
    if not others:
        return kept, ""
    counted = Counter(str(document.value["kind"]) for document in others)
    told = ", ".join(f"{count} x {kind}" if count > 1 else kind for kind, count in sorted(counted.items()))
    noun = "document" if len(others) == 1 else "documents"
    return kept, f"note: {display_name(file)}: {len(others)} {noun} of other kinds passed over: {told}"


def note_unknown_fields(documents: Sequence[Document], file: str, *, strict: bool = False) -> list[str]:
    """
    Give a line for each document with fields that its kind does not have, such as those that are misspelt.

    Args:
        documents: Documents that are valid but for that, and no pods, whose fields are not looked at.
        file: Where they were read.
        strict: Refuse such fields.

    Raises:
        InvalidDocumentError: There are such fields, and *strict* refuses them.
    """
    found: list[list[Issue]] = []
    for document in documents:
        try:
            parse_object(document.value, unknown="error")
        except InvalidDocumentError as error:
            found.append([document.at(issue) for issue in error.issues])
    if strict and found:
        raise InvalidDocumentError([issue for issues in found for issue in issues], source=display_name(file))
    return [f"note: {display_name(file)}: {'; '.join(map(str, issues))}" for issues in found]
