"""No spelling of a path gets the client's model past a rewrite to a model server."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

import pytest

from inferencepool.model import InferenceModelRewrite, ObjectMeta, PoolReference, RewriteRule, TargetModel
from tests.envoy.stage import Client, Stage, chat, on_stage

FORBIDDEN = "asked-model"
SERVED = "served-model"

SPELLINGS = [
    "/v1/chat/completions",
    "/v1/chat/%63ompletions",
    "/v1/%63hat/%63%6F%6d%70%6c%65%74%69%6f%6e%73",
    "/v1/chat%2Fcompletions",
    "/v1/chat%2fcompletions",
    "/v1/chat%5Ccompletions",
    "/v1/chat\\completions",
    "//v1/chat/completions",
    "/v1//chat//completions",
    "/v1/./chat/completions",
    "/v1/%2e/chat/completions",
    "/v1/x/../chat/completions",
    "/v1/x/%2e%2E/chat/completions",
    "/v1/x%2f..%2fchat/completions",
    "/v1/chat/completions/x/..",
    "/v1/chat/completions//..",
    "/v1/chat/completions/",
    "/v1/chat/completions//",
    "/v1/chat/completions;a=b",
    "/v1/chat/completions%3Ba=b",
    "/v1/chat/completions?x=/../y",
    "/v1/chat/completions#x",
    "/v1/chat/completions%00",
    "/v1/chat/completions%0a",
    "http://model-server/v1/chat/%63ompletions",
    "http://model-server//v1/chat%2Fcompletions",
]


def _rewrite() -> InferenceModelRewrite:
    return InferenceModelRewrite(
        metadata=ObjectMeta(name="all", namespace="default"),
        pool_ref=PoolReference(name="llama"),
        rules=[RewriteRule(targets=[TargetModel(model_rewrite=SERVED, weight=1)])],
    )


def _as_it_is(_: dict[str, Any]) -> None:
    """Leave the configuration as `envoy-config` makes it."""


def _unnormalised(document: dict[str, Any]) -> None:
    """Let Envoy be one that leaves paths as they are, as most gateways are by default."""
    (listener,) = document["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    for name in ("normalize_path", "merge_slashes", "path_with_escaped_slashes_action"):
        del manager[name]


async def _send(client: Client, target: str, body: bytes) -> tuple[int, str, bytes]:
    """Send a request with *target* as it is, which client libraries would tidy up."""
    address = urlsplit(client.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    answer = await reader.read()
    writer.close()
    lines, _, content = answer.partition(b"\r\n\r\n")
    status, *headers = lines.decode().split("\r\n")
    location = next((line.partition(": ")[2] for line in headers if line.lower().startswith("location:")), "")
    if b"transfer-encoding: chunked" in lines:
        content = content.partition(b"\r\n")[2]
    return int(status.split()[1]), location, content


@pytest.mark.parametrize("normalised", [True, False])
@on_stage
async def test_no_spelling_evades_a_rewrite(stage: Stage, normalised: bool) -> None:
    """Whether Envoy tidies paths or not, a server that answers at all of these never gets the model asked for."""
    scripted = [stage.scripted.address]
    picker = await stage.start_picker(scripted, rewrites=[_rewrite()])
    prepare = _as_it_is if normalised else _unnormalised
    client = await stage.start_envoy(picker.address, addresses=scripted, prepare=prepare)
    seen = set()
    for spelling in SPELLINGS:
        target, redirects = spelling, 0
        status, location, content = await _send(client, target, chat(model=FORBIDDEN))
        while status == 307:
            redirects += 1
            assert redirects == 1, spelling
            target = location
            status, location, content = await _send(client, target, chat(model=FORBIDDEN))
        assert status in {200, 400}, (spelling, status, content)
        seen.add((status, redirects))
        if status == 200:
            told = json.loads(content[: content.rindex(b"}") + 1])
            assert SERVED == json.loads(told["body"])["model"], (spelling, told)
    assert seen >= ({(200, 0), (200, 1), (400, 0)} if normalised else {(200, 0), (400, 0)})
    assert [] == picker.errors
    await picker.until_idle()


@on_stage
async def test_escaped_slashes_are_sent_back_as_plain_ones(stage: Stage) -> None:
    """A client that escapes the slash in the name of a model gets where it wants, by one more request."""
    picker = await stage.picker()
    client = await stage.behind(picker)

    status, location, _ = await _send(client, "/v1/models/org%2Fname?x=%2F", b"")

    assert 307 == status
    assert "/v1/models/org/name?x=%2F" == urlsplit(location)._replace(scheme="", netloc="").geturl()
