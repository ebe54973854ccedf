"""The official Python client of OpenAI's API works through Envoy and the picker, and is told what went wrong."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest

from tests.envoy.stage import CHAT, KINDS, MODEL, Client, Stage, chat, endpoint_at, on_stage

DROPPED = "x-llm-d-request-dropped-reason"
READING = [kind for kind in KINDS if kind[1] != "none"]
MESSAGES: list[Any] = [{"role": "user", "content": "Say something."}]


@asynccontextmanager
async def _client_of(client: Client, **headers: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{client.url}/v1", api_key="none", max_retries=0, default_headers=headers
    ) as official:
        yield official


def _text(error: openai.APIStatusError) -> str:
    return error.response.text


class TestAnswers:
    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @pytest.mark.parametrize("usage", [False, True])
    @on_stage
    async def test_whole_and_streamed(self, stage: Stage, cluster: str, body_mode: str, usage: bool) -> None:
        """Conversations and completions, whole and as events, and the list of models."""
        picker = await stage.picker(usage=usage)
        envoy = await stage.behind(picker, cluster=cluster, body_mode=body_mode, usage=usage)
        async with _client_of(envoy, **{"x-pin": stage.addresses[0]}) as official:
            answer = await official.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=7)
            assert answer.usage is not None
            assert (MODEL, 7) == (answer.model, answer.usage.completion_tokens)
            whole = answer.choices[0].message.content

            parts = []
            stream = await official.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=7, stream=True)
            async for event in stream:
                parts += [choice.delta.content or "" for choice in event.choices]
            assert whole == "".join(parts) != ""

            completion = await official.completions.create(model=MODEL, prompt="Once", max_tokens=5)
            pieces = await official.completions.create(model=MODEL, prompt="Once", max_tokens=5, stream=True)
            joined = "".join([event.choices[0].text async for event in pieces])
            assert completion.choices[0].text == joined != ""

            models = await official.models.list()
            assert MODEL in {model.id async for model in models}
        await picker.until_idle()

    @on_stage
    async def test_usage_reaches_the_observer(self, stage: Stage) -> None:
        """What the client was told, the picker has counted."""
        picker = await stage.picker(usage=True)
        envoy = await stage.behind(picker, usage=True)
        async with _client_of(envoy, **{"x-pin": stage.addresses[0]}) as official:
            stream = await official.chat.completions.create(
                model=MODEL,
                messages=MESSAGES,
                max_tokens=7,
                stream=True,
                stream_options={"include_usage": True},
                extra_headers={"x-request-id": "streamed"},
            )
            told = [event.usage async for event in stream if event.usage]
            answer = await official.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=7, extra_headers={"x-request-id": "whole"}
            )
        for name, usage in (("streamed", told[-1]), ("whole", answer.usage)):
            counted = (await picker.exchange(name)).usage
            assert usage is not None
            assert counted is not None
            assert (usage.prompt_tokens, usage.completion_tokens) == (counted.prompt_tokens, counted.output_tokens)


class TestErrors:
    @pytest.mark.parametrize(("cluster", "body_mode"), READING)
    @on_stage
    async def test_bad_requests(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """No model, no messages, no JSON: 400 with the reason."""
        picker = await stage.picker()
        envoy = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        async with _client_of(envoy) as official:
            with pytest.raises(openai.BadRequestError) as no_model:
                await official.post("/chat/completions", body={"messages": MESSAGES}, cast_to=object)
            with pytest.raises(openai.BadRequestError) as no_messages:
                await official.chat.completions.create(model=MODEL, messages=[])
            with pytest.raises(openai.BadRequestError) as no_prompt:
                await official.post("/completions", body={"model": MODEL}, cast_to=object)
        assert "inference error: BadRequest - model not found in request body" == _text(no_model.value)
        wanted = "inference error: BadRequest - invalid chat completions request: must have valid messages field"
        assert wanted == _text(no_messages.value)
        wanted = "inference error: BadRequest - invalid completions request: must have prompt field"
        assert wanted == _text(no_prompt.value)

        for body in (b"{", b"", b"[]", b'"text"'):
            reply = await envoy.send(CHAT, body, method="POST")
            if body:
                assert 400 == reply.status
                assert reply.body.startswith(b"inference error: BadRequest - error unmarshaling request bodyMap: ")
                assert "text/plain; charset=utf-8" == reply.headers["content-type"]
                assert DROPPED not in reply.headers
        await picker.until_idle()

    @on_stage
    async def test_errors_as_model_servers_have_them(self, stage: Stage) -> None:
        """By option clients find reason, kind and status where they look for them."""
        picker = await stage.picker(error_format="json")
        envoy = await stage.behind(picker)
        async with _client_of(envoy) as official:
            with pytest.raises(openai.BadRequestError) as no_model:
                await official.post("/chat/completions", body={"messages": MESSAGES}, cast_to=object)
        assert "BadRequestError" == no_model.value.type
        assert {
            "message": "model not found in request body",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        } == (no_model.value.body)
        assert "application/json" == no_model.value.response.headers["content-type"]

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_nothing_to_pick_from(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """No endpoints are 503, none that the filters kept 429, both with the reason."""
        picker = await stage.start_picker([])
        envoy = await stage.start_envoy(picker.address, cluster=cluster, body_mode=body_mode)
        async with _client_of(envoy, **{"x-whim": "remove"}) as official:
            for stream in (False, True):
                with pytest.raises(openai.InternalServerError) as empty:
                    await official.chat.completions.create(model=MODEL, messages=MESSAGES, stream=stream)
                assert (503, "rejected-no-endpoints") == (
                    empty.value.status_code,
                    empty.value.response.headers[DROPPED],
                )
                assert "inference error: ServiceUnavailable - there are no ready endpoints" == _text(empty.value)

            picker.registry.set_endpoints([endpoint_at(stage.addresses[0])])
            picker.registry.publish()
            with pytest.raises(openai.RateLimitError) as filtered:
                await official.chat.completions.create(model=MODEL, messages=MESSAGES)
            assert "rejected-saturated" == filtered.value.response.headers[DROPPED]
            wanted = "inference error: ResourceExhausted - profile default: no endpoint left by the filters whim-filter"
            assert wanted == _text(filtered.value)
        await picker.until_idle()

    @pytest.mark.parametrize(("cluster", "body_mode"), KINDS)
    @on_stage
    async def test_errors_of_the_model_server_pass(self, stage: Stage, cluster: str, body_mode: str) -> None:
        """Unknown models and the server's own refusals arrive as the server wrote them."""
        picker = await stage.picker()
        envoy = await stage.behind(picker, cluster=cluster, body_mode=body_mode)
        async with _client_of(envoy, **{"x-pin": stage.addresses[0]}) as official:
            with pytest.raises(openai.NotFoundError) as unknown:
                await official.chat.completions.create(model="unknown", messages=MESSAGES)
            assert "unknown" in json.loads(_text(unknown.value))["error"]["message"]
            stage.simulators[0].refuse(429)
            try:
                reply = await envoy.send(CHAT, chat(), {"x-pin": stage.addresses[0]})
            finally:
                stage.simulators[0].accept()
            assert (429, stage.addresses[0]) == (reply.status, reply.headers["x-served-by"])
            assert 429 == (await picker.exchange(reply.request_id)).status
        await picker.until_idle()
