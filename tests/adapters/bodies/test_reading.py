"""Bodies that are dear to read: in steps, as far as prefixes are matched, and with the result of reading the whole."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import (
    BodyParsers,
    Budget,
    ParsedBody,
    finished,
    loads_json,
    parser_named,
    rewrite_model,
)
from inferencepool.adapters.bodies import _pieces as pieces
from inferencepool.adapters.bodies import _prompt_pieces as prompt_pieces
from inferencepool.adapters.bodies import _prompts as prompts
from inferencepool.adapters.bodies import _scanning as scanning
from inferencepool.adapters.extproc._reading import is_small
from inferencepool.errors import InvalidRequestError
from tests.strategies.bodies import KEYS, TEXTS, VALUES, json_texts, messages, objects

NAMES = ("openai-parser", "anthropic-parser", "vllmhttp-parser", "sglanghttp-parser")
PARSERS = BodyParsers(parser_named(name) for name in NAMES)
CHAT = "/v1/chat/completions"
SIZE = 1 << 20
HEAD = b'"model":"m",'
PLAIN = b'"messages":[{"role":"user","content":"x"}]'


def filled(unit: bytes) -> bytes:
    """Repeat *unit*, which ends with a comma, to a MiB; without the last comma."""
    return (unit * (SIZE // len(unit) + 1))[:-1]


# Where each was read in one step before: path and body.
SHAPES: dict[str, tuple[str, bytes]] = {
    "empty parts": (CHAT, b'{%b"messages":[{"role":"user","content":[%b]}]}' % (HEAD, filled(b"{},"))),
    "tool results": (
        "/v1/messages",
        b'{%b"messages":[{"role":"user","content":[%b]}]}' % (HEAD, filled(b'{"type":"tool_result"},')),
    ),
    "one tool result": (
        "/v1/messages",
        b'{%b"messages":[{"role":"user","content":[{"type":"tool_result","content":[%b]}]}]}' % (HEAD, filled(b"[],")),
    ),
    "items": ("/v1/responses", b'{%b"input":[%b]}' % (HEAD, filled(b"{},"))),
    "conversation": ("/v1/conversations", b'{%b"items":[%b]}' % (HEAD, filled(b"1,"))),
    "empty messages": (CHAT, b'{%b"messages":[%b]}' % (HEAD, filled(b"{},"))),
    "short messages": (CHAT, b'{%b"messages":[%b]}' % (HEAD, filled(b'{"role":"user","content":"Hello"},'))),
    "calls": (CHAT, b'{%b"messages":[{"role":"user","tool_calls":[%b]}]}' % (HEAD, filled(b"{},"))),
    "token ids": ("/v1/completions", b'{%b"prompt":[%b]}' % (HEAD, filled(b"12345,"))),
    "lists of token ids": ("/v1/completions", b'{%b"prompt":[%b]}' % (HEAD, filled(b"[1],"))),
    "prompts": ("/v1/completions", b'{%b"prompt":[%b]}' % (HEAD, filled(b'"a",'))),
    "vLLM's token ids": ("/inference/v1/generate", b'{%b"token_ids":[%b]}' % (HEAD, filled(b"1,"))),
    "tools": (CHAT, b'{%b"tools":[%b],%b}' % (HEAD, filled(b'{"a":1},'), PLAIN)),
    "model keys": (CHAT, b"{%b,%b%b}" % (filled(b'"model":1,'), HEAD, PLAIN)),
    "escaped keys": (CHAT, b"{%b,%b%b}" % (filled(b'"\\u006dodel":1,'), HEAD, PLAIN)),
    "objects with model keys": (CHAT, b'{%b%b,"x":[%b]}' % (HEAD, PLAIN, filled(b'{"model":1},'))),
    "members": (CHAT, b"{%b,%b%b}" % (filled(b'"a":[[]],'), HEAD, PLAIN)),
    "members with objects": (CHAT, b"{%b,%b%b}" % (filled(b'"a":{"model":{"b":""}},'), HEAD, PLAIN)),
    "lists": (CHAT, b'{"x":[%b],%b%b}' % (filled(b"[],"), HEAD, PLAIN)),
    "nested lists": (CHAT, b'{"x":[%b],%b%b}' % (filled(b"[" * 400 + b"]" * 400 + b","), HEAD, PLAIN)),
    "strings": (CHAT, b'{"x":[%b],%b%b}' % (filled(b'"",'), HEAD, PLAIN)),
    "brackets in strings": (CHAT, b'{"x":[%b],%b%b}' % (filled(b'"[{",'), HEAD, PLAIN)),
    "escapes": (CHAT, b'{%b"messages":[{"role":"user","content":"%b"}]}' % (HEAD, b'\\"' * (SIZE // 2))),
    "skipped escapes": (CHAT, b'{%b%b,"x":"%b"}' % (HEAD, PLAIN, b"\\\\" * (SIZE // 2))),
    "spaces": (CHAT, b"{%b%b%b}" % (HEAD, b" " * SIZE, PLAIN)),
    "digits": (CHAT, b'{%b"x":%b,%b}' % (HEAD, b"1" * SIZE, PLAIN)),
    "one text": (CHAT, b'{%b"messages":[{"role":"user","content":"%b"}]}' % (HEAD, b"a, b " * (SIZE // 5))),
    "one part": (
        CHAT,
        b'{%b"messages":[{"role":"user","content":[{"type":"text","text":"%b"}]}]}' % (HEAD, b"a" * (SIZE + 1)),
    ),
    "image": (
        CHAT,
        b'{%b"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"%b"}}]}]}'
        % (HEAD, b"a" * (SIZE + 1)),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_steps_are_small(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a body is made, one step decodes few bytes of it, and steps are many: in proportion to its length."""
    path, body = SHAPES[shape]
    decoded: list[int] = [0]
    once = loads_json

    def counting(text: bytes) -> Any:
        decoded[-1] += len(text)
        return once(text)

    monkeypatch.setattr(scanning, "loads_json", counting)
    steps = PARSERS.read({":path": path}, body)
    parsed = None
    while parsed is None:
        try:
            next(steps)
        except StopIteration as end:
            parsed = end.value
        decoded.append(0)

    assert "m" == parsed.model
    assert max(decoded) <= 2 * scanning.CHUNK
    assert 16 <= len(decoded) <= 2 * len(body) // scanning.WINDOW


