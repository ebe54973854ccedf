"""A simulated model server over real sockets, asked by the clients that people use."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import openai
import pytest

from inferencepool.adapters.exposition import read_page
from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.lab.model_servers import ModelServerSimulator, SimulatorOptions
from inferencepool.model import EndpointMetrics
from tests.patience import PATIENCE

FAST = SimulatorOptions.immediate(models=["m"], adapters=["sql", "chat"])
# One request at a time, and each stays until it is given up.
SLOW = SimulatorOptions(models=["m"], adapters=["sql"], max_running_requests=1, decode_tokens_per_second=1)
MESSAGES: Any = [{"role": "user", "content": "What is a pool?"}]
ENDLESS = {"model": "m", "prompt": "x", "max_tokens": 1000, "ignore_eos": True}

Scenario = Callable[[ModelServerSimulator, aiohttp.ClientSession], Awaitable[None]]


def run(scenario: Scenario, options: SimulatorOptions = FAST) -> None:
    """Run *scenario* with a server and a client whose paths are the server's."""

    async def everything() -> None:
        async with (
            ModelServerSimulator(options) as server,
            aiohttp.ClientSession(f"http://{server.address}") as client,
            asyncio.timeout(PATIENCE),
        ):
            await scenario(server, client)

    asyncio.run(everything())


def run_openai(scenario: Callable[[openai.AsyncOpenAI], Awaitable[None]], options: SimulatorOptions = FAST) -> None:
    """Run *scenario* with a server and OpenAI's client."""

    async def with_client(server: ModelServerSimulator, _: aiohttp.ClientSession) -> None:
        url = f"http://{server.address}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            await scenario(client)

    run(with_client, options)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go on until *condition* holds."""
    while not condition():  # noqa: ASYNC110 - what servers count has no event
        await asyncio.sleep(0)


class TestOpenAI:
    def test_chat(self) -> None:
        """A chat is answered, with its usage."""

        async def scenario(client: openai.AsyncOpenAI) -> None:
            answer = await client.chat.completions.create(model="m", messages=MESSAGES, max_tokens=4)
            choice = answer.choices[0]
            assert ("Here is a simulated", "length") == (choice.message.content, choice.finish_reason)
            assert answer.usage is not None
            assert (4, 4, 8) == (
                answer.usage.prompt_tokens,
                answer.usage.completion_tokens,
                answer.usage.total_tokens,
            )

        run_openai(scenario)

    def test_completion(self) -> None:
        """A prompt is answered, by an adapter too, and the name that was asked for comes back."""

        async def scenario(client: openai.AsyncOpenAI) -> None:
            answer = await client.completions.create(model="sql", prompt="x", max_tokens=2)
            assert ("sql", "Here is") == (answer.model, answer.choices[0].text)

        run_openai(scenario)

    @pytest.mark.parametrize("stream", [False, True])
    def test_cached_tokens(self, *, stream: bool) -> None:
        """The usage tells how much of the prompt was in the cache, and the metrics page adds it up."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            body = {"model": "m", "prompt": "x" * 1000, "stream": stream, "stream_options": {"include_usage": True}}
            usages = []
            for _ in range(2):
                async with client.post("/v1/completions", json=body) as response:
                    data = (await response.text()).removesuffix("data: [DONE]\n\n")
                    usages.append(json.loads(data.rpartition("data: ")[2])["usage"])
            async with client.get("/metrics") as response:
                page = await response.text()
            assert (500, 240) == (server.load().prefix_queries, server.load().prefix_hits)
            assert [0, 240] == [usage["prompt_tokens_details"]["cached_tokens"] for usage in usages]
            assert 'vllm:prefix_cache_queries_total{engine="0",model_name="m"} 500.0\n' in page
            assert 'vllm:prefix_cache_hits_total{engine="0",model_name="m"} 240.0\n' in page

        run(scenario)

    @pytest.mark.parametrize("include_usage", [False, True])
    def test_chat_stream(self, *, include_usage: bool) -> None:
        """The events of a chat make up the answer; the last one tells the usage if that was asked for."""

        async def scenario(client: openai.AsyncOpenAI) -> None:
            stream = await client.chat.completions.create(
                model="m",
                messages=MESSAGES,
                max_tokens=6,
                stream=True,
                stream_options={"include_usage": include_usage},
            )
            chunks = [chunk async for chunk in stream]
            choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
            assert "Here is a simulated answer :" == "".join(choice.delta.content or "" for choice in choices)
            assert "assistant" == choices[0].delta.role
            assert [None, "length"] == [choices[0].finish_reason, choices[-1].finish_reason]
            usages = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
            assert ([6] if include_usage else []) == usages

        run_openai(scenario)

    def test_completion_stream(self) -> None:
        """Tokens come as they are written, in events of their own when the server is slow enough."""

        async def scenario(client: openai.AsyncOpenAI) -> None:
            stream = await client.completions.create(model="m", prompt="x", max_tokens=3, stream=True)
            chunks = [chunk async for chunk in stream]
            assert "Here is a" == "".join(chunk.choices[0].text for chunk in chunks)
            assert 1 < len(chunks)

        run_openai(scenario, SimulatorOptions(models=["m"], decode_tokens_per_second=25))

    def test_models(self) -> None:
        """Models and adapters are listed."""

        async def scenario(client: openai.AsyncOpenAI) -> None:
            assert ["m", "sql", "chat"] == [model.id async for model in client.models.list()]

        run_openai(scenario)

    def test_errors(self) -> None:
        """The client tells errors apart as those of a real server."""

        async def scenario(client: openai.AsyncOpenAI) -> None:
            with pytest.raises(openai.NotFoundError, match="model 'other' does not exist here"):
                await client.completions.create(model="other", prompt="x")
            with pytest.raises(openai.BadRequestError, match="n: '2' is not 1"):
                await client.completions.create(model="m", prompt="x", n=2)
            with pytest.raises(openai.BadRequestError, match="together they must not exceed 32768"):
                await client.completions.create(model="m", prompt="x" * 140_000)

        run_openai(scenario, SimulatorOptions(models=["m"]))


