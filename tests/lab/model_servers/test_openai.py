"""Reading bodies of the OpenAI API."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidRequestError
from inferencepool.lab.model_servers._openai import error_document, read_inquiry, write_text


def body_of(**fields: Any) -> bytes:
    """Write a body for model m."""
    return json.dumps({"model": "m", **fields}).encode()


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [("", 1), ("abcd", 1), ("abcde", 2), (["abcde"], 2), ([1, 2, 3], 3), ([[1, 2, 3]], 3), ("\ud800", 1)],
)
def test_prompt(prompt: object, tokens: int) -> None:
    """A prompt is one text or one list of tokens; four bytes of text are a token."""
    assert tokens == read_inquiry(body_of(prompt=prompt), chat=False).prompt_tokens


@pytest.mark.parametrize(
    ("contents", "tokens"),
    [
        (["abcd", "abcde"], 3),
        ([None, "abcd"], 1),
        ([[{"type": "text", "text": "abcd"}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 9999}}]], 257),
        ([None], 1),
    ],
)
def test_messages(contents: list[object], tokens: int) -> None:
    """The texts of a chat count, and an attachment counts the same whatever its size."""
    messages = [{"role": "user", "content": content} for content in contents]

    assert tokens == read_inquiry(body_of(messages=messages), chat=True).prompt_tokens


def test_prompts_that_begin_alike() -> None:
    """The prompt itself is read: same texts, token ids and attachments are the same bytes, four for each token."""
    picture = {"type": "image_url", "image_url": {"url": "data:x"}}
    system = {"role": "system", "content": "Be brief."}

    def prompt_of(*messages: object) -> bytes:
        return read_inquiry(body_of(messages=messages), chat=True).prompt

    first = prompt_of(system, {"role": "user", "content": [picture, {"type": "text", "text": "What?"}]})
    second = prompt_of(system, {"role": "user", "content": [picture, {"type": "text", "text": "Why?"}]})
    other = prompt_of(system, {"role": "user", "content": [picture | {"detail": "low"}]})
    assert prompt_of(system) == b"Be brief.\0\0\0"
    assert first[: (3 + 256) * 4] == second[: (3 + 256) * 4] != other
    assert first[(3 + 256) * 4 :] == b"What?\0\0\0"
    tokens = [read_inquiry(body_of(prompt=ids), chat=False).prompt for ids in ([1, 2, 3], [1, 2])]
    assert tokens[0].startswith(tokens[1])


def test_every_field() -> None:
    """All fields are read."""
    inquiry = read_inquiry(
        body_of(
            prompt="x",
            max_tokens=7,
            min_tokens=2,
            ignore_eos=True,
            stream=True,
            stream_options={"include_usage": True},
            n=1,
        ),
        chat=False,
    )

    assert ("m", 7, 2) == (inquiry.model, inquiry.max_tokens, inquiry.min_tokens)
    assert inquiry.ignore_eos
    assert inquiry.stream
    assert inquiry.include_usage


def test_null_stands_for_absent() -> None:
    """Clients write null where they mean nothing."""
    assert read_inquiry(body_of(prompt="x"), chat=False) == read_inquiry(
        body_of(prompt="x", max_tokens=None, stream=None, stream_options=None, n=None), chat=False
    )


def test_newer_name_of_the_limit_goes_first_in_chats() -> None:
    """The chat API has two names for the limit."""
    fields = {"messages": [{"role": "user", "content": "x"}], "prompt": "x"}
    body = body_of(**fields, max_tokens=3, max_completion_tokens=5)

    assert 5 == read_inquiry(body, chat=True).max_tokens
    assert 3 == read_inquiry(body, chat=False).max_tokens


@pytest.mark.parametrize(
    ("body", "chat", "message"),
    [
        (b"", False, "the body is not JSON"),
        (b"\xff", False, "the body is not JSON"),
        (b"[" * 100_000, False, "the body is not JSON"),
        (b"[]", False, "the body is not a JSON object"),
        (b"{}", False, "model: 'None' is not of type str"),
        (body_of(), False, "prompt: 'None' is not one string or one list of token ids"),
        (body_of(prompt=["a", "b"]), False, "prompt: "),
        (body_of(prompt=[1, True]), False, "prompt: "),
        (body_of(prompt="x", n=2), False, "n: '2' is not 1: the simulator writes one answer"),
        (body_of(prompt="x", max_tokens=0), False, "max_tokens: '0' is not 1 or more"),
        (body_of(prompt="x", max_tokens=True), False, "max_tokens: 'True' is not of type int"),
        (body_of(prompt="x", stream="yes"), False, "stream: 'yes' is not of type bool"),
        (body_of(prompt="x"), True, "messages: 'None' is not of type list"),
        (body_of(messages=[]), True, r"messages: '\[\]' is not a list of one message or more"),
        (body_of(messages=["x"]), True, r"messages\[0\]: 'x' is not an object"),
        (body_of(messages=[{"content": 1}]), True, r"messages\[0\].content: '1' is not a string or a list of objects"),
        (body_of(messages=[{"content": ["x"]}]), True, r"messages\[0\].content: "),
    ],
)
def test_refuses(body: bytes, chat: bool, message: str) -> None:
    """The message names the field and what is allowed."""
    with pytest.raises(InvalidRequestError, match=f"^{message}"):
        read_inquiry(body, chat=chat)


@given(st.lists(st.integers(0, 40), min_size=2))
def test_text_does_not_depend_on_where_it_is_cut(cuts: list[int]) -> None:
    """The chunks of an answer make up the answer."""
    places = sorted(cuts)

    pieces = [write_text(start, end) for start, end in pairwise(places)]
    assert write_text(0, places[0]) + "".join(pieces) == write_text(0, places[-1])
    assert places[-1] == len(write_text(0, places[-1]).split())


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "BadRequestError"), (418, "APIError"), (503, "InternalServerError")]
)
def test_error(status: int, kind: str) -> None:
    """The kind of an error follows from its status."""
    assert {"message": "x", "type": kind, "param": None, "code": status} == error_document(status, "x")["error"]
