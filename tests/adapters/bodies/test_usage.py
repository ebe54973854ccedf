"""How many tokens a response took."""

from __future__ import annotations

import json
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import Usage, UsageKind, UsageReader, loads_json, read_usage
from inferencepool.adapters.bodies import _usage as usages
from inferencepool.adapters.bodies._usage import UNKNOWN
from tests.strategies.bodies import cuts, event_streams

KINDS = [UsageKind.OPENAI, UsageKind.ANTHROPIC, UsageKind.SGLANG]
COUNTS = st.integers(0, 99)


def read_stream(kind: UsageKind, *chunks: bytes, limit: int = 2**20) -> Usage:
    """Read a stream of events."""
    reader = UsageReader(kind, event_stream=True, max_size=limit)
    for chunk in chunks:
        reader.feed(chunk)
    return reader.finish()


def openai_events() -> st.SearchStrategy[str]:
    """Make events with usage, without, and with what looks like it."""
    usage = st.fixed_dictionaries({"prompt_tokens": COUNTS, "completion_tokens": COUNTS})
    return st.one_of(
        usage.map(lambda usage: json.dumps({"choices": [], "usage": usage})),
        usage.map(lambda usage: json.dumps({"choices": [], "usage": usage}, indent=1)),
        usage.map(lambda usage: json.dumps({"type": "response.completed", "response": {"usage": usage}})),
        usage.map(lambda usage: json.dumps({"choices": [{"delta": {"content": json.dumps({"usage": usage})}}]})),
        st.sampled_from(
            ["[DONE]", '{"usage":null}', '{"usage":{"prompt_tokens"', "", '{"a":"\u00e9\u4e2d\U0001f600"}']
        ),
    )


def anthropic_events() -> st.SearchStrategy[str]:
    """Make the events of messages."""
    return st.one_of(
        COUNTS.map(lambda n: json.dumps({"type": "message_start", "message": {"usage": {"input_tokens": n}}})),
        COUNTS.map(lambda n: json.dumps({"type": "message_delta", "usage": {"output_tokens": n}})),
        COUNTS.map(lambda n: json.dumps({"type": "message_delta", "usage": {"cache_read_input_tokens": n}})),
        st.just(json.dumps({"type": "ping"})),
    )


@pytest.mark.parametrize(("kind", "events"), [("openai", openai_events()), ("anthropic", anthropic_events())])
@given(data=st.data(), limit=st.integers(1, 150))
def test_cuts_change_nothing(kind: str, events: st.SearchStrategy[str], data: st.DataObject, limit: int) -> None:
    """A stream of events tells the same however it is cut, events longer than the limit included."""
    stream = data.draw(event_streams(events))
    chunks = data.draw(cuts(stream))
    whole = read_stream(UsageKind(kind), stream, limit=limit)

    assert whole == read_stream(UsageKind(kind), *chunks, limit=limit)
    assert whole == read_stream(UsageKind(kind), *(bytes([byte]) for byte in stream), limit=limit)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=60), head=st.sampled_from([b"", b'data: {"usage":{', b'{"usage":', b'{"meta_info":']))
def test_any_bytes_raise_nothing(kind: UsageKind, data: bytes, head: bytes) -> None:
    """Whatever a response consists of, reading its usage ends without an error."""
    assert isinstance(read_usage(head + data, kind), Usage)
    assert isinstance(read_stream(kind, head + data, b"\n\n"), Usage)


@pytest.mark.parametrize(
    ("kind", "document", "expected"),
    [
        (
            "openai",
            {"usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}},
            Usage(7, 3, None, 10),
        ),
        (
            "openai",
            {"usage": {"prompt_tokens": 7, "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens": None}},
            Usage(7, None, 4),
        ),
        (
            "openai",
            {"usage": {"input_tokens": 5, "output_tokens": "6", "input_tokens_details": {"cached_tokens": 0}}},
            Usage(5, 6, 0),
        ),
        ("openai", {"usage": {"prompt_tokens": "7.0", "completion_tokens": "x", "total_tokens": -1}}, Usage(7)),
        ("openai", {"usage": {"prompt_tokens": True, "completion_tokens": [], "total_tokens": 2**70}}, Usage()),
        ("openai", {"usage": {"prompt_tokens": "nan", "completion_tokens": "inf"}}, Usage()),
        ("openai", {"usage": {"prompt_tokens": 1, "prompt_tokens_details": {}}}, Usage(1)),
        ("openai", {"usage": None}, Usage()),
        ("openai", {"meta_info": {"prompt_tokens": 1}}, Usage()),
        (
            "anthropic",
            {"usage": {"input_tokens": 25, "output_tokens": 15, "cache_read_input_tokens": 8}},
            Usage(25, 15, 8, 40),
        ),
        ("anthropic", {"usage": {"input_tokens": 25}}, Usage(25)),
        ("anthropic", {}, Usage()),
        (
            "sglang",
            {"meta_info": {"prompt_tokens": 4, "completion_tokens": 2, "cached_tokens": 1, "finish_reason": None}},
            Usage(4, 2, 1, 6),
        ),
        ("sglang", {"meta_info": 1}, Usage()),
        ("none", {"usage": {"prompt_tokens": 7}}, Usage()),
    ],
)
def test_json(kind: str, document: dict[str, Any], expected: Usage) -> None:
    """Each API tells its usage under its own names; what is no number of tokens tells nothing."""
    body = json.dumps(document).encode()
    reader = UsageReader(UsageKind(kind), event_stream=False, loads=orjson.loads)
    for byte in body:
        reader.feed(bytes([byte]))

    assert expected == read_usage(body, UsageKind(kind))
    assert expected == reader.finish()
    assert expected == reader.usage


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"[" * 100_000, b'{"usage":[]}', b"\xff"])
def test_what_cannot_be_read_tells_nothing(body: bytes) -> None:
    """A response that is no JSON, or has usage of another kind, leaves it unknown."""
    assert Usage() == read_usage(body, UsageKind.OPENAI)


