"""What is tried, and what the picker may take for it."""

from __future__ import annotations

from typing import Final

import attrs

from benchmarks.hostile.bodies import MODEL, REWRITTEN, Bodies
from benchmarks.hostile.pages import PAGE_SIZE, Pages
from benchmarks.hostile.wire import GzipBombs, RpcBursts, Silence

__all__ = ["CASES", "MOST_LATER", "MOST_STEP", "MOST_TIMES", "Case"]

#: The 99th percentile of the others with the hostile one, against that without.
MOST_TIMES: Final = 5.0
#: The longest step of the picker's event loop, in seconds of its thread's CPU.
MOST_STEP: Final = 0.025
#: Memory 5 s later, against that before.
MOST_LATER: Final = 1.3

_MIB = 1 << 20
# The largest body that the findings are about.
_BODY = 16_800_000
_HELD = 4
_FEW = 20


@attrs.frozen
class Case:
    """
    One hostile client or pod, and the limits that hold for it beside those that hold for all.

    Attributes:
        name: What it does.
        attack: What is sent, and how.
        memory: Bytes that the picker may take more while it lasts.
        seconds: How long it lasts.
        secure: Whether the picker serves with TLS.
        descriptors: Files that the picker may open; None for as many as there are.
        lines: Most lines that the picker may log; None where each request may have one.
        lets_in: Whether new gateways must get in.
    """

    name: str
    attack: Bodies | Pages | GzipBombs | RpcBursts | Silence
    memory: int
    seconds: float = 20.0
    secure: bool = False
    descriptors: int | None = None
    lines: int | None = None
    lets_in: bool = True


def _body(name: str, attack: Bodies) -> Case:
    return Case(name, attack, memory=_HELD * attack.size)


def _page(name: str, kind: str) -> Case:
    return Case(name, Pages(kind), memory=_HELD * PAGE_SIZE)


_HEAD = f'{{"model":"{MODEL}","max_tokens":4,'
_USER = _HEAD + '"messages":[{"role":"user","content":['
_TOOL = '{"type":"function","function":{"name":"look_up","parameters":{"type":"object","properties":{}}}}'
_MESSAGE = '{"role":"user","content":"The quick brown fox jumps over the lazy dog."}'
_RESULT = '{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"a"}]}'

CASES: Final = {
    case.name: case
    for case in (
        _body("empty parts", Bodies(_BODY, "{}", _USER, "]}]}")),
        _body("tool results", Bodies(_BODY, _RESULT, _USER, "]}]}", path="/v1/messages")),
        _body(
            "Responses items", Bodies(_BODY, '{"role":"user","content":"a"}', _HEAD + '"input":[', path="/v1/responses")
        ),
        _body("token ids", Bodies(_BODY, "1234", _HEAD + '"prompt":[', path="/v1/completions")),
        _body("tools", Bodies(_BODY, _TOOL, _HEAD + f'"messages":[{_MESSAGE}],"tools":[')),
        _body("many messages", Bodies(_BODY, _MESSAGE)),
        _body("one long text", Bodies(_BODY, "lorem ipsum ", _HEAD + '"messages":[{"content":"', '"}]}', between="")),
        _body(
            "repeated model, rewritten",
            Bodies(8 * _MIB, f'"model":"{REWRITTEN}"', "{", f',"messages":[{_MESSAGE}]}}'),
        ),
        _page("page of LoRA series", "loras"),
        _page("page of changing labels", "labels"),
        _page("page of escapes", "escapes"),
        Case("gzip bombs", GzipBombs(rpcs=60, pieces=8, size=2 * _MIB), memory=128 * _MIB, seconds=10),
        Case("silent connections", Silence(1100), memory=64 * _MIB, seconds=10, lines=_FEW),
        Case(
            "silent TLS connections",
            Silence(5000, greets=False),
            memory=128 * _MIB,
            seconds=10,
            secure=True,
            lines=_FEW,
        ),
        Case("1,400 RPCs at once", RpcBursts(1400), memory=64 * _MIB, seconds=10),
        Case(
            "descriptor limit",
            Silence(400),
            memory=64 * _MIB,
            seconds=10,
            descriptors=256,
            lines=_FEW,
            lets_in=False,
        ),
    )
}
