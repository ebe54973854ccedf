"""
What it costs to read the bodies of requests that have many values, by the MiB, and how long one step of it takes.

The baseline is ``json.loads`` of a chat of many messages of the same size, timed in turns with what is measured, so
that both have the same machine. CPU time of the process counts, because others may be at work beside it.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from statistics import median
from time import process_time

from benchmarks.measure import Row
from inferencepool.adapters.bodies import BodyParsers

__all__ = ["measure_bodies"]

_SIZE = 16 << 20
_MIB = 1 << 20
_ROUNDS = 3
_CHAT = "/v1/chat/completions"
_MESSAGE = b'{"role":"user","content":"Tell me what you think about the weather in the mountains, please."},'
_ASK = b'"messages":[{"role":"user","content":"x"}]'

# Ratios that stand for 9 and 8 ms per MiB where the baseline takes 13.
_MOST_MESSAGES = 0.7
_MOST_TOKENS = 0.6
_MOST_STEP_MS = 25.0


def _fill(unit: bytes) -> bytes:
    """Repeat *unit*, which ends with a comma, up to the size; without the last comma."""
    return (unit * (_SIZE // len(unit)))[:-1]


# Name; path; what stands around what is repeated; what is repeated; the most that it may take, as a ratio.
_SHAPES: tuple[tuple[str, str, bytes, bytes, float | None], ...] = (
    ("many messages", _CHAT, b'{"model":"m","messages":[%b]}', _MESSAGE, _MOST_MESSAGES),
    ("token ids", "/v1/completions", b'{"model":"m","prompt":[%b]}', b"12345,", _MOST_TOKENS),
    ("one long text", _CHAT, b'{"model":"m","messages":[{"role":"user","content":"%b"}]}', b"the weather, ", None),
    ("empty parts", _CHAT, b'{"model":"m","messages":[{"role":"user","content":[%b]}]}', b"{},", None),
    (
        "tool results",
        "/v1/messages",
        b'{"model":"m","messages":[{"role":"user","content":[%b]}]}',
        b'{"type":"tool_result"},',
        None,
    ),
    ("items of responses", "/v1/responses", b'{"model":"m","input":[%b]}', b"{},", None),
    ("tools", _CHAT, b'{"model":"m","tools":[%%b],%b}' % _ASK, b'{"a":1},', None),
    ("keys called model", _CHAT, b'{%%b,"model":"m",%b}' % _ASK, b'"model":1,', None),
    ("other keys", _CHAT, b'{%%b,"model":"m",%b}' % _ASK, b'"a":[[]],', None),
    ("lists in lists", _CHAT, b'{"model":"m","x":[%%b],%b}' % _ASK, b"[" * 400 + b"]" * 400 + b",", None),
    ("empty strings", _CHAT, b'{"model":"m","x":[%%b],%b}' % _ASK, b'"",', None),
)


def _steps_of(parsers: BodyParsers, path: str, body: bytes) -> tuple[float, float]:
    """Read *body*; give the seconds of all steps and of the longest."""
    steps = parsers.read({":path": path}, body)
    total = longest = 0.0
    is_over = False
    while not is_over:
        start = process_time()
        try:
            next(steps)
        except StopIteration:
            is_over = True
        seconds = process_time() - start
        total += seconds
        longest = max(longest, seconds)
    return total, longest


def _time_of(call: Callable[[], object]) -> float:
    start = process_time()
    call()
    return process_time() - start


def measure_bodies() -> Iterator[Row]:
    """Read a body of each shape in turns with the baseline."""
    parsers = BodyParsers()
    baseline = b'{"model":"m","messages":[%b]}' % _fill(_MESSAGE)
    worst = 0.0
    for name, path, frame, unit, most in _SHAPES:
        body = frame % _fill(unit)
        ours, theirs, ratios = [], [], []
        for _ in range(_ROUNDS):
            gc.collect()
            total, longest = _steps_of(parsers, path, body)
            worst = max(worst, longest)
            gc.collect()
            ours.append(total * _MIB / len(body))
            theirs.append(_time_of(lambda: json.loads(baseline)) * _MIB / len(baseline))
            ratios.append(ours[-1] / theirs[-1])
        ratio = median(ratios)
        yield Row(
            f"body of 16 MiB: {name}",
            f"{median(ours) * 1e3:.1f} ms/MiB",
            f"json.loads {median(theirs) * 1e3:.1f} ms/MiB",
            f"{ratio:.2f}",
            "" if most is None else f"<= {most:g} x",
            None if most is None else ratio <= most,
        )
    yield Row(
        "longest step of reading these bodies",
        f"{worst * 1e3:.1f} ms",
        "",
        "",
        f"<= {_MOST_STEP_MS:g} ms",
        worst * 1e3 <= _MOST_STEP_MS,
    )
