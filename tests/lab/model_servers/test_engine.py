"""The queueing model: times, batches, blocks and adapters, by a clock that tests move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import InvalidRequestError
from inferencepool.lab.model_servers import Engine, EngineRequest, SimulatorOptions
from inferencepool.lab.model_servers._engine import BYTES_PER_TOKEN
from inferencepool.testing import ManualClock

# A step takes a quarter of a second, and as long again for 16 tokens: sums of these are exact.
OPTIONS = SimulatorOptions(
    max_running_requests=2,
    max_step_tokens=32,
    prefill_tokens_per_second=64,
    decode_tokens_per_second=4,
    kv_blocks=8,
    kv_block_size=16,
    adapters=["a", "b"],
    max_adapters=1,
)
WRITING_ALONE = 0.25 + 1 / 64


def engine_of(**changes: Any) -> tuple[Engine, ManualClock]:
    """Make an engine of the options above, some of them changed, and the clock it runs by."""
    clock = ManualClock()
    return Engine(attrs.evolve(OPTIONS, **changes), clock), clock


def run_step(engine: Engine, clock: ManualClock) -> list[EngineRequest]:
    """Move the clock to the end of the step under way."""
    assert engine.next_step_at is not None
    clock.advance(engine.next_step_at - clock())
    return engine.advance()


class TestTimes:
    def test_first_token_comes_with_the_last_part_of_the_prompt(self) -> None:
        """A prompt longer than a step is computed in parts, and then the first token is there."""
        engine, clock = engine_of()
        request = engine.submit(prompt_tokens=48, output_tokens=2)

        assert 0.25 + 32 / 64 == engine.next_step_at
        assert [] == run_step(engine, clock)
        assert (32, 0) == (request.computed, request.written)
        assert 0.75 + 0.25 + 16 / 64 == engine.next_step_at
        assert [request] == run_step(engine, clock)
        assert (48, 1) == (request.computed, request.written)

    def test_every_further_step_writes_a_token(self) -> None:
        """A request alone writes at the speed of a single answer."""
        engine, clock = engine_of()
        request = engine.submit(prompt_tokens=16, output_tokens=3)
        run_step(engine, clock)

        for _ in range(2):
            assert engine.next_step_at == clock() + WRITING_ALONE
            assert not request.finished
            assert [request] == run_step(engine, clock)
        assert request.finished
        assert engine.next_step_at is None

    def test_two_at_a_time_take_longer_than_one_and_not_twice_as_long(self) -> None:
        """A step's fixed time is shared by all that are in it."""
        engine, clock = engine_of()
        for _ in range(2):
            engine.submit(prompt_tokens=1, output_tokens=9)
        run_step(engine, clock)
        run_step(engine, clock)

        assert engine.next_step_at == clock() + 0.25 + 2 / 64

    def test_one_that_comes_in_mid_step_waits_for_the_next(self) -> None:
        """Requests join at the beginning of a step only."""
        engine, clock = engine_of()
        engine.submit(prompt_tokens=1, output_tokens=9)
        clock.advance(0.125)
        late = engine.submit(prompt_tokens=1, output_tokens=9)

        assert (1, 1) == (engine.load().waiting, engine.load().running)
        run_step(engine, clock)
        assert (0, 2, 0) == (engine.load().waiting, engine.load().running, late.written)

    def test_begins_when_one_comes_after_a_pause(self) -> None:
        """An idle engine begins a step when a request comes, not when it became idle."""
        engine, clock = engine_of()
        clock.advance(100)
        engine.submit(prompt_tokens=16, output_tokens=1)

        assert 100.5 == engine.next_step_at

    def test_step_limit_is_shared_in_order(self) -> None:
        """What the first leaves of a step's tokens is the second's."""
        engine, clock = engine_of(kv_blocks=64)
        first = engine.submit(prompt_tokens=40, output_tokens=1)
        second = engine.submit(prompt_tokens=40, output_tokens=1)

        run_step(engine, clock)
        assert (32, 0) == (first.computed, second.computed)
        run_step(engine, clock)
        assert (True, 24) == (first.finished, second.computed)