@pytest.mark.parametrize(
    ("kind", "stream", "expected"),
    [
        # Usage in a last event, as with stream_options.include_usage; all before it have null.
        (
            "openai",
            (
                'data: {"choices":[{}],"usage":null}\n\ndata: {"choices":[],"usage":{"prompt_tokens":7,'
                '"total_tokens":17,"completion_tokens":10}}\n\ndata: [DONE]\n\n'
            ),
            Usage(7, 10, None, 17),
        ),
        # Usage in every event: the last counts.
        (
            "openai",
            'data: {"usage":{"completion_tokens":1}}\n\ndata: {"usage":{"completion_tokens":2}}\n\n',
            Usage(None, 2),
        ),
        (
            "openai",
            (
                'event: response.completed\r\ndata:{"type":"response.completed","response":{"usage" : '
                '{"input_tokens":31,"input_tokens_details":{"cached_tokens":16},"output_tokens":9,"total_tokens":40}}}\r\n\r\n'
            ),
            Usage(31, 9, 16, 40),
        ),
        ("openai", 'data: {"usage":\ndata: {"prompt_tokens":3}}\n\n', Usage(3)),
        ("openai", '\ufeffdata: {"usage":{"prompt_tokens":3}}\n\n', Usage(3)),
        ("openai", 'data: {"usage":{"prompt_tokens":3}}', Usage(3)),
        ("openai", ': {"usage":{"prompt_tokens":3}}\n\nevent: {"usage":{"prompt_tokens":3}}\n\n', Usage()),
        ("openai", 'data: {"usage":{"prompt_tokens":3}\n\n', Usage()),
        ("openai", 'data: {"usage":{"prompt_tokens":3}}\n\ndata: {"usage":{}}\n\n', Usage(3)),
        ("openai", 'data: {"response":{"usage":{"prompt_tokens":3}},"usage":{}}\n\n', Usage(3)),
        ("openai", 'data: {"a":{"usage":{"prompt_tokens":3}}}\n\n', Usage()),
        (
            "anthropic",
            (
                'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":25,'
                '"cache_read_input_tokens":5,"output_tokens":1}}}\n\nevent: ping\ndata: {"type":"ping"}\n\n'
                'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":15}}\n\n'
            ),
            Usage(25, 15, 5, 40),
        ),
        ("anthropic", 'data: {"type":"message_start","message":[{"usage":{}}]}\n\n', Usage()),
        (
            "sglang",
            (
                'data: {"meta_info":{"prompt_tokens":4,"completion_tokens":1,"finish_reason":null}}\n\n'
                'data: {"meta_info":{"prompt_tokens":4,"completion_tokens":2,"finish_reason": {"type":"stop"}}}\n\n'
                "data: [DONE]\n\n"
            ),
            Usage(4, 2, None, 6),
        ),
        ("sglang", 'data: {"meta_info":{"prompt_tokens":4,"finish_reason": null}}\n\n', Usage()),
        ("none", 'data: {"usage":{"prompt_tokens":3}}\n\n', Usage()),
    ],
)
def test_events(kind: str, stream: str, expected: Usage) -> None:
    """Of a stream of events the one that tells the usage is read, in one chunk or in one for each byte."""
    data = stream.encode()

    assert expected == read_stream(UsageKind(kind), data)
    assert expected == read_stream(UsageKind(kind), *(bytes([byte]) for byte in data))


