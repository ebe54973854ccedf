"""What the pages of `serve` say about requests that came through Envoy."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.envoy.serving import PLAIN, Served, served, write_endpoints
from tests.envoy.stage import CHAT, MODEL, Client, Stage, chat, on_stage
from tests.patience import PATIENCE
from tests.runtime.exporter.reading import Values, read, value_of

PREFIX = "llm_d_epp_"
LABELS = {"model_name": MODEL, "target_model_name": MODEL, "fairness_id": "team-a", "priority": "0"}
MESSAGES: list[Any] = [{"role": "user", "content": "Say something."}]


async def _get(port: int, path: str) -> bytes:
    def get() -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE) as response:
            data: bytes = response.read()
            return data

    return await asyncio.to_thread(get)


async def _settled(port: int, requests: int) -> Values:
    """Scrape until all *requests* have ended: Envoy ends a stream when it has the response."""
    async with asyncio.timeout(PATIENCE):
        while True:
            values = read(await _get(port, "/metrics"))
            ended = value_of(values, f"{PREFIX}extproc_stream_duration_seconds_count")
            if ended == requests:
                return values
            assert (ended or 0) < requests
            await asyncio.sleep(0.02)


async def _ask(client: Client) -> tuple[int, int]:
    """Send two requests that succeed and one that fails; give the tokens of prompts and outputs together."""
    headers = {"x-llm-d-inference-fairness-id": "team-a"}
    async with openai.AsyncOpenAI(
        base_url=f"{client.url}/v1", api_key="none", max_retries=0, default_headers=headers
    ) as official:
        create = official.chat.completions.create
        whole = await create(model=MODEL, messages=MESSAGES, max_tokens=7)
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        stream = await create(model=MODEL, messages=MESSAGES, max_tokens=9, **options)
        told = [event.usage async for event in stream if event.usage]
        with pytest.raises(openai.BadRequestError):
            await create(model=MODEL, messages=[])
    assert whole.usage is not None
    usages = [whole.usage, told[-1]]
    return sum(usage.prompt_tokens for usage in usages), sum(usage.completion_tokens for usage in usages)


async def _start(stage: Stage, picker: Served, *, usage: bool) -> tuple[Client, int]:
    port = (await picker.line("serving pages"))["port"]
    return await stage.start_envoy(picker.address, usage=usage), port


@on_stage
async def test_requests_with_tokens(stage: Stage, tmp_path: Path) -> None:
    """Requests, errors, sizes, times and tokens are those that the client saw."""
    write_endpoints(tmp_path / "endpoints.json", stage.addresses[:2])
    flags = ("--usage", "--metrics-port", "0", *PLAIN)
    async with served("--endpoints-file", str(tmp_path / "endpoints.json"), *flags) as picker:
        client, port = await _start(stage, picker, usage=True)
        prompt, output = await _ask(client)
        values = await _settled(port, 3)

        assert 2 == value_of(values, f"{PREFIX}request_total", **LABELS)
        assert 0 == value_of(values, f"{PREFIX}request_running", **LABELS)
        assert prompt == value_of(values, f"{PREFIX}request_input_tokens_sum", **LABELS)
        assert output == value_of(values, f"{PREFIX}request_output_tokens_sum", **LABELS)
        assert 2 == value_of(values, f"{PREFIX}request_duration_seconds_count", **LABELS)
        assert 2 == value_of(values, f"{PREFIX}response_size_bytes_count", **LABELS)
        for streaming in ("true", "false"):
            assert 1 == value_of(values, f"{PREFIX}request_ttft_seconds_count", **LABELS, streaming=streaming)
        assert 1 == value_of(values, f"{PREFIX}request_streaming_tpot_seconds_count", **LABELS)
        errors = {dict(labels)["error_code"]: n for (name, labels), n in values.items() if "error_total" in name}
        assert {"BadRequest": 1} == errors
        assert 3 == value_of(values, f"{PREFIX}extproc_streams_total", code="OK")


@on_stage
async def test_by_default(stage: Stage, tmp_path: Path) -> None:
    """Without the bodies of responses there are no tokens, and all that needs none is there; so are explanations."""
    write_endpoints(tmp_path / "endpoints.json", stage.addresses[:2])
    flags = ("--debug", "--metrics-port", "0", *PLAIN)
    async with served("--endpoints-file", str(tmp_path / "endpoints.json"), *flags) as picker:
        client, port = await _start(stage, picker, usage=False)
        reply = await client.send(CHAT, chat())
        values = await _settled(port, 1)

        labels = LABELS | {"fairness_id": "default-flow"}
        assert 1 == value_of(values, f"{PREFIX}request_duration_seconds_count", **labels)
        assert len(chat()) == value_of(values, f"{PREFIX}request_size_bytes_sum", **labels)
        assert None is value_of(values, f"{PREFIX}request_output_tokens_count", **labels)
        assert None is value_of(values, f"{PREFIX}response_size_bytes_count", **labels)

        (decision,) = json.loads(await _get(port, "/debug/decisions.json"))["decisions"]
        assert (reply.request_id, MODEL) == (decision["request_id"], decision["model"])
        assert reply.headers["x-served-by"] == decision["destination"]
        assert 2 == len(decision["explanation"]["candidates"])