@pytest.mark.parametrize("shape", SHAPES)
def test_the_model_is_where_it_says(shape: str) -> None:
    """Where the model stands is known, so that another one can be put there without looking for it."""
    path, body = SHAPES[shape]
    parsed = PARSERS.parse({":path": path}, body)

    assert parsed.model_span is not None
    start, end = parsed.model_span
    assert b'"m"' == body[start:end]
    assert body[:start] + b'"new"' + body[end:] == rewrite_model(body, "new", parsed.model_span)


def test_a_body_without_a_model() -> None:
    """That a dear body has no model is known too, and one is put at its beginning."""
    body = b"{%b,%b}" % (filled(b'"a":{"model":1},'), PLAIN)
    parsed = PARSERS.parse({":path": CHAT}, body)

    assert (None, (0, 0)) == (parsed.model, parsed.model_span)
    assert b'{"model":"new",' + body[1:] == rewrite_model(body, "new", parsed.model_span)


@pytest.mark.parametrize("budget", [Budget(prompt_bytes=1 << 12), Budget(values=100)], ids=["bytes", "values"])
def test_no_more_is_read_than_the_budget(budget: Budget) -> None:
    """The prompt ends near the budget, and the rest of its length is estimated."""
    path, body = SHAPES["short messages"]
    whole = b"\xfeuser\xffHello" * (body.count(b"Hello"))
    parsed = finished(PARSERS.read({":path": path}, body, budget))

    assert whole.startswith(parsed.prompt)
    assert 100 <= len(parsed.prompt) <= (1 << 12) + scanning.WINDOW
    assert len(parsed.prompt) + parsed.prompt_unread > len(whole)


def test_the_budget_may_be_lowered_on_the_way() -> None:
    """Without a budget only the model is looked for."""
    path, body = SHAPES["short messages"]
    budget = Budget()
    steps = PARSERS.read({":path": path}, body, budget)
    for _ in range(4):
        next(steps)
    budget.prompt_bytes = 0
    parsed = finished(steps)

    assert "m" == parsed.model
    assert 0 < len(parsed.prompt) <= 8 * scanning.WINDOW


