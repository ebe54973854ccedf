"""
Traces: requests as lines of JSON, to be replayed.

Each line is an object with these fields:

=================  =====================================================================================
``at``             seconds from the beginning, 0 or more; no line is earlier than the one before
``prompt``         a text, a number of tokens for a prompt that shares nothing, or a list of parts, each
                   ``{"id": "system-3", "tokens": 1024}``; a part without ``id`` shares nothing
``output_tokens``  tokens of the answer, 1 or more
``model``          the model; optional
``adapter``        the LoRA adapter; optional
``session``        sent as header ``x-session-id``; optional
``answer``         the ``id`` of the answer as a part of later prompts, after the parts of this one; optional
=================  =====================================================================================

Prompts of one model and adapter share the parts that they begin with, as long as these have the same ids.

Traces of Mooncake, with ``timestamp``, ``input_length``, ``output_length`` and ``hash_ids``, are read as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.lab.simulation._arrival import Arrival
from inferencepool.lab.simulation._lines import Fields, WrongLineError
from inferencepool.lab.simulation._mooncake import MooncakeRows
from inferencepool.lab.simulation._prompt import Prompt
from inferencepool.lab.simulation._rows import NAMELESS, TraceRows

__all__ = ["read_trace", "write_trace"]

_MOST_ISSUES = 20


def write_trace(arrivals: Iterable[Arrival]) -> Iterator[str]:
    """Write *arrivals* as lines, with line breaks; `read_trace` reads the same requests from them."""
    for arrival in arrivals:
        line: dict[str, Any] = {"at": arrival.at, "prompt": _write_prompt(arrival.prompt)}
        line["output_tokens"] = arrival.output_tokens
        for field in ("model", "adapter", "session"):
            if value := getattr(arrival, field):
                line[field] = value
        if arrival.answer is not None:
            line["answer"] = arrival.answer.id
        yield json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n"


def _write_prompt(prompt: Prompt) -> str | list[dict[str, Any]]:
    parts = prompt.lineage()
    if any(part.text is not None for part in parts):
        return prompt.to_bytes().decode()
    return [
        {"tokens": part.added_tokens} if part.id.startswith(NAMELESS) else {"id": part.id, "tokens": part.added_tokens}
        for part in parts
    ]


def read_trace(lines: Iterable[str], source: str = "trace") -> tuple[Arrival, ...]:
    """
    Read a trace; empty lines are left out. The first line tells whether it is one of Mooncake.

    Args:
        lines: The lines, with or without line breaks.
        source: What they are from, for errors.

    Raises:
        InvalidDocumentError: A line is not as it should be; the first twenty problems are told, each with the line, the
            field, the value and what is allowed.
    """
    rows: TraceRows | MooncakeRows | None = None
    issues: list[Issue] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = Fields.parse(line)
            if rows is None:
                rows = MooncakeRows() if "hash_ids" in fields else TraceRows()
            rows.add(number, fields)
        except WrongLineError as error:
            field = f"line {number}: {error.issue.field}".removesuffix(": ")
            issues.append(attrs.evolve(error.issue, field=field))
        if len(issues) == _MOST_ISSUES:
            break
    if rows is None and not issues:
        issues.append(Issue("", "holds no request"))
    if rows is None or issues:
        raise InvalidDocumentError(issues, source)
    return rows.arrivals()