class TestQueue:
    def test_fills_when_the_batch_is_full(self) -> None:
        """Requests beyond the batch limit wait."""
        engine, _ = engine_of()
        for _ in range(5):
            engine.submit(prompt_tokens=1, output_tokens=2)

        load = engine.load()
        assert (1, 4) == (load.running, load.waiting)

    def test_goes_in_order(self) -> None:
        """Requests alike are finished as they came, and everything is counted."""
        engine, clock = engine_of()
        requests = [engine.submit(prompt_tokens=1, output_tokens=2) for _ in range(6)]
        order: dict[EngineRequest, None] = {}
        while engine.next_step_at is not None:
            order |= dict.fromkeys(each for each in run_step(engine, clock) if each.finished)

        assert requests == list(order)
        assert (6, 12, 6) == (engine.load().finished, engine.load().generation_tokens, engine.load().prompt_tokens)

    def test_one_that_was_given_up_leaves_the_queue(self) -> None:
        """It is counted once, and never runs."""
        engine, clock = engine_of()
        requests = [engine.submit(prompt_tokens=1, output_tokens=2) for _ in range(4)]
        engine.cancel(requests[3])
        engine.cancel(requests[3])

        assert 2 == engine.load().waiting
        assert 1 == engine.load().canceled
        while engine.next_step_at is not None:
            run_step(engine, clock)
        assert 0 == requests[3].written

    def test_one_that_was_given_up_frees_its_place_and_its_blocks(self) -> None:
        """The next one gets them; with nobody left there is nothing to do."""
        engine, clock = engine_of(max_running_requests=1)
        first = engine.submit(prompt_tokens=32, output_tokens=50)
        second = engine.submit(prompt_tokens=1, output_tokens=50)
        run_step(engine, clock)
        engine.cancel(first)

        assert (0, 0.0) == (engine.load().running, engine.load().kv_usage)
        run_step(engine, clock)
        assert 1 == engine.load().running
        engine.cancel(second)
        assert engine.next_step_at is None
        assert [] == engine.advance()

    def test_one_that_is_over_cannot_be_given_up(self) -> None:
        """It stays finished."""
        engine, clock = engine_of()
        request = engine.submit(prompt_tokens=1, output_tokens=1)
        run_step(engine, clock)
        engine.cancel(request)

        assert (1, 0) == (engine.load().finished, engine.load().canceled)


class TestCache:
    def test_usage_grows_with_the_tokens(self) -> None:
        """A block is taken when the first token in it is computed."""
        engine, clock = engine_of()
        engine.submit(prompt_tokens=16, output_tokens=40)

        # The first block holds the prompt, the second the first 16 tokens of the answer.
        assert 1 / 8 == engine.load().kv_usage
        run_step(engine, clock)
        assert 2 / 8 == engine.load().kv_usage
        for _ in range(16):
            run_step(engine, clock)
        assert 3 / 8 == engine.load().kv_usage

    def test_one_that_has_no_room_waits(self) -> None:
        """A prompt that does not fit waits until the one before it is finished."""
        engine, clock = engine_of(max_step_tokens=1000)
        engine.submit(prompt_tokens=100, output_tokens=2)
        second = engine.submit(prompt_tokens=100, output_tokens=2)
        run_step(engine, clock)

        assert (1, 1, 7 / 8) == (engine.load().running, engine.load().waiting, engine.load().kv_usage)
        run_step(engine, clock)
        assert (1, 0) == (engine.load().running, engine.load().waiting)
        run_step(engine, clock)
        assert 1 == second.written

    def test_the_last_one_makes_room_for_the_others_and_begins_again(self) -> None:
        """When the cache is full, who joined last loses its blocks, but not its tokens."""
        engine, clock = engine_of(kv_blocks=2, max_step_tokens=1000)
        first = engine.submit(prompt_tokens=15, output_tokens=10)
        second = engine.submit(prompt_tokens=10, output_tokens=3)
        run_step(engine, clock)
        # The first needs another block for its second token, and the second has it.
        run_step(engine, clock)

        assert 1 == engine.load().preemptions
        assert (1, 1, 0) == (engine.load().running, engine.load().waiting, second.computed)
        while not first.finished:
            run_step(engine, clock)
        while engine.next_step_at is not None:
            run_step(engine, clock)
        assert second.finished
        assert (2, 13, 25) == (engine.load().finished, engine.load().generation_tokens, engine.load().prompt_tokens)

    @pytest.mark.parametrize(("prompt", "output"), [(0, 1), (1, 0), (128, 1), (1, 128)])
    def test_refuses_what_never_fits(self, prompt: int, output: int) -> None:
        """The message tells both counts and the limit."""
        engine, _ = engine_of()

        with pytest.raises(InvalidRequestError, match=rf"{prompt} prompt tokens and {output} output tokens.* 128"):
            engine.submit(prompt_tokens=prompt, output_tokens=output)
        assert engine.next_step_at is None

    def test_takes_what_just_fits(self) -> None:
        """A request may fill the whole cache."""
        engine, clock = engine_of()
        request = engine.submit(prompt_tokens=100, output_tokens=28)
        while engine.next_step_at is not None:
            run_step(engine, clock)

        assert request.finished


