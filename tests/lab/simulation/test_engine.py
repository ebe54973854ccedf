from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError, InvalidRequestError
from inferencepool.lab.model_servers import Engine, SimulatorOptions
from inferencepool.lab.model_servers import EngineRequest as ReferenceRequest
from inferencepool.lab.simulation import EngineOptions, EngineRequest, Prompt, SimulatedEngine
from inferencepool.testing import ManualClock
from tests.lab.simulation.oracle import StepByStep
from tests.strategies.simulations import engine_options, engine_requests

# A step takes a quarter of a second, and as long again for 16 tokens: sums of these are exact.
OPTIONS = EngineOptions(
    prefill_tokens_per_second=64,
    decode_tokens_per_second=4,
    max_running_requests=2,
    max_step_tokens=32,
    kv_blocks=16,
    kv_block_size=16,
    max_adapters=1,
    adapter_load_seconds=0.5,
)
WRITING_ALONE = 0.25 + 1 / 64


def run(engine: SimulatedEngine, requests: Sequence[tuple[float, EngineRequest]]) -> list[EngineRequest]:
    """Let *requests* come and all of them finish; give them in the order in which they finished."""
    finished: list[EngineRequest] = []
    for at, request in requests:
        while engine.next_at <= at:
            finished += engine.advance()
        engine.submit(request, at)
    while engine.next_at < inf:
        finished += engine.advance()
    return finished


class TestTimes:
    def test_a_long_prompt_takes_several_steps(self) -> None:
        """A prompt longer than a step is computed in parts, and the step that ends it writes the first token."""
        request = EngineRequest(Prompt("p", 48), 3)

        run(SimulatedEngine(OPTIONS), [(1.0, request)])

        assert 1.0 + 0.25 + 32 / 64 + 0.25 + 16 / 64 == request.first_token_at
        assert request.first_token_at + 2 * WRITING_ALONE == request.finished_at

    def test_what_is_cached_is_not_computed(self) -> None:
        """The second request for a prompt computes the last block only, which holds the token that it goes on from."""
        first = EngineRequest(Prompt("p", 32), 1)
        second = EngineRequest(first.prompt, 1)

        run(SimulatedEngine(OPTIONS), [(0.0, first), (10.0, second)])

        assert 0.25 + 32 / 64 == first.first_token_at
        assert 10.0 + 0.25 + 16 / 64 == second.first_token_at
        assert (0, 2) == (first.hit_blocks, second.hit_blocks)

    def test_who_comes_during_a_step_joins_after_it(self) -> None:
        """A request that comes while others write begins with the next step, and slows them down."""
        first, second = EngineRequest(Prompt("p", 16), 3), EngineRequest(Prompt("q", 15), 1)
        begun = 0.25 + 16 / 64

        run(SimulatedEngine(OPTIONS), [(0.0, first), (begun + 0.001, second)])

        assert begun + WRITING_ALONE + 0.25 + 16 / 64 == second.first_token_at == second.finished_at
        assert second.finished_at == first.finished_at

    def test_beyond_the_batch_limit_requests_wait(self) -> None:
        """The third of three requests joins when one of the two before it has finished."""
        requests = [EngineRequest(Prompt(f"p{index}", 8), 5) for index in range(3)]
        engine = SimulatedEngine(OPTIONS)
        for request in requests:
            engine.submit(request, 0.0)

        engine.advance()
        assert (1, 2) == (engine.waiting, engine.running)
        run(engine, [])
        assert requests[2].first_token_at > requests[0].finished_at

    def test_without_room_in_the_cache_requests_wait(self) -> None:
        """A request whose blocks others hold joins when they have finished, though there is room in the batch."""
        first, second = EngineRequest(Prompt("p", 128), 1), EngineRequest(Prompt("q", 128), 1)

        run(SimulatedEngine(OPTIONS), [(0.0, first), (0.0, second)])

        assert second.first_token_at - first.finished_at == 4 * (0.25 + 32 / 64)

    def test_loading_an_adapter_takes_time_once(self) -> None:
        """A step in which an adapter is loaded takes longer, and the next request for the adapter finds it loaded."""
        first, second = (EngineRequest(Prompt(f"p{index}", 16), 1, "sql") for index in range(2))

        run(SimulatedEngine(OPTIONS), [(0.0, first), (5.0, second)])

        assert (1.0, 5.5) == (first.finished_at, second.finished_at)

    def test_an_adapter_that_runs_is_not_given_up_for_another(self) -> None:
        """The place of an adapter that nobody uses is taken, though one that is in use was loaded before it."""
        long = EngineRequest(Prompt("p", 16), 1000, "sql")
        short, other, again = (EngineRequest(Prompt(name, 16), 1, name) for name in ("law", "math", "sql"))
        options = attrs.evolve(OPTIONS, max_adapters=2, adapter_load_seconds=100, max_running_requests=3, kv_blocks=100)
        run(SimulatedEngine(options), [(0.0, long), (0.0, short), (210.0, other), (330.0, again)])

        assert short.finished_at < 210
        assert other.finished_at < 330
        assert again.finished_at < 332 < long.finished_at

    def test_an_adapter_without_a_place_lets_others_go_first(self) -> None:
        """A request whose adapter does not fit waits, and one behind it that needs none goes first."""
        first, second = EngineRequest(Prompt("p", 16), 9, "sql"), EngineRequest(Prompt("q", 16), 1, "law")
        third = EngineRequest(Prompt("r", 16), 1)

        finished = run(SimulatedEngine(OPTIONS), [(0.0, first), (0.0, second), (0.0, third)])

        assert [third, first, second] == finished

    def test_half_the_speed_takes_twice_as_long(self) -> None:
        """A change of speed counts from the next step on."""
        request = EngineRequest(Prompt("p", 16), 5)
        engine = SimulatedEngine(OPTIONS)
        engine.submit(request, 0.0)
        engine.advance()
        engine.set_speed(0.5, 0.5 + WRITING_ALONE / 2)
        run(engine, [])

        assert 0.5 + WRITING_ALONE + 3 * 2 * WRITING_ALONE == request.finished_at

    def test_busy_is_the_time_with_something_to_do(self) -> None:
        """What counts as busy is the time from the arrival at an idle engine to the end of the last answer."""
        requests = [(1.0, EngineRequest(Prompt("p", 16), 2)), (9.0, EngineRequest(Prompt("q", 16), 1))]
        engine = SimulatedEngine(OPTIONS)
        run(engine, requests)

        assert sum(request.finished_at - at for at, request in requests) == engine.busy_seconds


