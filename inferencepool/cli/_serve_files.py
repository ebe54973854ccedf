"""The files of ``serve``: what is read once, and what is read again when it changes."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from inferencepool.adapters.endpoints_file import MAX_FILE_SIZE as MAX_ENDPOINTS_FILE_SIZE
from inferencepool.adapters.endpoints_file import read_endpoints
from inferencepool.cli._documents import Document, parse_documents, parse_values, read_documents
from inferencepool.cli._input_file import MAX_FILE_SIZE, decode_text, display_name, refuse
from inferencepool.cli._manifests import PodDocument, find_pods, find_pool
from inferencepool.cli._passing_over import note_unknown_fields, pass_over
from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import InferenceModelRewrite, InferenceObjective, InferencePool, parse_object
from inferencepool.registry import EndpointRegistry
from inferencepool.runtime.server import WatchedFile
from inferencepool.selection import membership_issue

__all__ = ["PoolFile", "endpoints_file", "pods_file", "read_serve_pool_file"]

_KINDS = (InferenceObjective.__name__, InferenceModelRewrite.__name__)


@attrs.frozen
class PoolFile:
    """
    What a pool file says.

    Attributes:
        pool: Its one pool.
        objectives: Objectives of that pool.
        rewrites: Model rewrites of that pool.
        notes: What the user should know: objectives and rewrites of other pools, which are not used.
    """

    pool: InferencePool
    objectives: tuple[InferenceObjective, ...] = ()
    rewrites: tuple[InferenceModelRewrite, ...] = ()
    notes: tuple[str, ...] = ()


def read_serve_pool_file(file: str, *, strict: bool = False) -> PoolFile:
    """
    Read the one pool of a file, with its objectives and rewrites.

    Documents of other kinds, and unknown fields, are passed over with a note, or with *strict* refused.

    Raises:
        InvalidDocumentError: The file cannot be read, holds no pool or several, or one of them is not valid.
        MissingExtraError: The file is YAML and PyYAML is not installed.
    """
    documents = read_documents(file)
    pool = find_pool(documents, file)
    objectives: list[InferenceObjective] = []
    rewrites: list[InferenceModelRewrite] = []
    used, note = pass_over(documents, file, (InferencePool.__name__, *_KINDS), strict=strict)
    notes = [note] if note else []
    issues: list[Issue] = []
    for document in used:
        if document.value.get("kind") not in _KINDS:
            continue
        try:
            parsed = _parse(document)
        except InvalidDocumentError as error:
            issues += map(document.at, error.issues)
            continue
        reference, owner = parsed.pool_ref, f"{parsed.metadata.namespace}/{parsed.pool_ref.name}"
        if reference.kind != InferencePool.__name__ or owner != f"{pool.namespace}/{pool.name}":
            what = f"{type(parsed).__name__} {parsed.metadata.namespace}/{parsed.metadata.name}"
            notes.append(f"{document.label}: {what} is of {reference.kind} {owner} and is not used")
        elif isinstance(parsed, InferenceObjective):
            objectives.append(parsed)
        else:
            rewrites.append(parsed)
    if issues:
        raise InvalidDocumentError(issues, source=display_name(file))
    notes += note_unknown_fields(used, file, strict=strict)
    return PoolFile(pool, tuple(objectives), tuple(rewrites), tuple(notes))


def pods_file(file: str, pool: InferencePool, registry: EndpointRegistry, *, strict: bool = False) -> WatchedFile:
    """Give the file of *pool*'s pods; with one pod that is not valid, none is taken over."""

    def load(content: bytes) -> tuple[Issue, ...]:
        documents, note = find_pods(parse_documents(decode_text(content, file), file), file, strict=strict)
        registry.resync(document.pod for document in documents)
        passed_over = (Issue("", note.partition(f"{file}: ")[2]),) if note else ()
        return (*passed_over, *_contradictions(pool, documents))

    return WatchedFile(path=file, limit=MAX_FILE_SIZE, load=load)


def endpoints_file(file: str, registry: EndpointRegistry) -> WatchedFile:
    """Give a file of endpoints; entries that are wrong are left out."""

    def load(content: bytes) -> tuple[Issue, ...]:
        values = parse_values(decode_text(content, file), file)
        if len(values) > 1:
            raise refuse(file, f"holds {len(values)} documents, allowed is 1")
        try:
            found = read_endpoints(values[0][1])
        except InvalidDocumentError as error:
            raise InvalidDocumentError(error.issues, source=f"{file}: document {values[0][0]}") from None
        registry.set_endpoints(found.endpoints)
        return found.issues

    return WatchedFile(path=file, limit=MAX_ENDPOINTS_FILE_SIZE, load=load)


def _parse(document: Document) -> InferenceObjective | InferenceModelRewrite:
    parsed = parse_object(document.value)
    assert isinstance(parsed, InferenceObjective | InferenceModelRewrite)  # noqa: S101 - its kind was looked at
    return parsed


def _contradictions(pool: InferencePool, documents: tuple[PodDocument, ...]) -> Iterator[Issue]:
    """Find pods that say they serve, and to which nothing can be sent."""
    for document in documents:
        pod = document.pod
        serves = pod.ready and pod.deletion_timestamp is None and pod.namespace == pool.namespace
        if serves and pool.selector.matches(pod.labels) and (issue := membership_issue(pool, pod)):
            yield Issue("status.podIP", f"Ready pod {pod.namespace}/{pod.name} {issue}, so it is left out", pod.ip)