class TestAdapters:
    def test_one_too_many_is_passed_over(self) -> None:
        """A request whose adapter does not fit waits, and those behind it go."""
        engine, clock = engine_of(max_running_requests=3)
        for adapter in ("a", "b", "", "a"):
            engine.submit(prompt_tokens=1, output_tokens=9, adapter=adapter)
        run_step(engine, clock)

        load = engine.load()
        assert (("a",), ("b",)) == (load.running_adapters, load.waiting_adapters)
        assert (3, 1) == (load.running, load.waiting)

    def test_gets_its_turn(self) -> None:
        """It runs when the other adapter is no longer needed."""
        engine, clock = engine_of()
        engine.submit(prompt_tokens=1, output_tokens=2, adapter="a")
        request = engine.submit(prompt_tokens=1, output_tokens=2, adapter="b")
        while engine.next_step_at is not None:
            run_step(engine, clock)

        assert request.finished


def text(*numbers: int) -> bytes:
    """A prompt of one block for each number, which are the same where the numbers are."""
    return b"".join(b"%064d" % number for number in numbers)


class TestPrefixes:
    def finish(self, engine: Engine, clock: ManualClock, prompt: bytes, adapter: str = "") -> EngineRequest:
        """Let a request of *prompt* be the only one, to its end."""
        request = engine.submit(
            prompt_tokens=len(prompt) // BYTES_PER_TOKEN, output_tokens=1, adapter=adapter, prompt=prompt
        )
        while not request.finished:
            run_step(engine, clock)
        return request

    def test_the_beginning_of_an_earlier_prompt_is_not_computed_again(self) -> None:
        """Whole blocks are found, up to where the prompts part; and the step takes as much less time."""
        engine, clock = engine_of(kv_blocks=64)
        assert 0 == self.finish(engine, clock, text(1, 2, 3)).cached
        began = clock()

        assert 32 == self.finish(engine, clock, text(1, 2, 4)).cached
        assert 0.25 + 16 / 64 == clock() - began
        assert 0 == self.finish(engine, clock, text(5, 2, 3)).cached
        assert (3 * 48, 32) == (engine.load().prefix_queries, engine.load().prefix_hits)

    def test_the_last_token_is_always_computed(self) -> None:
        """Of a prompt that is known as a whole the last block is computed: the answer begins with what comes of it."""
        engine, clock = engine_of(kv_blocks=64)
        self.finish(engine, clock, text(1, 2))

        assert 16 == self.finish(engine, clock, text(1, 2)).cached
        assert 32 == self.finish(engine, clock, text(1, 2) + b"more").cached

    def test_adapters_have_prompts_of_their_own(self) -> None:
        """What was computed with one adapter is of no use to another, or to none."""
        engine, clock = engine_of(kv_blocks=64)
        self.finish(engine, clock, text(1, 2, 3), "a")

        assert 0 == self.finish(engine, clock, text(1, 2, 3), "b").cached
        assert 0 == self.finish(engine, clock, text(1, 2, 3)).cached
        assert 32 == self.finish(engine, clock, text(1, 2, 3), "a").cached

    def test_what_was_used_longest_ago_is_forgotten(self) -> None:
        """As many blocks are remembered as the KV cache has."""
        engine, clock = engine_of(kv_blocks=8)
        for first in (1, 11, 1, 21, 31):
            self.finish(engine, clock, text(first, first + 1, first + 2))

        assert [32, 0] == [self.finish(engine, clock, text(first, first + 1, first + 2)).cached for first in (21, 11)]

    def test_without_prefixes(self) -> None:
        """Every prompt is computed as a whole."""
        engine, clock = engine_of(kv_blocks=64, keeps_prefixes=False)

        assert [0, 0] == [self.finish(engine, clock, text(1, 2, 3)).cached for _ in range(2)]
        assert 0 == engine.load().prefix_queries

    def test_while_it_is_computed(self) -> None:
        """Of two that join in one step the second has what the first one computes in it, as in the simulation."""
        engine, clock = engine_of(kv_blocks=64, max_step_tokens=256, max_running_requests=3)
        engine.submit(prompt_tokens=1, output_tokens=1)
        requests = [engine.submit(prompt_tokens=48, output_tokens=1, prompt=text(1, 2, 3)) for _ in range(2)]
        run_step(engine, clock)
        run_step(engine, clock)

        assert [(0, True), (32, True)] == [(request.cached, request.finished) for request in requests]

    def test_not_while_a_part_of_it_is_left(self) -> None:
        """What a prompt of several steps has is remembered from its last step on."""
        engine, clock = engine_of(kv_blocks=64, max_step_tokens=48, max_running_requests=3)
        requests = [engine.submit(prompt_tokens=64, output_tokens=1, prompt=text(1, 2, 3, 4)) for _ in range(2)]
        for _ in range(2):
            run_step(engine, clock)

        assert [0, 48] == [request.cached for request in requests]