def test_unread_token_ids_are_counted() -> None:
    """Of token ids beyond the budget it is known how many there are."""
    body = b'{"model":"m","prompt":[%b]}' % filled(b"12345,")
    parsed = finished(PARSERS.read({":path": "/v1/completions"}, body, Budget(prompt_bytes=4_000)))

    assert parsed.prompt_tokens is not None
    assert {12345} == set(parsed.prompt_tokens)
    assert body.count(b",") == len(parsed.prompt_tokens) + parsed.prompt_unread // 4
    assert 1_000 <= len(parsed.prompt_tokens) <= 1_000 + scanning.WINDOW


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        (CHAT, b"{%b}", "must have valid messages"),
        (CHAT, b'{%b,"messages":[]}', "must have valid messages"),
        (CHAT, b'{"messages":[1,%b]}', "must have valid messages"),
        (CHAT, b'{"messages":{%b}}', "must have valid messages"),
        (CHAT, b'{"messages":[{"role":"user","content":[1,%b]}]}', "must have valid messages"),
        (CHAT, b'{"messages":[{"role":"user","content":{%b}}]}', "must have valid messages"),
        ("/v1/completions", b'{"prompt":[1,%b]}', "must have prompt"),
        ("/v1/completions", b'{"prompt":["a",1,%b]}', "must have prompt"),
        ("/v1/completions", b'{"prompt":[[1],[%b]]}', "must have prompt"),
        ("/v1/completions", b'{"prompt":{%b}}', "must have prompt"),
        ("/v1/messages", b'{"messages":[{"role":"user"},1,%b]}', "messages[1] must be an object"),
        ("/v1/messages", b'{%b,"messages":[  ]}', "at least one message"),
        ("/v1/messages", b'{"messages":{%b}}', "messages must be a list"),
        ("/inference/v1/generate", b'{"token_ids":[1,%b]}', "must be an array of uint32"),
        (CHAT, b"[%b]", "must be an object"),
        (CHAT, b"{%b", "at byte"),
        (CHAT, b'{"x":[[%b}', "not closed"),
        (CHAT, b"{%b}}", "something follows"),
        (CHAT, b'{"x":[%b}', "expected a comma"),
        (CHAT, b'{"x":"%b}', "does not end"),
        (CHAT, b'{"x":[%b],"y":nope}', "not JSON"),
        (CHAT, b'{"x":[%b],1:2}', "expected a key"),
        (CHAT, b'{"x":[%b],"a" 2}', "expected a colon"),
        (CHAT, b'{"x":[%b] "a":2}', "expected a comma"),
        (CHAT, b'{"x":[%b],"messages":[{"role":"user","content":"\xff"}]}', "not UTF-8"),
    ],
)
def test_refused(path: str, body: bytes, expected: str) -> None:
    """What is no request is refused however long it is, in the words of the API."""
    pairs = b'"a":1,' if b"{%b" in body else b'"",'
    if b'"%b' in body:
        pairs = b"aaaaa,"
    with pytest.raises(InvalidRequestError) as caught:
        PARSERS.parse({":path": path}, body.replace(b"%b", filled(pairs)))

    assert expected in str(caught.value)


