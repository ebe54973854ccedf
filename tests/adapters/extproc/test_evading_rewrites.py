"""A rewrite is not evaded by a body that servers read in another way than the picker."""

from __future__ import annotations

import json

import pytest

from inferencepool.adapters.extproc import (
    Answer,
    BodyMode,
    ImmediateResponse,
    RequestBody,
    RequestBodyAnswer,
    RequestHeaders,
)
from inferencepool.model import InferenceModelRewrite, ObjectMeta, PoolReference, RewriteRule, TargetModel
from tests.adapters.extproc.sessions import PARTIAL, STREAMED, Bench, ask, feed, head, make_bench, passed_on

JSON = "application/json"
FORM = "multipart/form-data; boundary=x"
RERANK = "/v1/rerank"
SPEECH = "/v1/audio/transcriptions"
CHAT = "/v1/chat/completions"
TEXT = '{"model":"llama","documents":["a"],"messages":[{"role":"user","content":"a"}]}'
FIELD = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nllama\r\n'

# What Python's json reads, and strict readers of UTF-8 do not; each names the model that the rewrite is for.
ODD_JSON = {
    "NaN": TEXT[:-1].encode() + b',"z":NaN}',
    "Infinity": TEXT[:-1].encode() + b',"z":[-Infinity]}',
    "UTF-16 with a mark": TEXT.encode("utf-16"),
    "UTF-16": TEXT.encode("utf-16-le"),
    "UTF-16, big end first": TEXT.encode("utf-16-be"),
    "UTF-32": TEXT.encode("utf-32"),
    "UTF-32 without a mark": TEXT.encode("utf-32-be"),
    "halves of pairs in UTF-8": TEXT.replace('"a"', '"\ud800"').encode("utf-8", "surrogatepass"),
    "deep": TEXT[:-1].encode() + b',"z":' + b"[" * 3_000 + b"]" * 3_000 + b"}",
}
ODD_FORMS = {
    "long head": b"--x\r\nA: " + b"a" * 9_000 + b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' + FIELD,
    "many parts": b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 2_001 + FIELD,
    "long value": FIELD[:-2] + b"a" * 5_000 + b"\r\n",
    "line in front": b"\r\n" + FIELD,
    "name twice": FIELD.replace(b'name="model"', b'name="a"; name="model"'),
    "disposition twice": FIELD.replace(b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=a\r\n"),
}


def bench_for(reason: str) -> tuple[Bench, dict[str, str]]:
    """Make a bench where *reason* makes the model matter, and headers of a request."""
    rule = RewriteRule(("llama",), [TargetModel("lora")])
    rewrite = InferenceModelRewrite(
        metadata=ObjectMeta(name="rewrite"), pool_ref=PoolReference(name="pool"), rules=(rule,)
    )
    bench = make_bench(rewrites=[rewrite] if reason == "rewrite" else [])
    return bench, {"x-llm-d-model-name-rewrite": "lora"} if reason == "header" else {}


def ask_whole(bench: Bench, message: RequestHeaders, data: bytes) -> list[Answer]:
    """Ask, and give all answers, however long the body takes to be read."""
    session, answers = ask(bench, message, data)
    found = [*answers]
    while session.working:
        found += session.advance()
    return found


@pytest.mark.parametrize("reason", ["rewrite", "header", "none"])
@pytest.mark.parametrize(
    ("path", "content_type", "data"),
    [
        *[
            (path, JSON, data)
            for path in (RERANK, "/pooling", "/v1/messages/count_tokens")
            for data in ODD_JSON.values()
        ],
        *[(SPEECH, FORM, data + b"--x--\r\n") for data in ODD_FORMS.values()],
        (SPEECH, f"{FORM}; charset=utf-16", FIELD + b"--x--\r\n"),
    ],
)
def test_what_cannot_be_read_is_refused_where_rewrites_depend_on_it(
    path: str, content_type: str, data: bytes, reason: str
) -> None:
    """Where there is no rewrite it is routed as it is: the server knows what it can read."""
    bench, headers = bench_for(reason)
    answers = ask_whole(bench, head(path=path, headers={"content-type": content_type, **headers}), data)

    if reason == "none":
        assert data == passed_on(answers)
    else:
        assert isinstance(answers[0], ImmediateResponse)
        assert 400 == answers[0].status
        assert b"the model must be known where it may be rewritten" in answers[0].body
        assert b"llama" not in answers[0].body


@pytest.mark.parametrize("data", ODD_JSON.values(), ids=list(ODD_JSON))
def test_what_generates_is_refused_always(data: bytes) -> None:
    """Of a call that generates the body must be read."""
    _, answers = ask(make_bench(), head(path=CHAT), data)

    assert isinstance(answers[0], ImmediateResponse)
    assert 400 == answers[0].status


@pytest.mark.parametrize("path", [RERANK, CHAT])
@pytest.mark.parametrize("padding", ["", "[]," * 20_000])
@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        "\ufeff" + TEXT,
        "\n" + TEXT,
        '{"model":"other","model":1,' + TEXT[1:],
        TEXT.replace('"model"', '"\\u006dod\\u0065l"'),
        TEXT.replace("llama", "ll\\u0061ma"),
        TEXT.replace('"a"', '"\\ud800"'),
        TEXT[:-1] + ',"z":' + "9" * 5_000 + "}",
        TEXT[:-1] + ',"z":' + "[" * 500 + "]" * 500 + "}",
        TEXT[:-1] + ',"Model":"other","z":{"model":"other"}}',
    ],
)
def test_what_can_be_read_is_rewritten(path: str, padding: str, text: str) -> None:
    """Duplicates, escapes, a byte order mark, long numbers and depth change nothing, in small bodies and large ones."""
    if padding:
        text = f'{text[:-1]},"y":[{padding}1]}}'
    bench, _ = bench_for("rewrite")
    changed = passed_on(ask_whole(bench, head(path=path), text.encode())).decode()
    before, after = (json.loads(each.removeprefix("\ufeff").replace("9" * 5_000, "9")) for each in (text, changed))

    assert before | {"model": "lora"} == after


