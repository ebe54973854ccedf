"""The files of ``pick --pool`` and ``pick --pods``: one pool, and pods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import attrs

from inferencepool.cli._documents import Document, read_documents
from inferencepool.cli._input_file import display_name
from inferencepool.cli._output import report
from inferencepool.cli._passing_over import note_unknown_fields, pass_over
from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import InferencePool, Pod, parse_object

__all__ = ["PodDocument", "find_pods", "find_pool", "read_pods_file", "read_pool_file"]

_T = TypeVar("_T", InferencePool, Pod)


@attrs.frozen
class PodDocument:
    """
    A pod, and where it was read.

    Attributes:
        pod: The pod.
        label: File and place in it, such as ``pods.yaml: document 1, items[3]``.
    """

    pod: Pod
    label: str


def read_pool_file(file: str, *, strict: bool = False) -> InferencePool:
    """
    Read the one pool that a file holds; documents of other kinds, and unknown fields, are passed over with a note.

    Args:
        file: The name of the file; ``-`` for standard input.
        strict: Refuse them.

    Raises:
        InvalidDocumentError: The file cannot be read, holds no pool or several, or its pool is not valid.
        MissingExtraError: The file is YAML and PyYAML is not installed.
    """
    documents = read_documents(file)
    pool = find_pool(documents, file)
    used, note = pass_over(documents, file, (InferencePool.__name__,), strict=strict)
    _tell(note)
    for each in note_unknown_fields(used, file, strict=strict):
        _tell(each)
    return pool


def find_pool(documents: Sequence[Document], file: str) -> InferencePool:
    """Find the one pool among the *documents* of a file, as `read_pool_file` does."""
    pools = [document for document in documents if document.value.get("kind") == InferencePool.__name__]
    if len(pools) == 1:
        return _parse(pools[0], InferencePool)
    if pools:
        places = "; ".join(document.position for document in pools)
        reason = f"holds {len(pools)} InferencePools ({places}), allowed is exactly one"
    else:
        named = (document.value.get("kind") for document in documents)
        kinds = sorted({repr(kind) if kind else "documents without a kind" for kind in named})
        reason = f"holds no InferencePool, but {', '.join(kinds) or 'an empty list'}"
    raise InvalidDocumentError([Issue("", reason)], source=display_name(file))


def read_pods_file(file: str, *, strict: bool = False) -> tuple[PodDocument, ...]:
    """
    Read the pods of a file; documents of other kinds are passed over with a note.

    Args:
        file: The name of the file; ``-`` for standard input.
        strict: Refuse documents of other kinds.

    Raises:
        InvalidDocumentError: The file cannot be read, holds no pods but something else, a pod that is not valid, or a
            pod twice; all errors are in it.
        MissingExtraError: The file is YAML and PyYAML is not installed.
    """
    pods, note = find_pods(read_documents(file), file, strict=strict)
    _tell(note)
    return pods


def find_pods(documents: Sequence[Document], file: str, *, strict: bool = False) -> tuple[tuple[PodDocument, ...], str]:
    """Read the *documents* of a file of pods, as `read_pods_file` does; gives the note as well, empty for none."""
    given, note = pass_over(documents, file, (Pod.__name__,), strict=strict)
    if documents and not given:
        kinds = ", ".join(sorted({repr(document.value["kind"]) for document in documents}))
        raise InvalidDocumentError([Issue("", f"holds no Pod, but {kinds}")], source=display_name(file))
    found: dict[tuple[str, str], PodDocument] = {}
    issues: list[Issue] = []
    for document in given:
        try:
            pod = _parse(document, Pod)
        except InvalidDocumentError as error:
            issues += map(document.at, error.issues)
            continue
        if pod.key in found:
            first = found[pod.key].label
            issue = Issue("metadata.name", f"pod {pod.namespace}/{pod.name} was read before ({first})", pod.name)
            issues.append(document.at(issue))
        else:
            found[pod.key] = PodDocument(pod, document.label)
    if issues:
        raise InvalidDocumentError(issues, source=display_name(file))
    return tuple(found.values()), note


def _tell(note: str) -> None:
    if note:
        report(note)


def _parse(document: Document, kind: type[_T]) -> _T:
    given = document.value.get("kind")
    if given != kind.__name__:
        raise InvalidDocumentError([Issue("kind", f"{given!r} is not {kind.__name__}", given)], source=document.label)
    try:
        parsed = parse_object(document.value)
    except InvalidDocumentError as error:
        raise InvalidDocumentError(error.issues, source=document.label) from None
    assert isinstance(parsed, kind)  # noqa: S101 - the kind was compared above; this tells the type checker
    return parsed
