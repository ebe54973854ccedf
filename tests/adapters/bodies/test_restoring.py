"""The client's model comes back in a response, and not one other byte changes."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import ModelRestorer, loads_json
from tests.strategies.bodies import VALUES, cuts, event_streams, json_texts

TARGET, ASKED = 'org/llama "1"', "my\u00e9 model"
MODELS = st.sampled_from([TARGET, "other", "", 'org/llama \\"1"']) | VALUES
ANSWERS = st.dictionaries(
    st.sampled_from(["model", "response", "message", "choices", "id", "a"]),
    MODELS
    | st.dictionaries(st.sampled_from(["model", "a", "response"]), MODELS | st.dictionaries(st.just("model"), MODELS)),
    max_size=5,
)


def restored(chunks: list[bytes], *, event_stream: bool) -> bytes:
    """Pass *chunks* through."""
    restorer = ModelRestorer(TARGET, ASKED, event_stream=event_stream)
    return b"".join([*map(restorer.feed, chunks), restorer.finish()])


def expected_of(document: Any, holders: tuple[str, ...] = ()) -> Any:
    """Say what is to come of *document*."""
    if not isinstance(document, dict):
        return document
    changed = {
        key: expected_of(value) if key in holders and isinstance(value, dict) else value
        for key, value in document.items()
    }
    return {**changed, "model": ASKED} if changed.get("model") == TARGET else changed


@given(ANSWERS.flatmap(json_texts), st.data())
def test_json_is_restored_wherever_it_is_cut(text: str, data: st.DataObject) -> None:
    """The model of the answer itself is the client's, and of whatever else it holds nothing changes."""
    body = text.encode("utf-8", "surrogatepass")
    found = restored(data.draw(cuts(body)), event_stream=False)

    assert expected_of(loads_json(body)) == loads_json(found)


@given(st.data())
def test_events_are_restored_wherever_they_are_cut(data: st.DataObject) -> None:
    """In every event, however its lines end, and in what Responses API and Anthropic put their models in."""
    payloads = ANSWERS.map(json.dumps) | st.sampled_from(["[DONE]", "no JSON", '{"model":"' + "x" * 500])
    body = data.draw(event_streams(payloads))
    found = restored(data.draw(cuts(body)), event_stream=True)
    lines, after = (text.replace(b"\r", b"\n").split(b"\n") for text in (body, found))

    assert len(lines) == len(after)
    assert restored([body], event_stream=True) == found
    for line, changed in zip(lines, after, strict=True):
        if not line.removeprefix(b"\xef\xbb\xbf").startswith(b"data:"):
            assert line == changed


@given(st.lists(ANSWERS, min_size=1, max_size=4), st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_each_event_is_its_own(answers: list[Any], end: str, data: st.DataObject) -> None:
    """What one event holds changes nothing about the next."""
    text = "".join(f"data: {json.dumps(answer)}{end}{end}" for answer in answers)
    found = restored(data.draw(cuts(text.encode())), event_stream=True)
    payloads = [line.removeprefix(b"data: ") for line in found.replace(b"\r", b"\n").split(b"\n") if line]

    assert [expected_of(answer, ("response", "message")) for answer in answers] == list(map(loads_json, payloads))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            '{"id":"1", "model" : "m" ,"choices":[{"model":"m"}]}',
            '{"id":"1", "model" : "asked" ,"choices":[{"model":"m"}]}',
        ),
        ('{"\\u006dodel":"\\u006d"}', '{"\\u006dodel":"asked"}'),
        (
            '{"text":"\\"model\\":\\"m\\"","model":"m","model":"m"}',
            '{"text":"\\"model\\":\\"m\\"","model":"asked","model":"asked"}',
        ),
        ('{"model":"m2"}', '{"model":"m2"}'),
        ('{"a":"model","b":"m"}', '{"a":"model","b":"m"}'),
        ('[{"model":"m"}]', '[{"model":"m"}]'),
        ('{"response":{"model":"m"}}', '{"response":{"model":"m"}}'),
        ("model: m", "model: m"),
    ],
)
def test_bytes(body: str, expected: str) -> None:
    """Only the value's own bytes change, byte by byte as well as at once."""
    for chunks in ([body.encode()], [bytes([byte]) for byte in body.encode()]):
        restorer = ModelRestorer("m", "asked", event_stream=False)

        assert expected.encode() == b"".join([*map(restorer.feed, chunks), restorer.finish()])


@pytest.mark.parametrize(
    "event",
    [
        'data: {{"id":"c","object":"chat.completion.chunk","created":1,"model":"{}","choices":[{{"delta":{{}}}}]}}\n\n',
        'event: message_start\ndata: {{"type":"message_start","message":{{"id":"x","model":"{}"}}}}\n\n',
        'data: {{"type":"response.created","response":{{"object":"response","model":"{}","tools":[]}}}}\r\n\r\n',
    ],
    ids=["chat", "messages", "responses"],
)
def test_what_servers_send(event: str) -> None:
    """An event comes back as soon as it is whole, with the client's model."""
    restorer = ModelRestorer("m", "asked", event_stream=True)

    for _ in range(3):
        assert event.format("asked").encode() == restorer.feed(event.format("m").encode())
    assert b"" == restorer.finish()


@pytest.mark.parametrize(
    "members", ['"id":"c","created":1,"model":"m"', '"model": "m"', '"id":"c","model":"m","done":false']
)
def test_a_usual_event_is_not_walked_through(members: str) -> None:
    """It takes a handful of calls, however long it is, wherever the model stands among simple members."""
    restorer = ModelRestorer("m", "asked", event_stream=True)
    event = f'data: {{{members},"choices":[{"{},".join([""] * 100)}{{}}]}}\n\n'.encode()
    calls: list[str] = []

    before = sys.getprofile()
    sys.setprofile(lambda frame, kind, _: calls.append(frame.f_code.co_name) if kind in {"call", "c_call"} else None)
    try:
        found = restorer.feed(event)
    finally:
        sys.setprofile(before)

    assert event.replace(b'"m"', b'"asked"') == found
    assert len(calls) < 10


@pytest.mark.parametrize("event_stream", [False, True])
@pytest.mark.parametrize("begin", [b'{"model":"', b'{"', b'{"a":"', b'data: {"model":"', b'data: {"message":{"'])
def test_little_is_kept_back(begin: bytes, event_stream: bool) -> None:
    """However long a key or a value is, what is kept back is bounded by the model's length."""
    restorer = ModelRestorer("m", "asked", event_stream=event_stream)
    sent = len(restorer.feed(begin))
    for _ in range(100):
        sent += len(restorer.feed(b"x" * 1_000))

    assert len(begin) + 100_000 - sent <= 200
