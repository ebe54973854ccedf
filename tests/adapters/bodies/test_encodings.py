"""Bodies that are compressed, and forms."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.adapters.bodies import BodyParsers, Budget, finished, rewrite_model
from inferencepool.errors import InvalidRequestError, RequestTooLargeError

PARSERS = BodyParsers()
PATH = {":path": "/v1/completions"}
BODY = json.dumps({"model": "m", "prompt": "hi " * 1_000}).encode()


def raw_deflate(data: bytes) -> bytes:
    """Compress without anything around it, as some clients do."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "GZIP , identity": gzip.compress,
    "deflate": zlib.compress,
    " deflate": raw_deflate,
    "deflate, gzip": lambda data: gzip.compress(zlib.compress(data)),
    "identity": bytes,
    "": bytes,
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_compressed_bodies_are_read(encoding: str) -> None:
    """The model and the prompt are those of the body as it was, which is there to be rewritten."""
    parsed = PARSERS.parse({**PATH, "content-encoding": encoding}, ENCODINGS[encoding](BODY))

    assert ("m", b"hi " * 1_000) == (parsed.model, parsed.prompt)
    assert parsed.plain == (None if encoding in {"", "identity"} else BODY)


@given(st.binary(max_size=200_000), st.integers(1, 5), st.binary(max_size=9).map(lambda pad: bytes(len(pad))))
def test_any_bytes_are_unpacked(data: bytes, members: int, padding: bytes) -> None:
    """Whatever is in it, in one member or several, with padding behind."""
    body = b'{"model":"m","prompt":"%b"}' % data.hex().encode()
    size = len(body) // members + 1
    packed = b"".join(gzip.compress(body[at : at + size]) for at in range(0, len(body), size))
    parsed = PARSERS.parse({**PATH, "content-encoding": "gzip"}, packed + padding) if data else None

    assert parsed is None or body == parsed.plain


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "gzip, gzip, gzip", "compress"])
def test_unknown_encodings_are_passed_on(encoding: str) -> None:
    """Nothing is known of the body, but why."""
    parsed = PARSERS.parse({**PATH, "content-encoding": encoding}, b"?")

    assert (None, encoding, False) == (parsed.model, parsed.unread_encoding, parsed.can_rewrite)
    assert "" == PARSERS.parse({":path": "/other", "content-encoding": encoding}, b"?").unread_encoding


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", gzip.compress(BODY)[:-1], gzip.compress(BODY)[:50], gzip.compress(b"") * 1_002],
    # What gzip writes holds the time: without names, processes would find different tests.
    ids=["empty", "plain", "last byte missing", "cut", "too many members"],
)
def test_what_is_not_compressed_as_told(body: bytes) -> None:
    """It is refused; so are members without end."""
    with pytest.raises(InvalidRequestError, match="content-encoding: the body is not gzip"):
        PARSERS.parse({**PATH, "content-encoding": "gzip"}, body)


@pytest.mark.parametrize("twice", [False, True])
def test_a_bomb_is_unpacked_in_steps_and_no_further_than_allowed(*, twice: bool) -> None:
    """A body that swells is refused once it is too long; no step makes more than 64 KiB of it."""
    bomb = gzip.compress(gzip.compress(bytes(50 << 20)) if twice else bytes(50 << 20))
    budget = Budget(plain_bytes=1 << 20)
    steps = PARSERS.read({**PATH, "content-encoding": "gzip, gzip" if twice else "gzip"}, bomb, budget)
    counts = [0]

    def go_on() -> None:
        counts.extend(budget.unpacked for _ in steps)

    with pytest.raises(RequestTooLargeError, match="1048576 bytes allowed"):
        go_on()
    assert max(after - before for before, after in pairwise(counts)) <= 1 << 16
    assert budget.unpacked <= (1 << 20) + (1 << 17) + len(bomb) * 1_000


def form(**fields: str | tuple[str, bytes]) -> bytes:
    """Make a form as clients do: fields of text, and files with their names."""
    parts = []
    for name, value in fields.items():
        file, data = value if isinstance(value, tuple) else ("", value.encode())
        named = f'; filename="{file}"\r\nContent-Type: application/octet-stream' if file else ""
        parts.append(f'--x\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + data + b"\r\n")
    return b"".join([*parts, b"--x--\r\n"])


AUDIO = {":path": "/v1/audio/transcriptions", "content-type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_the_model_of_a_form(size: int) -> None:
    """It is read and rewritten wherever it stands, and nothing else changes."""
    audio = os.urandom(size)
    for fields in ({"model": "m", "stream": "true"}, {"stream": "true", "model": "m"}):
        body = form(file=("a.wav", audio), **fields)
        parsed = PARSERS.parse(AUDIO, body)
        assert parsed.model_span is not None
        start, end = parsed.model_span

        assert ("m", True, b"m") == (parsed.model, parsed.stream, body[start:end])
        assert rewrite_model(body, "new", parsed.model_span) == body[:start] + b"new" + body[end:]
        assert rewrite_model(body, "new") == body[:start] + b"new" + body[end:]


def test_a_form_without_a_model_gets_one() -> None:
    """In front of everything else."""
    body = form(file=("model", b"a"), language="de")
    parsed = PARSERS.parse(AUDIO, body)
    written = rewrite_model(body, "new", parsed.model_span)

    assert (None, (0, 0)) == (parsed.model, parsed.model_span)
    assert "new" == PARSERS.parse(AUDIO, written).model
    assert b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nnew\r\n' + body == written


@pytest.mark.parametrize(
    "name", ["name=model", 'name="model"', "name*=utf-8''mode%6C", 'NAME="model"', 'x=1; name="model"']
)
def test_names_in_any_way(name: str) -> None:
    """A field is the model's in whatever way its name is written, as for Starlette; the last of several counts."""
    body = b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\na\r\n--x\r\n'
    body += b"A: b\r\nContent-Disposition:form-data; %b\r\n\r\nm\r\n--x--\r\n" % name.encode()

    assert "m" == PARSERS.parse(AUDIO, body).model


@pytest.mark.parametrize(
    "body",
    [
        b"--",
        b"--x",
        b"--x\r\n",
        b"--x\r\nA: b\r\n\r\n",
        b"--x\r\nA: b\r\n\r\n\r\n--y",
        b"--x\r\n" + b"A" * 9_000 + b"\r\n\r\n\r\n--x--",
        b"--x\r\nA: b\r\n\r\n\r\n" * 2_001,
        b"--" + b"x" * 300 + b"\r\n",
    ],
)
def test_what_is_no_form(body: bytes) -> None:
    """It is passed on, and nothing is known of it but that."""
    parsed = PARSERS.parse(AUDIO, body)

    assert (None, False, True) == (parsed.model, parsed.can_rewrite, "no form" in parsed.unread)


def test_a_model_that_would_break_a_form() -> None:
    """It is refused: it could add fields."""
    with pytest.raises(InvalidRequestError, match="cannot be written in this form"):
        rewrite_model(form(model="m", file=("a", b"b")), "a\r\n--x")


def test_a_form_is_read_in_steps() -> None:
    """However large the file is."""
    body = form(file=("a.wav", bytes(8 << 20)), model="m")
    steps = PARSERS.read(AUDIO, body)

    assert 8 <= sum(1 for _ in steps)
    assert "m" == finished(PARSERS.read({}, body)).model
