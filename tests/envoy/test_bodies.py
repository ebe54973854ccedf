"""Bodies arrive as they were sent, whatever their size and however the picker gets them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from random import Random
from typing import Any

import pytest

from inferencepool.model import InferenceModelRewrite, ObjectMeta, PoolReference, RewriteRule, TargetModel
from tests.envoy.stage import CHAT, KINDS, MODEL, Stage, chat, on_stage
from tests.gateway.pools import picker_filter

KB, MB = 1000, 1_000_000
SIZES = [0, 1, KB, 200 * KB, 3 * MB, 20 * MB]
OPAQUE = "/files/upload?name=a%20b"


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _noise(size: int) -> bytes:
    return Random(size).randbytes(size)


class TestUnchanged:
    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_opaque(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Bytes that nobody reads, of every size, and none at all."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        headers = {"x-pin": stage.scripted.address, "content-type": "application/octet-stream"}
        for size in SIZES:
            body = _noise(size)
            reply = await client.send(OPAQUE, body, headers, "POST")
            assert 200 == reply.status, (size, reply)
            told = reply.json()
            assert ("POST", OPAQUE, size, _hash(body)) == (told["method"], told["path"], told["length"], told["sha256"])
        for method in ("GET", "DELETE"):
            told = (await client.send(OPAQUE, None, headers, method)).json()
            assert (method, OPAQUE, 0) == (told["method"], told["path"], told["length"])
        assert [] == picker.errors
        await picker.until_idle()

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_conversation(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Bodies that the picker reads."""
        picker = await stage.picker()
        client = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        for size in SIZES:
            body = chat(size)
            reply = await client.send(CHAT, body, {"x-pin": stage.addresses[0]})
            assert (200, _hash(body)) == (reply.status, reply.headers.get("x-received-sha256")), (
                size,
                reply.body[:200],
            )
            assert size <= len(body)
            model = (await picker.exchange(reply.request_id)).model
            assert model == ("" if body_mode == "none" else MODEL)
        await picker.until_idle()

    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered", "none"])
    @on_stage
    async def test_in_pieces(self, stage: Stage, body_mode: str) -> None:
        """A body without content-length, which comes in pieces."""
        picker = await stage.picker()
        client = await stage.behind(picker, body_mode=body_mode)
        body = chat(300 * KB)

        async def pieces() -> Any:
            for start in range(0, len(body), 70 * KB):
                yield body[start : start + 70 * KB]
                await asyncio.sleep(0)

        headers = {"x-pin": stage.addresses[0], "x-request-id": f"pieces-{body_mode}"}
        async with client.http.post(client.url + CHAT, data=pieces(), headers=headers) as response:
            assert (200, _hash(body)) == (response.status, response.headers["x-received-sha256"])

    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered"])
    @on_stage
    async def test_many_at_a_time(self, stage: Stage, body_mode: str) -> None:
        """More bytes at a time than the picker holds of messages that are not whole: 40 bodies of 2 MB."""
        picker = await stage.picker()
        client = await stage.behind(picker, body_mode=body_mode)
        bodies = [_noise(2 * MB + number) for number in range(40)]
        headers = {"x-pin": stage.scripted.address}
        replies = await asyncio.gather(*(client.send(OPAQUE, body, headers) for body in bodies))
        assert [(200, _hash(body)) for body in bodies] == [(reply.status, reply.json()["sha256"]) for reply in replies]
        await picker.until_idle()


class TestLimits:
    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered"])
    @on_stage
    async def test_body_above_the_pickers_limit(self, stage: Stage, body_mode: str) -> None:
        """A body that the picker does not take gets 413, and the next one is served."""
        picker = await stage.picker(max_body=1 * MB)
        client = await stage.behind(picker, body_mode=body_mode)
        for size in (int(1.2 * MB), 5 * MB):
            reply = await client.send(CHAT, chat(size))
            assert 413 == reply.status
            assert b"inference error: PayloadTooLarge - the request's body is longer than" in reply.body
        assert 200 == (await client.send(CHAT, chat(900 * KB), {"x-pin": stage.addresses[0]})).status
        await picker.until_idle()


