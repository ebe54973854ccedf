"""Conversations as bytes: alike as far as they are alike."""

from __future__ import annotations

import json
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import BodyParsers
from tests.strategies.bodies import TEXTS, messages

PARSERS = BodyParsers()
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"b": 1, "a": 2}}}]
CHAT, ANTHROPIC, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"


def prompt(messages: list[Any], path: str = CHAT, **fields: Any) -> bytes:
    """Give the bytes of a conversation."""
    name = "input" if path == RESPONSES else "messages"
    return PARSERS.parse({":path": path}, json.dumps({name: messages, **fields}).encode()).prompt


def seen(message: dict[str, Any]) -> Any:
    """Give what of *message* a model sees: a string is a part of text, and what is null is not there."""
    content = message["content"]
    parts = [text_part(content)] if isinstance(content, str) else [seen_part(part) for part in content or []]
    return [message["role"], parts, {name: message[name] for name in message.keys() - {"role", "content"}}]


def seen_part(part: dict[str, Any]) -> Any:
    """Give what of *part* a model sees."""
    if isinstance(part.get("content"), str):
        return {**part, "content": [text_part(part["content"])]}
    return part


def text_part(text: str) -> dict[str, str]:
    """Make a part of text."""
    return {"type": "text", "text": text}


def common_prefix(first: bytes, second: bytes) -> bytes:
    """Give what both begin with."""
    return bytes(left for left, right in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


@pytest.mark.parametrize("path", [CHAT, ANTHROPIC, RESPONSES])
@given(data=st.data(), shared=st.lists(messages(), min_size=1, max_size=3))
def test_a_longer_conversation_begins_with_the_shorter(path: str, data: st.DataObject, shared: list[Any]) -> None:
    """Conversations that share their first messages and their tools share a prefix, which is the shorter as a whole."""
    more = data.draw(st.lists(messages(), max_size=2))

    assert prompt(shared + more, path, tools=TOOLS).startswith(prompt(shared, path, tools=TOOLS))


@given(st.lists(messages(), min_size=1, max_size=2), st.lists(messages(), min_size=1, max_size=2))
def test_conversations_that_differ_never_collide(first: list[Any], second: list[Any]) -> None:
    """Two conversations have the same bytes exactly if a model sees the same."""
    assert (prompt(first) == prompt(second)) == (list(map(seen, first)) == list(map(seen, second)))


@given(TEXTS, TEXTS, TEXTS)
def test_texts_share_what_they_begin_with(shared: str, first: str, second: str) -> None:
    """The bytes of two messages are alike as far as their texts are; no length stands in front of a text."""
    text = prompt([{"role": "user", "content": shared}])
    common = common_prefix(
        prompt([{"role": "user", "content": shared + first}]),
        prompt([{"role": "user", "content": shared + second}]),
    )

    assert common.startswith(text) or "\ud800" <= shared[-1:] <= "\udfff"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([{"role": "user", "content": "ab"}], [{"role": "usera", "content": "b"}]),
        ([{"role": "user", "content": "a"}], [{"role": "user", "content": ["a", "b"]}]),
        ([{"role": "user", "content": None}], [{"role": "user", "content": ""}]),
        ([{"role": "user", "content": "a"}], [{"role": "user", "content": ""}, {"role": "a"}]),
        ([{"role": "tool", "content": "a"}], [{"role": "tool", "content": "a", "tool_call_id": "1"}]),
        ([{"role": "tool", "content": "a", "name": "x"}], [{"role": "tool", "content": "a", "name": "y"}]),
    ],
)
def test_what_differs(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """Roles, contents, parts and further fields are told apart."""
    texts = [
        [{**message, "content": [text_part(text) for text in message["content"]]} for message in messages]
        if isinstance(messages[0].get("content"), list)
        else messages
        for messages in (first, second)
    ]

    assert prompt(texts[0]) != prompt(texts[1])


def test_what_is_alike() -> None:
    """A string is one part of text; null, the order of keys and marks for caching say nothing to a model."""
    plain = prompt([{"role": "user", "content": "a"}], tools=TOOLS)
    part = {**text_part("a"), "cache_control": {"type": "ephemeral"}}
    message: dict[str, Any] = {"content": [part], "refusal": None, "role": "user", "cache_control": {}}
    tools = [{"function": {"parameters": {"a": 2, "b": 1}, "name": "f"}, "type": "function"}]
    call = {"type": "tool_use", "id": "1", "name": "f", "input": {}}

    assert plain == prompt([message], tools=tools)
    assert prompt([{"role": "a", "content": [call]}]) == prompt(
        [{"role": "a", "content": [call | {"cache_control": 1}]}]
    )


def test_tools_come_first() -> None:
    """Other tools or other instructions leave nothing alike."""
    messages = [{"role": "user", "content": "a" * 50}]

    assert prompt(messages, tools=TOOLS).endswith(prompt(messages))
    assert prompt(messages, tools=[]) == prompt(messages)
    assert len(common_prefix(prompt(messages, ANTHROPIC, system="x"), prompt(messages, ANTHROPIC, system="y"))) < 10
    assert prompt([], RESPONSES, instructions="x", tools=TOOLS).endswith(b"\xfesystem\xffx")


def test_media() -> None:
    """A short address stands as it is; data is known by its digest, however long it is."""

    def image(url: str) -> bytes:
        return prompt([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])

    assert b"https://example.com/a.png" in image("https://example.com/a.png")
    assert image("data:" + "a" * 100_000) == image("data:" + "a" * 100_000)
    assert image("data:" + "a" * 100_000) != image("data:" + "a" * 99_999 + "b")
    assert len(image("data:" + "a" * 100_000)) < 100


def test_results_of_tools_stand_as_they_are() -> None:
    """The text that a tool gave counts in full, and ends where the next part begins."""
    result = {"type": "tool_result", "tool_use_id": "1", "content": "r" * 1_000}
    within = [{**result, "content": [text_part("a"), text_part("b")]}]
    behind = [{**result, "content": [text_part("a")]}, text_part("b")]
    odd = [{**result, "content": [result, 1, "x", None]}]

    assert b"r" * 1_000 in prompt([{"role": "user", "content": [result]}], ANTHROPIC)
    assert prompt([{"role": "user", "content": within}]) != prompt([{"role": "user", "content": behind}])
    assert b"\xffx" in prompt([{"role": "user", "content": odd}])


def test_long_calls_are_no_media() -> None:
    """What the model reads as text counts in full."""
    call = {"type": "tool_use", "name": "write", "input": {"text": "w" * 1_000}}

    assert b"w" * 1_000 in prompt([{"role": "assistant", "content": [call]}], ANTHROPIC)


def test_items_of_responses() -> None:
    """Calls are items beside the messages; ids and states of messages change nothing."""
    message = {"role": "user", "content": "a"}
    call = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    sent_back = {**message, "type": "message", "id": "msg_1", "status": "completed"}

    assert prompt([message, call], RESPONSES).startswith(
        prompt([sent_back], RESPONSES) + b"\xfe\xff\xfcfunction_call\xfb"
    )
    assert prompt([message], RESPONSES) == prompt("a", RESPONSES)  # type: ignore[arg-type]  # wrong on purpose
    assert prompt([{"role": "user", "content": 1}, 7, None], RESPONSES).count(b"\xfe\xff\xfc") == 3
    assert prompt([{"role": "user", "content": [text_part("a"), call]}], RESPONSES) != prompt(
        [message, call], RESPONSES
    )