def test_an_event_that_is_too_long_is_passed_over() -> None:
    """An event above the limit is neither read nor kept, and those behind it are read."""
    reader = UsageReader(UsageKind.OPENAI, event_stream=True, max_size=100)
    reader.feed(b'data: {"usage":{"prompt_tokens":1},"a":"')
    for _ in range(1_000):
        reader.feed(b"x" * 100)
        assert len(reader._pending) <= 204
    reader.feed(b'"}\n')
    reader.feed(b'\ndata: {"usage":{"prompt_tokens":2}}\n\n')

    assert Usage(2) == reader.usage


def test_a_last_event_that_is_too_long_tells_nothing() -> None:
    """What is left of an event above the limit is not taken for an event at the end."""
    assert Usage() == read_stream(UsageKind.OPENAI, b"data: " + b"x" * 300, b'\ndata: {"usage":{"a":1}}', limit=100)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [1 << 10, 60_000, 5 << 20])
def test_of_a_long_response_its_end_is_kept(kind: UsageKind, chunk: int) -> None:
    """Of a response in JSON above the limit no more is kept than is read: its end, which tells the usage."""
    reader = UsageReader(kind, event_stream=False, max_size=100_000)
    member = b"meta_info" if kind is UsageKind.SGLANG else b"usage"
    told = b'"%b":{"input_tokens":7,"prompt_tokens":7}' % member
    body = b'{"data":["%b"],%b,"id":"a"}' % (b"x" * (8 << 20), told)
    for at in range(0, len(body), chunk):
        reader.feed(body[at : at + chunk])
        assert len(reader._pending) <= 100_000
        assert at < 100_000 or sys.getsizeof(reader._pending) <= 200_000

    assert 7 == reader.finish().prompt_tokens


@given(st.data(), st.integers(0, 400), st.integers(1, 300))
def test_the_end_of_a_long_response_tells_what_the_whole_would(data: st.DataObject, padding: int, limit: int) -> None:
    """Wherever it is cut, and whatever the limit."""
    usage = b'"usage":{"prompt_tokens":7}'
    body = b'{"a":"%b","b":{%b},%b}' % (b"x" * padding, usage, data.draw(st.sampled_from([usage, b'"c":1', b'"c":{}'])))
    reader = UsageReader(UsageKind.OPENAI, event_stream=False, max_size=limit)
    for chunk in data.draw(cuts(body)):
        reader.feed(chunk)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(usages, "is_cheap", lambda _: len(body) <= limit)
        expected = read_usage(body, UsageKind.OPENAI)

    assert expected == reader.finish()


class TestWork:
    """A pod's response is read no further than is cheap, however it is made."""

    def test_a_response_with_many_values(self) -> None:
        """Of a response that is dear to read its end is read, where usage stands if that is the outermost object's."""
        numbers = b"0.5," * 300_000
        body = b'{"data":[%b1],"usage":{"prompt_tokens":7,"total_tokens":7},"id":"a"}' % numbers

        assert Usage(7, None, None, 7) == read_usage(body, UsageKind.OPENAI, only_small)
        assert UNKNOWN == read_usage(body[:-1], UsageKind.OPENAI, only_small)
        assert UNKNOWN == read_usage(b'{"data":[%b1],"x":{"usage":{"prompt_tokens":7}}}' % numbers, UsageKind.OPENAI)
        assert UNKNOWN == read_usage(b'{"usage":{"prompt_tokens":7},"data":[%b1]}' % numbers, UsageKind.OPENAI)

    def test_many_events_at_once(self) -> None:
        """Of many events with usage in one chunk the last 64 are read."""
        read = []

        def counting(data: bytes) -> Any:
            read.append(data)
            return loads_json(data)

        reader = UsageReader(UsageKind.OPENAI, event_stream=True, loads=counting)
        reader.feed(b"".join(b'data: {"usage":{"prompt_tokens":%d}}\n\n' % number for number in range(1_000)))

        assert 64 == len(read)
        assert 999 == reader.usage.prompt_tokens

    def test_many_lines(self) -> None:
        """An event of more lines than anybody writes is passed over."""
        reader = UsageReader(UsageKind.OPENAI, event_stream=True)
        reader.feed(b'data: {"usage":{"prompt_tokens":1}}\n\n')
        reader.feed(b'data: {"usage":\n' + b"data:\n" * 10_000 + b'data: {"prompt_tokens":2}}\n\n')

        assert 1 == reader.usage.prompt_tokens


def only_small(data: bytes) -> Any:
    """Read JSON that is short."""
    assert len(data) < 20_000
    return loads_json(data)