def _rewrite(target: str) -> InferenceModelRewrite:
    return InferenceModelRewrite(
        metadata=ObjectMeta(name="rewrite", namespace="default"),
        pool_ref=PoolReference(name="llama"),
        rules=[RewriteRule(targets=[TargetModel(model_rewrite=target, weight=1)])],
    )


class TestRewriting:
    @pytest.mark.parametrize("cluster", ["override-host", "original-dst"])
    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered"])
    @pytest.mark.parametrize("target", ["m", "a-model-with-a-much-longer-name-than-before"])
    @on_stage
    async def test_only_the_model_changes(self, stage: Stage, cluster: str, body_mode: str, target: str) -> None:
        """The model's bytes are replaced, all others stay; a content-length that arrives is right."""
        picker = await stage.start_picker(rewrites=[_rewrite(target)])
        client = await stage.start_envoy(picker.address, cluster=cluster, body_mode=body_mode)
        odd = (
            b'{ "z":1.50 ,\t"messages":[{"role":"user","content":"<a> & \\u00e9 \xc3\xa9 "}], '
            b'"model" : "llama-3" ,"n":12345678901234567890 }'
        )
        for body in (odd, chat(200 * KB), chat(3 * MB)):
            wanted = body.replace(json.dumps(MODEL).encode(), json.dumps(target).encode())
            reply = await client.send(CHAT, body, {"x-pin": stage.scripted.address})
            assert 200 == reply.status, reply
            told = reply.json()
            assert (len(wanted), _hash(wanted)) == (told["length"], told["sha256"])
            arrived = dict(told["headers"])
            if body_mode == "buffered":
                assert str(len(wanted)) == arrived["content-length"]
            else:
                assert ("chunked", False) == (arrived["transfer-encoding"], "content-length" in arrived)
            exchange = await picker.exchange(reply.request_id)
            assert (MODEL, target) == (exchange.model, exchange.target_model)
        await picker.until_idle()

    @pytest.mark.parametrize("target", ["m", "a-model-with-a-much-longer-name-than-before"])
    @pytest.mark.parametrize("response_mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
    @pytest.mark.parametrize("body_mode", ["full-duplex", "buffered"])
    @on_stage
    async def test_of_a_compressed_body_and_back(
        self, stage: Stage, body_mode: str, response_mode: str, target: str
    ) -> None:
        """It arrives unpacked with the other model; the response, cut within the model's name, names the client's."""

        def sees_responses(document: dict[str, Any]) -> None:
            picker_filter(document)["processing_mode"]["response_body_mode"] = response_mode

        picker = await stage.start_picker(rewrites=[_rewrite(target)])
        client = await stage.start_envoy(picker.address, body_mode=body_mode, prepare=sees_responses)
        headers = {"x-pin": stage.scripted.address, "content-encoding": "gzip"}
        for size in (1, 200 * KB):
            wanted = chat(size).replace(json.dumps(MODEL).encode(), json.dumps(target).encode())
            told = (await client.send(CHAT, gzip.compress(chat(size)), headers)).json()
            assert (len(wanted), _hash(wanted)) == (told["length"], told["sha256"])
            assert "content-encoding" not in dict(told["headers"])

        script = stage.scripted.script()
        event = b'data: {"id":"%d","model":"%b","choices":[]}\n\n'
        first, second = (event % (number, target.encode()) for number in (1, 2))
        cut = first.index(b'"model":"') + len(b'"model":"') + len(target) // 2
        script.send(first[:cut])
        async with client.open(CHAT, gzip.compress(chat()), {**headers, **script.headers}) as response:
            received = b""
            while b'"id":"1"' not in received:
                received += await response.content.readany()
            script.send(first[cut:])
            script.send(second)
            script.end()
            received += await response.content.read()
        assert b"".join(event % (number, MODEL.encode()) for number in (1, 2)) == received
        await picker.until_idle()