class TestLengths:
    def test_without_a_limit(self) -> None:
        """The seed decides, around the typical length, and the answer ends by itself."""

        async def lengths(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            assert server.options.seed == options.seed
            for _ in range(20):
                async with client.post("/v1/completions", json={"model": "m", "prompt": "x"}) as response:
                    document = await response.json()
                assert "stop" == document["choices"][0]["finish_reason"]
                seen.append(document["usage"]["completion_tokens"])

        options = SimulatorOptions.immediate(models=["m"], typical_output_tokens=10, seed=3)
        seen: list[int] = []
        run(lengths, options)
        first = seen.copy()
        seen.clear()
        run(lengths, options)
        assert first == seen
        assert {*first} <= {*range(5, 16)}
        assert 1 < len({*first})

    def test_least_length(self) -> None:
        """A request may ask for more than the seed would give it."""

        async def scenario(_: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            body = {"model": "m", "prompt": "x", "min_tokens": 100}
            async with client.post("/v1/completions", json=body) as response:
                assert 100 == (await response.json())["usage"]["completion_tokens"]

        run(scenario)


class TestEcho:
    @pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
    def test_large_body(self, path: str) -> None:
        """20 MB arrive whole, as their hash shows."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            async with client.post(path, data=io.BytesIO(body), headers={"x-test": "yes"}) as response:
                assert 200 == response.status
                headers = response.headers
            sha256 = hashlib.sha256(body).hexdigest()
            assert (server.address, sha256) == (headers["x-served-by"], headers["x-received-sha256"])
            assert str(len(body)) == headers["x-received-length"]
            assert 0 < float(headers["server-timing"].removeprefix("total;dur="))
            (received,) = server.received
            assert ("POST", path, len(body), sha256) == (
                received.method,
                received.path,
                received.length,
                received.sha256,
            )
            assert ("yes", None) == (received.header("X-Test"), received.header("x-other"))

        text = "x" * 20_000_000
        document = {"model": "m", "prompt": text, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        body = json.dumps(document).encode()
        run(scenario)

    def test_streams_have_the_headers_too(self) -> None:
        """Also an answer in events tells who served it and what arrived."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            body = b'{"model": "m", "prompt": "x", "stream": true, "max_tokens": 2}'
            async with client.post("/v1/completions", data=body) as response:
                assert (await response.text()).endswith("data: [DONE]\n\n")
                assert server.address == response.headers["x-served-by"]
                assert hashlib.sha256(body).hexdigest() == response.headers["x-received-sha256"]
                assert response.headers["content-type"].startswith("text/event-stream")
                stages = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
                assert ["queue", "prefill", "total"] == list(stages)
                assert 0 < float(stages["total"])

        run(scenario)

    def test_debug_page(self) -> None:
        """The page tells what arrived, bodies that were refused included."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            async with client.post("/v1/completions?a=b", data=b"no JSON", headers={"X-Test": "1"}) as response:
                assert 400 == response.status
                assert "7" == response.headers["x-received-length"]
            async with client.get("/debug/requests") as response:
                (request,) = (await response.json())["requests"]
            assert ["x-test", "1"] in request["headers"]
            assert ("POST", "/v1/completions?a=b", 7) == (request["method"], request["path"], request["length"])
            assert request == server.received[0].to_dict()

        run(scenario)

    def test_body_that_is_too_long(self) -> None:
        """It is refused, and the message tells the limit."""

        async def scenario(_: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            async with client.post("/v1/completions", data=b"x" * 1000) as response:
                assert (413, "the body is longer than 999 bytes") == (
                    response.status,
                    (await response.json())["error"]["message"],
                )

        run(scenario, SimulatorOptions(max_body_size=999))

    @pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/completions", 405)])
    def test_other_paths(self, method: str, path: str, status: int) -> None:
        """What does not exist is an error in the same form."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            async with client.request(method, path) as response:
                assert (status, status) == (response.status, (await response.json())["error"]["code"])
                assert server.address == response.headers["x-served-by"]

        run(scenario)


class TestLoad:
    def test_metrics_page(self) -> None:
        """The library's own reader finds everything on the page, and what it finds is true."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            async with client.get("/metrics") as response:
                idle = read_page(await response.read(), "vllm")
            assert () == idle.missing
            assert idle.metrics == EndpointMetrics(
                max_active_models=4, cache_block_size=16, cache_num_blocks=2048, active_models=[], waiting_models=[]
            )
            asks = [asyncio.create_task(client.post("/v1/completions", json=ENDLESS | {"model": "sql"}))]
            asks += [asyncio.create_task(client.post("/v1/completions", json=ENDLESS)) for _ in range(2)]
            await until(lambda: server.load().waiting == 2)
            async with client.get("/metrics") as response:
                busy = read_page(await response.read()).metrics
            for ask in asks:
                ask.cancel()
            assert (2, 1) == (busy.waiting_queue_size, busy.running_requests)
            assert frozenset({"sql"}) == busy.active_models | busy.waiting_models
            assert 1 / 2048 == busy.kv_cache_usage

        run(scenario, SLOW)

    def test_page_without_adapters(self) -> None:
        """A server without adapters says nothing about them, as vLLM does."""

        async def scenario(_: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            async with client.get("/metrics") as response:
                page = await response.text()
            assert "lora" not in page
            assert 'model_name="a \\"quoted\\" name"' in page
            assert not read_page(page).metrics.knows_loras

        run(scenario, SimulatorOptions(models=['a "quoted" name']))

    @pytest.mark.parametrize("stream", [False, True])
    def test_client_that_hangs_up(self, *, stream: bool) -> None:
        """Its place is free for the next."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            first = asyncio.create_task(client.post("/v1/completions", json=ENDLESS | {"stream": stream}))
            await until(lambda: server.load().running == 1)
            second = asyncio.create_task(client.post("/v1/completions", json=ENDLESS))
            await until(lambda: server.load().waiting == 1)
            if stream:
                # The connection is in the hands of the response by the time of its first token.
                (await first).close()
            else:
                first.cancel()
            await until(lambda: server.load().canceled == 1)
            await until(lambda: server.load().running == 1)
            assert 0 == server.load().waiting
            second.cancel()

        run(scenario, SLOW)

    def test_request_after_one_that_was_given_up(self) -> None:
        """It does not wait for the end of the step in which the other one was."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            first = asyncio.create_task(client.post("/v1/completions", json={"model": "m", "prompt": "x" * 80_000}))
            await until(lambda: server.load().running == 1)
            first.cancel()
            await until(lambda: server.load().canceled == 1)
            async with client.post("/v1/completions", json={"model": "m", "prompt": "x", "max_tokens": 1}) as response:
                assert 200 == response.status

        # The first would be computed for three minutes, the second for a hundredth of a second.
        run(scenario, SimulatorOptions.immediate(models=["m"], prefill_tokens_per_second=100, max_step_tokens=20_000))


class TestLife:
    def test_stop_ends_what_is_in_flight(self) -> None:
        """A stop is like the death of a server: the client loses its connection."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            ask = asyncio.create_task(client.post("/v1/completions", json=ENDLESS))
            await until(lambda: server.load().running == 1)
            await server.stop()
            await server.stop()
            with pytest.raises(aiohttp.ClientConnectionError):
                await ask
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get("/health")
            assert repr(server).endswith("stopped>")

        run(scenario, SLOW)

    def test_starts_again(self) -> None:
        """A server that listened at a free port takes another; what it received is kept."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            (await client.post("/v1/completions", json=ENDLESS)).close()
            with pytest.raises(RuntimeError, match="is running already"):
                await server.start()
            await server.stop()
            await server.start()
            async with client.get(f"http://{server.address}/health") as response:
                assert 200 == response.status
            assert 1 == len(server.received)

        run(scenario)

    def test_refuses_and_accepts(self) -> None:
        """A server told to refuse is unhealthy until it is told otherwise."""

        async def scenario(server: ModelServerSimulator, client: aiohttp.ClientSession) -> None:
            async def statuses() -> list[int]:
                body = {"model": "m", "prompt": "x"}
                async with client.post("/v1/completions", json=body) as one, client.get("/health") as other:
                    return [one.status, other.status]

            server.refuse()
            assert [503, 503] == await statuses()
            server.refuse(429)
            assert [429, 429] == await statuses()
            server.accept()
            assert [200, 200] == await statuses()
            with pytest.raises(ConfigurationError, match="refuse: 200 is not a status from 400 to 599"):
                server.refuse(200)

        run(scenario)

    def test_never_started(self) -> None:
        """It has no port and no load."""
        server = ModelServerSimulator()

        with pytest.raises(RuntimeError, match="was never started"):
            _ = server.address
        with pytest.raises(RuntimeError, match="is not running"):
            server.load()
        assert ("127.0.0.1", "<ModelServerSimulator at 127.0.0.1, not started>") == (server.host, repr(server))

    def test_port_in_use(self) -> None:
        """It cannot be started, and can be stopped."""

        async def scenario() -> None:
            async with ModelServerSimulator() as first:
                second = ModelServerSimulator(port=first.port)
                with pytest.raises(OSError, match="address already in use"):
                    await second.start()
                await second.stop()
                with pytest.raises(RuntimeError, match="was never started"):
                    _ = second.port

        asyncio.run(scenario())

    def test_many_in_one_loop(self) -> None:
        """Sixteen of them, each at a loopback port of its own, answer side by side."""

        async def scenario() -> None:
            async with AsyncExitStack() as stack:
                servers = [await stack.enter_async_context(ModelServerSimulator(FAST)) for _ in range(16)]
                client = await stack.enter_async_context(aiohttp.ClientSession())

                async def ask(server: ModelServerSimulator) -> str:
                    url = f"http://{server.address}/v1/completions"
                    async with client.post(url, json={"model": "m", "prompt": "x"}) as response:
                        return response.headers["x-served-by"]

                served_by = await asyncio.gather(*map(ask, servers))
                assert [server.address for server in servers] == served_by

        asyncio.run(scenario())

    def test_ipv6_has_brackets(self) -> None:
        """The address can stand in a URL."""

        async def scenario() -> None:
            async with ModelServerSimulator(host="::1") as server:
                assert f"[::1]:{server.port}" == server.address

        try:
            asyncio.run(scenario())
        except OSError:
            pytest.skip("this machine has no IPv6")

    def test_missing_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without aiohttp the error says what to install."""
        monkeypatch.setitem(sys.modules, "aiohttp", None)
        monkeypatch.delitem(sys.modules, "inferencepool.lab.model_servers._http", raising=False)

        with pytest.raises(MissingExtraError, match=r"inferencepool\[demo\]"):
            asyncio.run(ModelServerSimulator().start())
