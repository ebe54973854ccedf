from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inferencepool.lab.simulation import Prompt
from inferencepool.lab.simulation._cache import BlockCache, HeldBlocks
from tests.lab.simulation.oracle import BlockByBlock
from tests.strategies.simulations import prompts


def test_a_prompt_finds_what_it_shares_with_one_before() -> None:
    """Blocks that the common beginning fills are hits, and the block in which prompts part is not."""
    cache = BlockCache(100, 4)
    system = Prompt("system", 10)
    assert cache.hold(Prompt("first", 10, system), 5) is not None

    held = cache.hold(Prompt("second", 30, system), 5)

    assert held is not None
    assert 2 == held.hits
    assert 12 - 10 == held.own


def test_all_of_a_prompt_is_there_while_room_lasts() -> None:
    """A prompt that was let go is found whole by the next request for it, which holds no further blocks for it."""
    cache = BlockCache(100, 4)
    prompt = Prompt("prompt", 20)
    held = cache.hold(prompt, 1)
    assert held is not None
    cache.release(held)

    assert (0, 5) == (cache.held_blocks, cache.kept_blocks)
    assert 5 == cache.find(prompt)
    again = cache.hold(prompt, 1)
    assert again is not None
    assert (5, 1) == (again.hits, again.own)
    assert (6, 0) == (cache.held_blocks, cache.kept_blocks)


def test_the_end_of_what_was_let_go_first_leaves_first() -> None:
    """Room is made block by block, from the end of the prompt that nobody has used for longest."""
    cache = BlockCache(10, 4)
    old, new = Prompt("old", 16), Prompt("new", 16)
    for prompt in (old, new):
        held = cache.hold(prompt, 1)
        assert held is not None
        cache.release(held)

    assert cache.hold(Prompt("third", 12), 1) is not None

    assert (2, 4) == (cache.find(old), cache.find(new))


def test_what_is_held_does_not_leave() -> None:
    """Without room beside what others hold nothing is taken, and nothing leaves."""
    cache = BlockCache(10, 4)
    kept, held = Prompt("kept", 16), Prompt("held", 16)
    first = cache.hold(kept, 1)
    assert first is not None
    cache.release(first)
    assert cache.hold(held, 1) is not None

    assert cache.hold(Prompt("large", 24), 1) is None
    assert (4, 4) == (cache.find(kept), cache.find(held))


def test_an_answer_is_kept_for_prompts_that_begin_with_it() -> None:
    """A prompt that goes on after an answer finds the answer's blocks, up to the token that was written last."""
    cache = BlockCache(100, 4)
    question = Prompt("question", 8)
    answer = Prompt("answer", 8, question)
    held = cache.hold(question, 8)
    assert held is not None
    cache.release(held, answer)

    assert 3 == cache.find(Prompt("next", 8, answer))
    assert (0, 3) == (cache.held_blocks, cache.kept_blocks)


def test_an_answer_that_is_given_again_counts_as_new() -> None:
    """The answer that was given last leaves last, also where it was there before."""
    cache = BlockCache(14, 4)
    questions = [Prompt(name, 8) for name in ("first", "second")]
    answers = [Prompt("answer", 9, question) for question in questions]
    for index in (0, 1, 0):
        held = cache.hold(questions[index], 9)
        assert held is not None
        cache.release(held, answers[index])
    assert (4, 4) == tuple(map(cache.find, answers))

    assert cache.hold(Prompt("third", 28), 1) is not None

    assert (4, 2) == tuple(map(cache.find, answers))


def test_without_keeping_nothing_is_ever_found() -> None:
    """An engine that keeps no prefixes holds all blocks for each request alone."""
    cache = BlockCache(10, 4, keeps=False)
    prompt = Prompt("prompt", 16)
    first, second = cache.hold(prompt, 1), cache.hold(prompt, 1)

    assert first is not None
    assert second is not None
    assert (0, 5, 10) == (second.hits, second.own, cache.held_blocks)
    assert cache.hold(prompt, 1) is None
    cache.release(first, Prompt("answer", 1, prompt))
    assert (5, 0, 0) == (cache.held_blocks, cache.kept_blocks, cache.find(prompt))


@given(st.data())
def test_it_holds_what_a_cache_holds_that_counts_every_block(data: st.DataObject) -> None:
    """Whatever is held and released, hits, room and what is kept are those of a cache that looks at single blocks."""
    known = data.draw(prompts())
    size = data.draw(st.sampled_from([1, 3, 4, 7]))
    blocks = data.draw(st.integers(4, 60))
    cache, oracle = BlockCache(blocks, size), BlockByBlock(blocks, size)
    flight: list[tuple[Prompt, HeldBlocks, Prompt | None]] = []
    answers = {prompt: [other for other in known if other.parent is prompt] for prompt in known}
    for _ in range(data.draw(st.integers(1, 30))):
        if data.draw(st.booleans()) and flight:
            prompt, held, answer = flight.pop(data.draw(st.integers(0, len(flight) - 1)))
            cache.release(held, answer)
            oracle.release(prompt, held.own, answer)
        else:
            prompt = data.draw(st.sampled_from(known))
            answer = data.draw(st.sampled_from([None, *answers[prompt]]))
            tokens = answer.added_tokens if answer is not None else data.draw(st.integers(1, 9))
            got, expected = cache.hold(prompt, tokens), oracle.hold(prompt, tokens)
            assert expected == (None if got is None else (got.hits, got.own))
            if got is not None:
                flight.append((prompt, got, answer))
        assert (oracle.held, len(oracle.idle)) == (cache.held_blocks, cache.kept_blocks)
        assert [oracle.find(prompt) for prompt in known] == [cache.find(prompt) for prompt in known]