class TestMetrics:
    def test_load_is_told_as_a_metrics_page_tells_it(self) -> None:
        """Metrics tell the queue, the batch, the held share of the cache, the adapters and the size of the cache."""
        engine = SimulatedEngine(OPTIONS)
        for name, adapter in (("p", "sql"), ("q", ""), ("r", "law"), ("s", "sql")):
            engine.submit(EngineRequest(Prompt(name, 30), 3, adapter), 0.0)
        metrics = engine.metrics(0.125)
        engine.advance()

        assert (3, 1) == (metrics.waiting_queue_size, metrics.running_requests)
        metrics = engine.metrics(0.75)
        assert (2, 2) == (metrics.waiting_queue_size, metrics.running_requests)
        assert 6 / 16 == metrics.kv_cache_usage
        assert (frozenset({"sql"}), frozenset({"law", "sql"})) == (metrics.active_models, metrics.waiting_models)
        assert (1, 16, 16) == (metrics.max_active_models, metrics.cache_block_size, metrics.cache_num_blocks)
        assert 0.75 == metrics.observed_at


class TestRefusals:
    def test_a_request_that_never_fits_is_refused(self) -> None:
        """A request whose prompt and answer exceed the cache is refused and changes nothing."""
        engine = SimulatedEngine(OPTIONS)

        with pytest.raises(InvalidRequestError, match="have 257 tokens, allowed are at most 256"):
            engine.submit(EngineRequest(Prompt("p", 250), 7), 0.0)
        assert (0, inf) == (engine.waiting, engine.next_at)

    def test_an_engine_without_adapters_refuses_them(self) -> None:
        """A request for an adapter is refused by an engine that has room for none."""
        engine = SimulatedEngine(attrs.evolve(OPTIONS, max_adapters=0))

        with pytest.raises(InvalidRequestError, match="adapter 'sql': the engine runs none"):
            engine.submit(EngineRequest(Prompt("p", 1), 1, "sql"), 0.0)

    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("prefill_tokens_per_second", 0, "not a finite number above 0"),
            ("decode_tokens_per_second", float("nan"), "not a finite number above 0"),
            ("max_running_requests", 0, "not a whole number from 1 to 2147483647"),
            ("max_step_tokens", 2, "not max_running_requests, 64, or more"),
            ("kv_blocks", True, "not a whole number from 1 to 2147483647"),
            ("kv_block_size", 1.5, "not a whole number from 1 to 2147483647"),
            ("keeps_prefixes", 1, "neither true nor false"),
            ("max_adapters", -1, "not a whole number from 0 to 2147483647"),
            ("adapter_load_seconds", -0.1, "not a finite number of 0 or more"),
        ],
    )
    def test_wrong_options_are_named(self, field: str, value: Any, allowed: str) -> None:
        """An option that is not allowed is refused with its name, its value and what is allowed."""
        with pytest.raises(ConfigurationError) as caught:
            EngineOptions(**{field: value})

        assert f"engine options: {field}: {value!r} is {allowed}" == str(caught.value)


