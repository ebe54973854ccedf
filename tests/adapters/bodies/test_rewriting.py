"""Another model in a body, and not one other byte changed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from inferencepool.adapters.bodies import loads_json, rewrite_model
from inferencepool.errors import InvalidRequestError
from tests.strategies.bodies import TEXTS, objects


@given(objects(), TEXTS)
def test_only_the_model_changes(body: bytes, model: str) -> None:
    """The rewritten body is read as the same object with another model."""
    document = loads_json(body)

    assert {**document, "model": model} == loads_json(rewrite_model(body, model))


@given(objects())
def test_all_other_bytes_stay(body: bytes) -> None:
    """The bytes before and behind the model's text are those of the body, and only the former model is gone."""
    document = loads_json(body)
    written = rewrite_model(body, "\x00new")
    head, _, tail = written.partition(json.dumps("\x00new").encode())

    if "model" in document:
        assert body.startswith(head)
        assert body.endswith(tail)
        assert document["model"] == loads_json(body[len(head) : len(body) - len(tail)])
    else:
        comma = b"," if document else b""
        assert body == head.removesuffix(b'"model":') + tail.removeprefix(comma)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"a"}', b'{"model":"new"}'),
        (b' {\n "model" :\t"a" , "x":1.50}\n', b' {\n "model" :\t"new" , "x":1.50}\n'),
        (b'{"x":1e5,"model":"a\\"b,}"}', b'{"x":1e5,"model":"new"}'),
        (b'{"model":"a","model":"b"}', b'{"model":"a","model":"new"}'),
        (b'{"\\u006dod\\u0065l":"a"}', b'{"\\u006dod\\u0065l":"new"}'),
        (b'{"\\u006D\\u006F\\u0064\\u0065\\u006C":1}', b'{"\\u006D\\u006F\\u0064\\u0065\\u006C":"new"}'),
        (
            b'{"t":[{"model":"a"}],"model":"b","z":{"model":"c"}}',
            b'{"t":[{"model":"a"}],"model":"new","z":{"model":"c"}}',
        ),
        (b'{"t":{"model":"a"}}', b'{"model":"new","t":{"model":"a"}}'),
        (b"{}", b'{"model":"new"}'),
        (b"{ \n}", b'{"model":"new" \n}'),
        (b'{"model":null,"a":1}', b'{"model":"new","a":1}'),
        (b'{"model":12.5e3 }', b'{"model":"new" }'),
        (b'{"model":{"a":["}",{}]},"b":1}', b'{"model":"new","b":1}'),
        (b'{"model":[1,"]"]}', b'{"model":"new"}'),
        (b'{"a\\"model":1}', b'{"model":"new","a\\"model":1}'),
        (b'{"a":"model","b":"\\\\"}', b'{"model":"new","a":"model","b":"\\\\"}'),
        (b'{"a":"\\\\\\"","model":1}', b'{"a":"\\\\\\"","model":"new"}'),
        (b'{"a":"{\\"model\\":","model":1}', b'{"a":"{\\"model\\":","model":"new"}'),
        (b'{"x":12345678901234567890123,"y":"<&>"}', b'{"model":"new","x":12345678901234567890123,"y":"<&>"}'),
    ],
)
def test_bytes(body: bytes, expected: bytes) -> None:
    """The value of the last key ``model`` of the object itself is replaced; where there is none, it is added first."""
    assert expected == rewrite_model(body, "new")


def test_the_model_is_written_as_json() -> None:
    """Whatever a model is called, its name is read again."""
    assert b'{"model":"a\\"\\\\\\u00e9\\ud800"}' == rewrite_model(b'{"model":1}', 'a"\\\u00e9\ud800')


@pytest.mark.parametrize("body", [b"", b"[]", b"model", b' "model": {'])
def test_no_object(body: bytes) -> None:
    """What is no object has no model."""
    with pytest.raises(InvalidRequestError, match="only in a JSON object"):
        rewrite_model(body, "new")


@pytest.mark.parametrize(
    "filler",
    [
        b'"' + b"text " * 2_000_000 + b'"',
        b'"' + b'\\"\\\\' * 1_000_000 + b'"',
        b'"' + b"\\\\" * 5_000_000 + b'"',
        b"[" * 2_000_000 + b"]" * 2_000_000,
        b'{"model":' * 200_000 + b"1" + b"}" * 200_000,
        b'["a"' + b',"b"' * 500_000 + b"]",
    ],
    ids=lambda filler: repr(filler[:6]),
)
def test_large_bodies(filler: bytes) -> None:
    """Long strings, many escapes and deep nesting are passed in time; a scanner that is not linear never ends here."""
    body = b'{"x":' + filler + b',"model":"a","y":' + filler + b"}"
    expected = b'{"x":' + filler + b',"model":"new","y":' + filler + b"}"

    assert (expected == rewrite_model(body, "new")) is True


@pytest.mark.parametrize("body", [b'{"model":', b'{"model":{"a":1', b'{"model":"a'])
def test_an_object_without_an_end_raises_nothing(body: bytes) -> None:
    """A body that no parser would have passed gives some bytes, and no error of another kind."""
    assert rewrite_model(body, "new").startswith(b'{"model":"new"')
