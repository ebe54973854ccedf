"""The file of ``pick --metrics``: metrics by endpoint, or one saved ``/metrics`` page for all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from inferencepool.adapters.exposition import Engine, MetricsReading, engine_named, read_page
from inferencepool.cli._documents import parse_values
from inferencepool.cli._input_file import STANDARD_INPUT, display_name, read_text, refuse
from inferencepool.errors import ConfigurationError, InvalidDocumentError, InvalidMetricsError, Issue
from inferencepool.model import EndpointMetrics

__all__ = ["MetricsFile", "read_metrics_file"]

# A line that only a metrics page has: its comments, or a sample as its first line. A name that ends with a colon is the
# key of a YAML mapping.
_PAGE_COMMENT = re.compile(r"^# (?:HELP|TYPE) [a-zA-Z_:]", re.MULTILINE)
_SAMPLE = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?<!:)(?:[ \t]+[-+.0-9NIni]|[ \t]*\{[ \t]*[a-zA-Z_}])")

_FIELDS = tuple(field.name for field in attrs.fields(EndpointMetrics))
_NAME_LISTS = frozenset({"active_models", "waiting_models"})
_PAGE_FIELDS = ("page", "engine")
# An error in the metrics file itself, whose name is added at the end.
_NO_SOURCE = ""


@attrs.frozen
class MetricsFile:
    """
    What a metrics file says.

    Attributes:
        file: The file it was read from; ``-`` for standard input.
        by_key: Metrics by what the file calls an endpoint: its id, ``ip:port``, or the name of its pod with or without
            the namespace.
        for_all: Metrics of every endpoint, when the file is a page itself; otherwise None.
    """

    file: str
    by_key: Mapping[str, MetricsReading] = attrs.field(factory=dict, hash=False)
    for_all: MetricsReading | None = None


def read_metrics_file(file: str) -> MetricsFile:
    """
    Read metrics from a file.

    The file is a saved ``/metrics`` page, or a YAML or JSON mapping. A value of the mapping is one of

    - a mapping of fields of `EndpointMetrics`, with names of models as lists;
    - a mapping with ``page``, and ``engine`` if it shall not be found out: ``{page: llama-0.txt, engine: vllm}``;
    - a string of several lines, the text of a page; or of one line, the file that a page is in.

    Files of pages are looked for beside the metrics file, or in the working directory for standard input.

    Args:
        file: The name of the file; ``-`` for standard input.

    Raises:
        InvalidDocumentError: The file or a page cannot be read, or holds what is not allowed; every error of a mapping
            is in it, with key and field.
        MissingExtraError: The file is YAML and PyYAML is not installed.
    """
    text = read_text(file)
    if _is_page(text):
        try:
            return MetricsFile(file, for_all=read_page(text))
        except InvalidMetricsError as error:
            raise refuse(display_name(file), str(error)) from None
    values = parse_values(text, file)
    if len(values) > 1:
        raise refuse(display_name(file), f"holds {len(values)} documents, allowed is 1")
    folder = Path() if file == STANDARD_INPUT else Path(file).parent
    by_key: dict[str, MetricsReading] = {}
    issues: list[Issue] = []
    for key, value in values[0][1].items():
        try:
            by_key[key] = _read_entry(value, folder)
        except InvalidDocumentError as error:
            lead = f"{error.source}: " if error.source else ""
            issues += [
                Issue(f"{key}: {issue.field}" if issue.field else key, f"{lead}{issue.reason}", issue.value)
                for issue in error.issues
            ]
    if issues:
        raise InvalidDocumentError(issues, source=display_name(file))
    return MetricsFile(file, by_key)


def _is_page(text: str) -> bool:
    if _PAGE_COMMENT.search(text):
        return True
    lines = (line.strip() for line in text.splitlines())
    first = next((line for line in lines if line and not line.startswith("#")), "")
    return _SAMPLE.match(first) is not None


def _read_entry(value: Any, folder: Path) -> MetricsReading:
    if isinstance(value, str):
        return _read_page(value, folder, None)
    if not isinstance(value, dict):
        reason = "must be a mapping of metrics, or a page as text or as the name of its file"
        raise refuse(_NO_SOURCE, reason, value=value)
    if "page" in value or "engine" in value:
        return _read_page_fields(value, folder)
    return MetricsReading(metrics=_read_fields(value))


def _read_page_fields(value: dict[str, Any], folder: Path) -> MetricsReading:
    issues = [
        Issue(name, f"unknown field beside a page; allowed: {', '.join(_PAGE_FIELDS)}", value[name])
        for name in value
        if name not in _PAGE_FIELDS
    ]
    page, name = value.get("page"), value.get("engine")
    engine: Engine | None = None
    if not isinstance(page, str):
        issues.append(Issue("page", "must be the text of a page or the name of its file", page))
    if name is not None:
        try:
            engine = engine_named(name if isinstance(name, str) else repr(name))
        except ConfigurationError as error:
            issues.append(Issue("engine", str(error), name))
    if issues or not isinstance(page, str):
        raise InvalidDocumentError(issues)
    return _read_page(page, folder, engine)


def _read_page(value: str, folder: Path, engine: Engine | None) -> MetricsReading:
    if "\n" in value:
        source, text = _NO_SOURCE, value
    elif value.strip():
        source = str(folder / value)
        text = read_text(source)
    else:
        reason = "must be the text of a page or the name of its file, and is empty"
        raise refuse(_NO_SOURCE, reason, value=value)
    try:
        return read_page(text, engine)
    except InvalidMetricsError as error:
        raise refuse(source, str(error)) from None


def _read_fields(value: dict[str, Any]) -> EndpointMetrics:
    issues: list[Issue] = []
    for name, given in value.items():
        reason = _check_field(name, given)
        if reason:
            issues.append(Issue(name, reason, given))
    if issues:
        raise InvalidDocumentError(issues)
    # Whoever writes an endpoint down says that what is left out is 0.
    return EndpointMetrics(**{"waiting_queue_size": 0, "running_requests": 0, "kv_cache_usage": 0.0, **value})


def _check_field(name: str, value: Any) -> str:
    """Give what is wrong with one field; empty if nothing is."""
    if name not in _FIELDS:
        return f"unknown metrics field; allowed: {', '.join(_FIELDS)}"
    if name in _NAME_LISTS and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        return f"{value!r} is not a list of names"
    try:
        EndpointMetrics(**{name: value})
    except InvalidMetricsError as error:
        return str(error).removeprefix(f"metrics field {name}: ")
    return ""