@given(
    engine_options, engine_requests(), st.lists(st.tuples(st.integers(0, 12), st.sampled_from([0.5, 2.0])), max_size=2)
)
def test_it_does_what_an_engine_does_step_by_step(
    options: EngineOptions, requests: Sequence[tuple[float, EngineRequest]], changes: Sequence[tuple[int, float]]
) -> None:
    """Hits, first tokens, ends and load are those of an engine that does every step by itself."""
    engine, oracle = SimulatedEngine(options), StepByStep(options)
    speeds = dict(changes)
    for index, (at, request) in enumerate(requests):
        while engine.next_at <= at:
            engine.advance()
        oracle.run_until(at)
        if index in speeds:
            engine.set_speed(speeds[index], at)
            oracle.set_speed(speeds[index], at)
        engine.submit(request, at)
        oracle.submit(request, at)
        assert (len(oracle.waiting), len(oracle.running)) == (engine.waiting, engine.running)
        assert oracle.cache.held / options.kv_blocks == engine.metrics(at).kv_cache_usage
    run(engine, [])
    oracle.run_until(inf)

    for _, request in requests:
        assert oracle.hits[request] == request.hit_blocks
        assert oracle.first_token_at[request] == request.first_token_at
        assert oracle.finished_at[request] == request.finished_at
    assert oracle.busy_seconds == engine.busy_seconds
    assert (0, 0, 0) == (engine.waiting, engine.running, oracle.cache.held)


@given(engine_options, engine_requests())
def test_without_prefixes_it_is_the_engine_of_the_simulated_servers(
    options: EngineOptions, requests: Sequence[tuple[float, EngineRequest]]
) -> None:
    """With room in the cache, and without prefixes, requests end when those of `ModelServerSimulator` do."""
    options = attrs.evolve(options, keeps_prefixes=False, kv_blocks=10_000, adapter_load_seconds=0)
    clock = ManualClock()
    reference = Engine(
        SimulatorOptions(
            adapters=["a", "b", "c"],
            max_adapters=options.max_adapters,
            max_running_requests=options.max_running_requests,
            max_step_tokens=options.max_step_tokens,
            prefill_tokens_per_second=options.prefill_tokens_per_second,
            decode_tokens_per_second=options.decode_tokens_per_second,
            kv_blocks=10_000,
            kv_block_size=options.kv_block_size,
        ),
        clock,
    )
    expected: dict[int, float] = {}
    submitted: list[ReferenceRequest] = []

    def run_until(now: float) -> None:
        while reference.next_step_at is not None and reference.next_step_at <= now:
            clock.advance(reference.next_step_at - clock())
            reference.advance()
            for index, each in enumerate(submitted):
                if each.finished:
                    expected.setdefault(index, clock())

    for at, request in requests:
        run_until(at)
        clock.advance(at - clock())
        submitted.append(
            reference.submit(
                prompt_tokens=request.prompt.tokens, output_tokens=request.output_tokens, adapter=request.adapter
            )
        )
    run_until(inf)
    run(SimulatedEngine(options), requests)

    assert [expected[index] for index in range(len(requests))] == [each.finished_at for _, each in requests]