LONG = b'{"model":"llama","pad":"' + b" " * (600 << 10)
CUT = {
    "streamed": (STREAMED, {}, LONG, 413, b"the mode STREAMED, use FULL_DUPLEX_STREAMED"),
    "shorter than its length": (
        PARTIAL,
        {"content-length": "2097152"},
        LONG,
        413,
        b"in the mode BUFFERED_PARTIAL, use",
    ),
    "without a length": (PARTIAL, {}, LONG, 400, b"unless the proxy cut the body in the mode BUFFERED_PARTIAL"),
    "short, without a length": (PARTIAL, {}, LONG[:99], 400, b"unless the proxy cut the body"),
    "odd, without a length": (PARTIAL, {}, ODD_JSON["NaN"], 400, b"NaN is not JSON, unless the proxy cut the body"),
}


@pytest.mark.parametrize("reason", ["rewrite", "header", "none"])
@pytest.mark.parametrize(("mode", "headers", "data", "status", "told"), CUT.values(), ids=list(CUT))
@pytest.mark.parametrize("path", [CHAT, RERANK, "/v1/a/../rerank", "/v1/files"])
def test_what_is_cut_is_refused_where_rewrites_depend_on_it(
    path: str, mode: BodyMode, headers: dict[str, str], data: bytes, status: int, told: bytes, reason: str
) -> None:
    """Where there is no rewrite, or the path is of nobody's bodies, it is routed as it is."""
    bench, asking = bench_for(reason)
    session = bench.session()
    answers = feed(session, head(mode, path=path, headers=headers | asking), RequestBody(data))
    while session.working:
        answers += session.advance()

    last = answers[-1]
    if reason == "none" or path == "/v1/files":
        assert isinstance(last, RequestBodyAnswer)
        assert last.replacement is None
    else:
        assert isinstance(last, ImmediateResponse)
        # Rerank tells by itself why a body cannot be read, and a path that nobody can read is refused first.
        assert status == last.status
        assert b"the model must be known where it may be rewritten" in last.body
        assert told in last.body or (status == 400 and path != CHAT)
        assert b"llama" not in last.body
