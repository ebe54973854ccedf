"""Forms are read as the form readers of the model servers read them, or not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from email.message import Message
from types import FrameType
from typing import Any
from unittest import mock

import aiohttp
import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette import formparsers
from starlette.datastructures import UploadFile
from starlette.requests import Request

from inferencepool.adapters.bodies import BodyParsers, ParsedBody

PARSERS = BodyParsers()
PATH = "/v1/audio/transcriptions"
FORM = "multipart/form-data; boundary=x"
FIRST = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n'

REFUSED = object()
"""What a server makes of a form that it refuses."""


def parse(body: bytes, content_type: str = FORM) -> ParsedBody:
    """Read *body*, a form."""
    return PARSERS.parse({":path": PATH, "content-type": content_type}, body)


def part(head: bytes, value: bytes = b"b") -> bytes:
    """Make a form with the model ``a``, and behind it a part with the header lines *head*."""
    return FIRST + b"--x\r\n" + head + b"\r\n\r\n" + value + b"\r\n--x--\r\n"


def read_by_starlette(body: bytes, content_type: str = FORM) -> Any:
    """Give the model that a server finds, None if there is none, or that it refuses the form."""
    scope = {"type": "http", "headers": [(b"content-type", content_type.encode("latin-1"))]}

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def read() -> Any:
        async with Request(scope, receive).form() as form:
            model = form.get("model")
        return REFUSED if isinstance(model, UploadFile) else model

    try:
        return at_once(read())
    # Whatever it raises ends the request.
    except Exception:  # noqa: BLE001
        return REFUSED


def at_once(work: Coroutine[Any, Any, Any]) -> Any:
    """Run *work*, which waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError


def former_options(value: str | bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Read a header as python-multipart did before it took extended forms for odd: with the module for mails."""
    message = Message()
    message["content-type"] = value if isinstance(value, str) else value.decode("latin-1")
    parameters: Any = message.get_params()
    (kind, _), *given = parameters
    options = {}
    for key, text in given:
        options[key.encode("latin-1")] = (text[-1] if isinstance(text, tuple) else text).encode("latin-1")
    return kind.encode("latin-1"), options


def read_by_all(body: bytes, content_type: str = FORM) -> list[Any]:
    """Give what the readers of today and of former versions find."""
    with mock.patch.object(formparsers, "parse_options_header", former_options):
        former = read_by_starlette(body, content_type)
    return [read_by_starlette(body, content_type), former]


PIECES = st.sampled_from(
    [
        *(
            "; ",
            ";",
            "=",
            '"',
            "\\",
            '\\"',
            " ",
            "\t",
            "<",
            ">",
            "'",
            "*",
            "*0",
            "\n",
            "\xa0",
            "name",
            "NAME",
            "filename",
        ),
        *(
            "model",
            "mode%6C",
            "mode",
            "utf-8''model",
            'name="model"',
            'name="file"',
            "name*=utf-8''model",
            "name=model",
        ),
        *('; filename="a"', "; filename*=utf-8''a", '; filename="a;b"', '; filename="\\";name=model"', "\xe4"),
    ]
)
DISPOSITIONS = st.lists(PIECES, max_size=8).map(lambda pieces: "form-data; " + "".join(pieces))


@given(DISPOSITIONS, st.sampled_from(["", "\r\nContent-Disposition: form-data; name=model", "\r\nA: b"]))
@example('form-data; name="x"; name="model"', "")
@example('form-data; name="x"', "\r\nContent-Disposition: form-data; name=model")
@example("form-data; name=<model>", "")
@example("form-data; name=\"x\"; name*=utf-8''model", "")
@example('form-data; name="x\\\\"; filename="; name=model; a="', "")
def test_the_field_that_a_server_reads(disposition: str, more: str) -> None:
    """However a head is written: the model that any version of the readers finds is found, or the form is not read."""
    body = part(f"Content-Disposition: {disposition}{more}".encode("latin-1"))
    parsed = parse(body)

    for found in read_by_all(body):
        assert found is REFUSED or parsed.unread or found == parsed.model


@pytest.mark.parametrize(
    ("head", "model"),
    [
        ('form-data; name="model"', "b"),
        ("form-data; name=model", "b"),
        ('form-data; name = "model" ; x=1;', "b"),
        ("form-data; name*=utf-8''mode%6C", "b"),
        ('form-data; NAME="model"', "b"),
        ('form-data; name="file"; filename="a; name=\\"model\\".wav"', "a"),
        ('form-data; name="file"; filename="C:\\a.wav"', "a"),
        ("form-data; name=file; filename=my voice.wav", "a"),
        ("form-data; name=\"file\"; filename*=utf-8''%E4.wav", "a"),
        ('form-data; name="file"; filename="\xe4\xf6.wav"', "a"),
        ('form-data; name="timestamp_granularities[]"', "a"),
    ],
)
def test_usual_heads(head: str, model: str) -> None:
    """As clients write them; the last field of a name counts, and files are none."""
    parsed = parse(part(b"Content-Disposition: " + head.encode()))

    assert ("", model) == (parsed.unread, parsed.model)


def by_httpx() -> tuple[str, bytes]:
    """Send a form with the client that OpenAI's is built on."""
    sent = httpx2.Request(
        "POST", "http://example.com", data={"model": "m"}, files={"file": ('\xe4;"\\.wav', b"\r\n--")}
    )
    return sent.headers["content-type"], sent.read()


def by_aiohttp() -> tuple[str, bytes]:
    """Send a form with aiohttp."""
    form = aiohttp.FormData({"model": "m"})
    form.add_field("file", b"\r\n--", filename='\xe4;".wav')
    sent = form()
    written = bytearray()

    class Writer:
        async def write(self, chunk: bytes) -> None:
            written.extend(chunk)

    at_once(sent.write(Writer()))  # type: ignore[arg-type]
    return sent.headers["content-type"], bytes(written)


@pytest.mark.parametrize("send", [by_httpx, by_aiohttp])
def test_forms_of_clients(send: Callable[[], tuple[str, bytes]]) -> None:
    """Their model is read, whatever the name of the file."""
    content_type, body = send()
    parsed = parse(body, content_type)

    assert ("", "m") == (parsed.unread, parsed.model)


@pytest.mark.parametrize("charset", ["utf-16", '"utf-7"', "unicode_escape", "cp037", "utf-8;charset=utf-16"])
def test_another_charset_hides_the_fields(charset: str) -> None:
    """Servers decode names and values by the header, so that a form in another charset is not read."""
    assert parse(part(b'Content-Disposition: form-data; name="model"'), f"{FORM}; charset={charset}").unread


@pytest.mark.parametrize("charset", ["utf-8", '"UTF-8"', "utf8; a=b"])
def test_the_usual_charset(charset: str) -> None:
    """Some clients tell it."""
    content_type = f'multipart/form-data; boundary="x"; charset={charset}; c="d"'

    assert "b" == parse(part(b'Content-Disposition: form-data; name="model"'), content_type).model


@given(st.binary(max_size=12).filter(lambda value: b"\r\n--x" not in value))
@example("modèle".encode("latin-1"))
def test_values_as_a_server_reads_them(value: bytes) -> None:
    """In UTF-8, or byte by byte where they are none."""
    body = part(b'Content-Disposition: form-data; name="model"', value)

    assert [parse(body).model] * 2 == read_by_all(body)


def test_what_begins_as_a_form_only_for_servers() -> None:
    """Empty lines in front are passed over by servers; such a form is not read, even if it looks like JSON too."""
    form = b"--x\r\nContent-Disposition: form-data; name=model\r\n\r\nevil\r\n--x--"
    body = b'\r\n{"pad":"%b","model":"m","n":[%b1]}' % (form, b"1," * 40_000)

    assert ["evil"] * 2 == read_by_all(body)
    for headers in ({":path": PATH}, {}):
        parsed = PARSERS.parse({"content-type": FORM, **headers}, body)
        assert (None, True) == (parsed.model, bool(parsed.unread))


@pytest.mark.parametrize(
    "head",
    [
        b'Content-Disposition: form-data; name="x' + b";" * 8_100,
        b"Content-Disposition: form-data" + b";a=b" * 2_000,
        b"Content-Disposition: form-data" + b';a="' * 2_000,
        b"Content-Disposition: form-data" + b";a=\\" * 2_000,
        b"Content-Disposition:" + b" " * 8_000 + b"=",
        b"a\r\n" * 2_700,
        b"\r\n".join([b"Content-Disposition: form-data; name=a"] * 200),
    ],
)
def test_work_for_a_head(head: bytes) -> None:
    """What a head costs does not grow with the parameters and lines in it: it is matched, and that is linear."""
    body = part(head)
    usual = calls(lambda: parse(part(b'Content-Disposition: form-data; name="model"')))

    assert calls(lambda: parse(body)) <= usual


def calls(act: Callable[[], object]) -> int:
    """Count the functions that *act* calls, those of C included: its cost, whatever the machine does meanwhile."""
    count = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return count
