"""Documents of other kinds than a command works on: told in one note, or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inferencepool.cli._documents import Document
from inferencepool.cli._input_file import display_name
from inferencepool.errors import InvalidDocumentError, Issue

__all__ = ["pass_over"]


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
