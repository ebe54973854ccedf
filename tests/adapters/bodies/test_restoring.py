"""The client's model comes back in a response, and not one other byte changes."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import ModelRestorer, loads_json
from inferencepool.adapters.bodies._nesting import closing
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
    """It takes few calls, however long it is, wherever the model stands among simple members."""
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
    assert len(calls) < 25


@pytest.mark.parametrize("event_stream", [False, True])
@pytest.mark.parametrize("begin", [b'{"model":"', b'{"', b'{"a":"', b'data: {"model":"', b'data: {"message":{"'])
def test_little_is_kept_back(begin: bytes, event_stream: bool) -> None:
    """However long a key or a value is, what is kept back is bounded by the model's length."""
    restorer = ModelRestorer("m", "asked", event_stream=event_stream)
    sent = len(restorer.feed(begin))
    for _ in range(100):
        sent += len(restorer.feed(b"x" * 1_000))

    assert len(begin) + 100_000 - sent <= 200


def calls_of(chunks: list[bytes], *, event_stream: bool) -> tuple[int, bytes]:
    """Count the most calls, those of C functions included, that a chunk takes; give what comes of all."""
    restorer, most, sent = ModelRestorer("m", "asked", event_stream=event_stream), 0, []
    for chunk in chunks:
        count = 0

        def note(_frame: Any, event: str, _argument: Any) -> None:
            nonlocal count
            count += event in {"call", "c_call"}

        sys.setprofile(note)
        try:
            sent.append(restorer.feed(chunk))
        finally:
            sys.setprofile(None)
        most = max(most, count)
    return most, b"".join([*sent, restorer.finish()])


@pytest.mark.parametrize("size", [1 << 16, 1 << 20])
@pytest.mark.parametrize(
    ("begin", "piece", "event_stream"),
    [
        (b"", b"\n", True),
        (b"", b"data:\n", True),
        (b"", b"data:\n\n", True),
        (b"", b"data:{}\n", True),
        (b"", b"a\n", True),
        (b"", b'data:{"model":"m","a":"model"}\n\n', True),
        (b"data:{", b",", True),
        (b"{", b",", False),
        (b"{", b'"a":1,', False),
        (b"{", b'"model":"m",', False),
        (b"{", b'"a":[[]],', False),
        (b"[", b"{},", False),
        (b'{"a":[', b"[],", False),
        (b'{"a":[', b"[" * 12 + b"]" * 12, False),
        (b'{"a":', b"[", False),
        (b'{"a":[', b'"a",', False),
        (b'{"a":"', b"\\n", False),
        (b"", b'""', False),
        (b"", b"]", False),
    ],
)
def test_work_is_bounded(begin: bytes, piece: bytes, size: int, *, event_stream: bool) -> None:
    """Whatever a chunk is made of, going through it takes few steps, and not a byte of it is lost."""
    chunk = begin + piece * (size // len(piece))
    most, sent = calls_of([chunk, chunk], event_stream=event_stream)

    assert most < size // 16 + 12_000
    assert chunk * 2 == sent.replace(b'"asked"', b'"m"')


@pytest.mark.parametrize("end", ["\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("head", ["", "event: x\n"])
def test_long_chunks_of_events_are_restored(head: str, spaces: tuple[str, str], end: str) -> None:
    """In as few steps as there are events, also where some of them are unusual."""
    token = {"token": "a\n", "logprob": -0.5, "bytes": [97]}
    choice = {"index": 0, "delta": {"content": 'a"'}, "logprobs": {"content": [{**token, "top_logprobs": [token] * 3}]}}
    usual = [{"id": "c", "model": "{}", "choices": [choice]}, {"choices": [choice], "created": 1, "model": "{}"}]
    odd = [{"response": {"model": "{}"}}, {"model": "other"}, {"a": "model", "model": "{}"}, {"choices": []}]
    texts = [json.dumps(document, separators=spaces) for document in [*usual * 30, *odd, *usual * 30]]
    body = "".join(f"{head}data: {text}{end}" for text in [*texts, "[DONE]"])
    most, sent = calls_of([body.replace('"{}"', '"m"').encode()], event_stream=True)

    assert body.replace('"{}"', '"asked"').encode() == sent
    assert most < 40 * len(texts)


def test_an_honest_answer_with_logprobs_is_restored_at_once() -> None:
    """One of a megabyte takes few steps, wherever its model stands."""
    token = {"token": "a", "logprob": -0.5, "bytes": [97]}
    content = [{**token, "top_logprobs": [token] * 20} for _ in range(800)]
    body = json.dumps({"choices": [{"logprobs": {"content": content}}], "model": "m"}).encode()
    most, sent = calls_of([body], event_stream=False)

    assert body.replace(b'"model": "m"', b'"model": "asked"') == sent
    assert most < 2_000


@given(st.data())
def test_nesting_is_left_where_it_is_walked_out_of(data: st.DataObject) -> None:
    """Skipping finds the same end as going from mark to mark does."""
    strings = ['""', '"]"', '"\\\\"', '"\\"{"']
    text = "".join(data.draw(st.lists(st.sampled_from([*"[]{},", *strings, "a" * 40]), max_size=200)))
    depth = data.draw(st.integers(1, 5))
    body = text[: data.draw(st.integers(0, len(text)))].rstrip("\\").encode()
    end, rest, inside, _ = closing(body, depth)
    at, open_ = 0, depth
    in_string = False
    while at < len(body) and open_:
        letter = body[at : at + 1]
        if in_string:
            at += letter == b"\\"
            in_string = letter != b'"'
        elif letter in b"[]{}":
            open_ += 1 if letter in b"[{" else -1
        else:
            in_string = letter == b'"'
        at += 1

    assert (0 if open_ else at) == end
    if open_:
        assert (open_, in_string) == (rest, inside)