ARRIVALS = st.lists(
    st.tuples(
        st.floats(0, 2),
        st.integers(1, 80),
        st.integers(1, 40),
        st.sampled_from(["", "a", "b"]),
        st.none() | st.floats(0, 3),
    ),
    max_size=12,
)


def play(arrivals: Sequence[Any], looks: Sequence[float], batch: int) -> list[tuple[float, int, int]]:
    """Let requests come and go, look at the engine in between, and list what can be seen of it at each arrival."""
    engine, clock = engine_of(max_running_requests=batch)
    moments: list[tuple[float, int, Any]] = []
    now = 0.0
    for number, (gap, prompt, output, adapter, patience) in enumerate(arrivals):
        now += gap
        moments.append((now, number, (prompt, output, adapter)))
        if patience is not None:
            moments.append((now + patience, number, None))
    requests: dict[int, EngineRequest] = {}
    seen = []
    stops = sorted([*moments, *((look, -1, None) for look in looks)], key=lambda moment: moment[:2])
    for moment, number, asked in stops:
        clock.advance(max(0.0, moment - clock()))
        if number < 0:
            engine.advance()
            continue
        if asked is None:
            engine.cancel(requests[number])
        else:
            prompt, output, adapter = asked
            # All begin alike, so that some of them find what others left.
            begin = (b"%064d" % 0) * 5
            requests[number] = engine.submit(
                prompt_tokens=prompt, output_tokens=output, adapter=adapter, prompt=begin[: prompt * BYTES_PER_TOKEN]
            )
        load = engine.load()
        assert load.running <= batch
        assert load.running + load.waiting + load.finished + load.canceled == len(requests)
        assert len(load.running_adapters) <= OPTIONS.max_adapters
        assert 0 <= load.kv_usage <= 1
        seen.append((clock(), load.running, load.generation_tokens))
    clock.advance(1e6)
    engine.advance()
    load = engine.load()
    assert (0, 0, 0.0) == (load.running, load.waiting, load.kv_usage)
    assert load.finished + load.canceled == len(requests)
    assert all(request.written <= request.output_tokens for request in requests.values())
    assert all(0 <= request.cached < request.prompt_tokens for request in requests.values())
    assert load.prefix_hits <= load.prefix_queries
    return seen


@given(ARRIVALS, st.lists(st.floats(0, 30), max_size=20), st.integers(1, 4))
def test_laws(arrivals: Sequence[Any], looks: Sequence[float], batch: int) -> None:
    """Everything ends, nothing leaks, limits hold, and looking at the engine does not change what happens in it."""
    assert play(arrivals, [], batch) == play(arrivals, looks, batch)