def test_depth_is_bounded() -> None:
    """What is skipped lies no deeper than what is read may."""
    body = b'{"x":%b%b,%b}' % (b"[" * (SIZE // 2), b"]" * (SIZE // 2), PLAIN)
    with pytest.raises(InvalidRequestError, match="nested too deep"):
        PARSERS.parse({":path": CHAT}, body)


DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "model": TEXTS | VALUES,
        "messages": st.lists(messages(), max_size=4) | VALUES,
        "input": TEXTS
        | st.lists(messages() | VALUES, max_size=4)
        | st.lists(st.integers(-1, 9))
        | st.lists(st.lists(messages(), max_size=2), max_size=2)
        | messages(),
        "items": st.lists(messages() | VALUES, max_size=4),
        "prompt": TEXTS
        | st.lists(TEXTS, max_size=4)
        | st.lists(st.integers(-1, 2**32) | st.booleans(), max_size=9)
        | st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=3),
        "prompt_embeds": TEXTS | st.lists(TEXTS, max_size=2) | VALUES,
        "conversation": VALUES,
        "token_ids": st.lists(st.integers(0, 2**32 - 1), max_size=9),
        "tools": VALUES,
        "system": TEXTS | st.lists(st.dictionaries(KEYS, TEXTS, max_size=2), max_size=2),
        "instructions": TEXTS,
        "stream": st.booleans() | TEXTS,
        "max_tokens": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "sampling_params": VALUES,
        "other": VALUES,
    },
)
PATHS = (CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/conversations", "/v1/messages", "/v1/rerank")


def read_in_steps(path: str, body: bytes, window: int) -> ParsedBody:
    """Read *body* as if it were dear, with a small window."""
    with pytest.MonkeyPatch.context() as patched:
        for module in ("openai", "anthropic", "engines", "auxiliary"):
            name = f"inferencepool.adapters.bodies._{module}"
            patched.setattr(sys.modules[name], "whole_object", lambda *_: None)
        for module_of in (scanning, pieces, prompt_pieces):
            patched.setattr(module_of, "WINDOW", window)
            patched.setattr(module_of, "CHUNK", max(window, 16))
        return PARSERS.parse({":path": path}, body)


@given(
    DOCUMENTS.flatmap(lambda document: st.tuples(st.just(document), json_texts(document))),
    st.sampled_from((*PATHS, "/inference/v1/generate")),
    st.sampled_from([1, 7, 32, 4096]),
)
def test_steps_and_the_whole_agree(drawn: tuple[Any, str], path: str, window: int) -> None:
    """Reading in steps gives what reading the whole gives, or refuses what that refuses."""
    body = drawn[1].encode("utf-8", "surrogatepass")
    try:
        expected = PARSERS.parse({":path": path}, body)
    except InvalidRequestError:
        with pytest.raises(InvalidRequestError):
            read_in_steps(path, body, window)
        return
    found = read_in_steps(path, body, window)

    for name in ("model", "prompt", "stream", "max_output_tokens", "cache_salt", "prompt_unread"):
        assert getattr(expected, name) == getattr(found, name), name
    assert (expected.prompt_tokens is None) == (found.prompt_tokens is None)
    assert list(expected.prompt_tokens or ()) == list(found.prompt_tokens or ())
    assert [*map(list, expected.more_prompts)] == [*map(list, found.more_prompts)]
    assert rewrite_model(body, "new") == rewrite_model(body, "new", found.model_span)


@given(DOCUMENTS.flatmap(json_texts), st.integers(0, 400), st.binary(max_size=3), st.sampled_from(PATHS))
def test_nothing_else_is_raised(text: str, at: int, put: bytes, path: str) -> None:
    """Whatever a body holds, it is read or refused; what the whole refuses for its members is refused in steps too."""
    body = text.encode("utf-8", "surrogatepass")
    body = body[:at] + put + body[at + 1 :]
    try:
        loads_json(body)
    except (ValueError, RecursionError):
        try:
            read_in_steps(path, body, 7)
        except InvalidRequestError:
            return


@given(
    objects(),
    st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"]),
    st.sampled_from([b"", b"NaN", b"\xed\xa0\x80", b"\r\n", b"\xef\xbb\xbf", b'"model":"b",', b",", b"\0", b"\x0c"]),
    st.integers(0, 60),
)
def test_the_model_is_the_one_that_a_server_reads(body: bytes, encoding: str, put: bytes, at: int) -> None:
    """Of what Python's json makes an object the same model is found, in one go and in steps, or none with a reason."""
    while 0x80 <= body[at : at + 1].ljust(1)[0] < 0xC0:
        # Not inside of a letter.
        at += 1
    body = (body[:at] + put + body[at:]).decode("utf-8", "surrogatepass").encode(encoding, "surrogatepass")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    model = document.get("model")
    for parsed in (PARSERS.parse({":path": "/v1/rerank"}, body), read_in_steps("/v1/rerank", body, 7)):
        assert parsed.unread or parsed.model == (model if isinstance(model, str) else None)


def test_long_texts_are_cut_between_letters() -> None:
    """Letters of several bytes, escapes and pairs of escapes come out whole wherever a step ends."""
    text = "aé中😀\n\\" * 40_000
    for ascii_only in (True, False):
        body = json.dumps({"model": "m", "messages": [{"role": "u", "content": text}]}, ensure_ascii=ascii_only)
        parsed = finished(PARSERS.read({":path": CHAT}, body.encode(), Budget(prompt_bytes=1 << 40)))

        assert b"\xfeu\xff" + text.encode() == parsed.prompt


@pytest.mark.parametrize(
    ("body", "is_cheap"),
    [
        (b"{" * 2_048, True),
        (b"{" * 1_000 + b"x" * (14 << 10), True),
        (b"{" * 1_001 + b"x" * (14 << 10), False),
        (b"{" * 1_000 + b"[" * 24 + b"," * (127 << 10), True),
        (b"{" * 1_000 + b"[" * 25 + b"," * (127 << 10), False),
        (b"{" * 700 + b"[" * 325 + b"x" * (127 << 10), True),
        (b"[" * 8_192 + b"x" * (120 << 10), True),
        (b"[" * 8_193 + b"x" * (120 << 10), False),
        (b"[" * 4_096 + b"," * 4_096 + b"x" * (127 << 10), True),
        (b"[" * 4_096 + b"," * 4_097 + b"x" * (127 << 10), False),
        (b"," * 16_384 + b"x" * (256 << 10), True),
        (b"," * 16_385 + b"x" * (256 << 10), False),
        (b"x" * (1 << 20), True),
        (b"x" * ((1 << 20) + 1), False),
    ],
)
def test_what_is_read_in_one_go(body: bytes, is_cheap: bool) -> None:
    """Few values: brackets and commas are counted, as far as it takes, in all of a text or in a part of it."""
    assert is_cheap == pieces.is_cheap(body)
    assert is_cheap == pieces.is_cheap(b"{,[" + body + b"],}" * 9_000, 3, 3 + len(body))


CROWDED = {
    "parts": (CHAT, b'{"model":"m","messages":[{"role":"user","content":[%b]}]}', b"{}", 5_000),
    "messages": (CHAT, b'{"model":"m","messages":[%b]}', b'{"role":"a"}', 1_200),
    "items": ("/v1/responses", b'{"model":"m","input":[%b]}', b"{}", 4_000),
    "results": (
        "/v1/messages",
        b'{"model":"m","messages":[{"role":"user","content":[%b]}]}',
        b'{"type":"tool_result"}',
        4_000,
    ),
}


@pytest.mark.parametrize(("path", "frame", "item", "count"), CROWDED.values(), ids=list(CROWDED))
def test_small_bodies_of_many_objects_are_read_in_steps(path: str, frame: bytes, item: bytes, count: int) -> None:
    """No step makes more than a window of them, which a body of a few KiB may hold thousands of."""
    data = frame % b",".join([item] * count)
    assert len(data) * 1.1 // 4_096 <= 1 + sum(1 for _ in BodyParsers().read({":path": path}, data))
    assert not is_small(data, {})

    few = frame % b",".join([item] * 300)
    assert 0 == sum(1 for _ in BodyParsers().read({":path": path}, few))
    assert is_small(few, {})


def test_many_fields_of_a_message_are_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each by itself would take as long as a message."""
    calls: list[Any] = []
    encode = prompts._to_json

    def counting(value: Any) -> bytes:
        calls.append(value)
        return encode(value)

    monkeypatch.setattr(prompts, "_to_json", counting)
    fields = b",".join(b'"k%d":%d' % (number, number) for number in range(8_000))
    data = b'{"model":"m","messages":[{"role":"user",%b,"content":"a"}]}' % fields
    others = data.replace(b'"k7999":7999', b'"k7999":1')
    first, second = (BodyParsers().parse({":path": CHAT}, each).prompt for each in (data, others))

    assert 2 == len(calls)
    assert first != second


GENERATE = "/vllm.grpc.engine.VllmEngine/Generate"
GRPC = BodyParsers([parser_named("vllmgrpc-parser")])


def field(number: int, value: bytes) -> bytes:
    """Give a field of protobuf that holds bytes, its length in four."""
    size = bytes((len(value) >> 7 * at & 0x7F) | (0x80 if at < 3 else 0) for at in range(4))
    return bytes([number << 3 | 2]) + size + value


def framed(message: bytes) -> bytes:
    """Put *message* into a frame of gRPC."""
    return b"\0" + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize(
    ("message", "steps"),
    [
        (field(3, "é".encode() * (1 << 20)), 8),
        (field(2, field(2, b"\1" * (1 << 20))), 20),
        (field(2, b"\x10\5" * 49_999), 90),
        (b"\x28\1" * 49_990 + field(2, b"\x10\5"), 90),
        (field(2, field(2, b"\5" * 60)) * 4_000, 4_000),
    ],
)
def test_steps_of_grpc_are_small(message: bytes, steps: int) -> None:
    """A text is read as far as the budget goes, and of many fields and numbers a few in each step."""
    data = framed(message)

    assert steps <= sum(1 for _ in GRPC.read({":path": GENERATE}, data))


def test_no_more_of_a_text_of_grpc_is_read_than_the_budget() -> None:
    """Wherever that cuts a letter; what is behind it is not even checked."""
    data = framed(field(3, b"a" + "é".encode() * 50 + b"\xff"))
    for size in (0, 1, 2, 3, 101):
        parsed = finished(GRPC.read({":path": GENERATE}, data, Budget(prompt_bytes=size)))
        assert (size, 102 - size) == (len(parsed.prompt), parsed.prompt_unread)
    with pytest.raises(InvalidRequestError, match="unmarshaling GenerateRequest: 'utf-8' codec"):
        finished(GRPC.read({":path": GENERATE}, data))


@pytest.mark.parametrize("message", [field(2, b"\x12\0" * 4_097), field(2, b"") * 4_097])
def test_fields_of_grpc_that_are_kept_are_few(message: bytes) -> None:
    """Each is an object; real messages have some dozens."""
    with pytest.raises(InvalidRequestError, match="more than 4096 fields of bytes"):
        GRPC.parse({":path": GENERATE}, framed(message))
