"""JSON, conversations, streams of events and the ways to cut them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

# Halves of surrogate pairs, quotes, backslashes, what looks like a key, and bytes that mark structure in prompts.
AWKWARD_TEXTS = st.sampled_from(
    [
        "",
        '"',
        "\\",
        '\\"',
        'say "model": 1',
        '"model":',
        "\ud800",
        "\udcff",
        "\u00ff\u00fe",
        "\x00",
        "\u2028",
        "user",
        '"usage": {}',
    ]
)
TEXTS = AWKWARD_TEXTS | st.text(max_size=12)
KEYS = st.sampled_from(["model", "Model", "models", "a", "", '"', "\\", "mod\\u0065l"]) | st.text(max_size=4)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
SPACES = st.sampled_from(["", "", " ", "\n\t", "\r\n  "])


@st.composite
def json_texts(draw: st.DrawFn, value: Any) -> str:
    """Write *value* as JSON, with any space and any letter of a string as an escape."""

    def space() -> str:
        return draw(SPACES)

    def write(value: Any) -> str:
        if isinstance(value, str):
            return write_string(value)
        if isinstance(value, list):
            return f"[{space()}{','.join(space() + write(item) + space() for item in value)}]"
        if isinstance(value, dict):
            pairs = (f"{space()}{write_string(key)}{space()}:{space()}{write(value[key])}{space()}" for key in value)
            return f"{{{space()}{','.join(pairs)}}}"
        return json.dumps(value)

    def write_string(text: str) -> str:
        if draw(st.booleans()) and text.isascii():
            escaped = draw(st.integers(0, 2 ** len(text) - 1))
            return "".join(
                [
                    '"',
                    *(f"\\u{ord(c):04x}" if escaped >> i & 1 else json.dumps(c)[1:-1] for i, c in enumerate(text)),
                    '"',
                ]
            )
        return json.dumps(text, ensure_ascii=draw(st.booleans()) or not _is_encodable(text))

    return space() + write(value) + space()


def _is_encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    """Make the text of an object, often with a model in several places and given twice."""
    pairs = draw(st.lists(st.tuples(KEYS, VALUES), max_size=5))
    body = draw(json_texts({}))
    start = body.index("{") + 1
    texts = [f"{draw(json_texts(key))}:{draw(json_texts(value))}" for key, value in pairs]
    return f"{body[:start]}{','.join(texts)}{body[start:]}".encode()


def messages() -> st.SearchStrategy[dict[str, Any]]:
    """Make messages of a conversation with texts, media and calls."""
    text = st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
    image = st.builds(
        lambda url: {"type": "image_url", "image_url": {"url": url}}, TEXTS | st.just("data:" + "x" * 300)
    )
    result = st.builds(
        lambda content: {"type": "tool_result", "tool_use_id": "t", "content": content},
        TEXTS | st.lists(text | image, max_size=2),
    )
    content = TEXTS | st.none() | st.lists(text | image | result, max_size=3)
    message = st.builds(lambda role, content: {"role": role, "content": content}, TEXTS, content)
    calls = st.lists(st.dictionaries(KEYS, TEXTS, max_size=2), min_size=1, max_size=2)
    return message | st.builds(lambda message, calls: {**message, "tool_calls": calls}, message, calls)


@st.composite
def cuts(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut *data* into chunks, some of them empty."""
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


@st.composite
def event_streams(draw: st.DrawFn, payloads: st.SearchStrategy[str]) -> bytes:
    """Make a stream of events with any ends of lines, comments, other fields and data of several lines."""
    parts = [draw(st.sampled_from(["", "\ufeff", "\n", "\r"]))]
    for payload in draw(st.lists(payloads, max_size=5)):
        lines = [f"data:{draw(st.sampled_from(['', ' ']))}{line}" for line in payload.split("\n")]
        if draw(st.booleans()):
            lines.insert(
                draw(st.integers(0, len(lines))), draw(st.sampled_from([": a comment", "event: x", "id", "data"]))
            )
        parts.extend(line + draw(st.sampled_from(["\n", "\r", "\r\n"])) for line in lines)
        parts.append(draw(st.sampled_from(["\n", "\r", "\r\n", "\n\n", ""])))
    return "".join(parts).encode()