class TestVllmGrpc:
    """Frames of gRPC; the fields are those of vLLM's messages, old and new."""

    @staticmethod
    def message(**fields: int | bytes) -> bytes:
        """Write a message: fields by number, as ``f1=...``."""
        text = b""
        for name, value in fields.items():
            number = int(name[1:])
            if isinstance(value, int):
                text += bytes([number << 3, *([value & 0x7F | 0x80, value >> 7] if value > 0x7F else [value])])
            else:
                text += bytes([number << 3 | 2, len(value)]) + value
        return text

    @staticmethod
    def frame(message: bytes, flag: int = 0) -> bytes:
        """Write a frame."""
        return bytes([flag]) + len(message).to_bytes(4, "big") + message

    def part(self) -> bytes:
        """Write a part of an output."""
        return self.message(f1=b"\x05\x06", f2=300, f3=2, f4=16)

    def whole(self) -> bytes:
        """Write a whole output."""
        return self.message(f1=b"\x05\x06", f2=b"stop", f3=300, f4=7, f5=16)

    @pytest.mark.parametrize("is_old", [False, True])
    @given(data=st.data())
    def test_generation(self, data: st.DataObject, *, is_old: bool) -> None:
        """The last message counts, in both versions and however the frames are cut."""
        part, whole = self.part(), self.whole()
        messages = (
            [self.message(f1=b"id-1", f2=part), self.message(f1=b"id-1", f3=whole)]
            if is_old
            else [self.message(f1=part), self.message(f2=whole)]
        )
        reader = UsageReader(UsageKind.VLLM_GRPC, event_stream=False)
        for chunk in data.draw(cuts(b"".join(map(self.frame, messages)))):
            reader.feed(chunk)

        assert Usage(300, 7, 16, 307) == reader.finish()
        first = UsageReader(UsageKind.VLLM_GRPC, event_stream=False)
        first.feed(self.frame(messages[0]))
        assert Usage(300, 2, 16, 302) == first.usage

    @pytest.mark.parametrize("is_old", [False, True])
    def test_embedding(self, *, is_old: bool) -> None:
        """There is a prompt and no output."""
        inner = self.message(f1=bytes(8), f2=9, f3=2)
        reader = UsageReader(UsageKind.VLLM_GRPC_EMBED, event_stream=False)
        reader.feed(self.frame(self.message(f1=b"id", f2=inner) if is_old else inner))

        assert Usage(9, 0, None, 9) == reader.finish()

    def test_what_cannot_be_read_tells_nothing(self) -> None:
        """Compressed frames, long ones, errors and what is no message; those behind them are read."""
        reader = UsageReader(UsageKind.VLLM_GRPC, event_stream=False, max_size=100)
        known = self.frame(self.message(f2=self.whole()))
        for odd in (self.frame(b"?", 1), self.frame(bytes(5_000)), self.frame(b"\xff"), self.frame(b"")):
            reader.feed(odd[:50])
            reader.feed(odd[50:] + known)
            assert Usage(300, 7, 16, 307) == reader.usage
        assert Usage() == UsageReader(UsageKind.VLLM_GRPC, event_stream=False).finish()

    @pytest.mark.parametrize(
        "message", [b"", b"\x0a\x02\x10\x01", b"\x12\x04\x10\x01\x18\x01"], ids=["empty", "small", "told"]
    )
    @pytest.mark.parametrize("flag", [0, 1])
    def test_very_many_frames_take_few_steps(self, message: bytes, flag: int) -> None:
        """Only the last of them are read, and empty ones are passed over."""
        frame = self.frame(message, flag)
        chunk = frame * ((1 << 16) // len(frame)) + self.frame(self.message(f2=self.whole()))
        reader, count = UsageReader(UsageKind.VLLM_GRPC, event_stream=False), 0

        def note(_frame: Any, event: str, _argument: Any) -> None:
            nonlocal count
            count += event in {"call", "c_call"}

        sys.setprofile(note)
        try:
            reader.feed(chunk)
        finally:
            sys.setprofile(None)

        assert count < 16_000
        assert (Usage(300, 7, 16, 307) == reader.usage) is not bool(message)

    @pytest.mark.parametrize("size", [1_000, 3_000])
    def test_the_last_of_many_frames_counts(self, size: int) -> None:
        """As many as come at once from an honest server."""
        reader = UsageReader(UsageKind.VLLM_GRPC, event_stream=False)
        reader.feed(self.frame(self.message(f1=self.part())) * size + self.frame(self.message(f2=self.whole())))

        assert Usage(300, 7, 16, 307) == reader.usage


@pytest.mark.parametrize("size", [300, 1_000, 2_500, 10_000])
@pytest.mark.parametrize("event_stream", [False, True])
def test_the_ends_of_a_long_view_are_read(size: int, *, event_stream: bool) -> None:
    """What is not copied as a whole tells its usage where that stands at its end."""
    usage = '"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    text = f'data: {{"a":"{"x" * size}"}}\n\ndata: {{{usage}\n\n' if event_stream else f'{{"a":"{"x" * size}",{usage}'
    reader = UsageReader(UsageKind.OPENAI, event_stream=event_stream, max_size=1_000)
    reader.feed(memoryview(text.encode()))

    assert Usage(3, 4) == reader.finish()
