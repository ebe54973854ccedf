"""What every prefix index promises, asked of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferencepool.errors import ConfigurationError, InvalidRequestError, StrategyError
from inferencepool.prefix import HashChainIndex, PrefixIndex, PrefixMatch, PrefixStatistics, PrefixTree
from tests.prefix.oracle import check_levels, found_by
from tests.strategies.prompts import prompts, spaces

BLOCK = 8


class Make(Protocol):
    """Makes an index with blocks of eight bytes."""

    def __call__(self, *, capacity: int = 1_000, max_match: int | None = None) -> PrefixIndex:
        """Make one."""
        ...


def _tree(*, capacity: int = 1_000, max_match: int | None = None) -> PrefixIndex:
    return PrefixTree(block_size=BLOCK, capacity=capacity, max_match=max_match)


def _fingerprints(*, capacity: int = 1_000, max_match: int | None = None) -> PrefixIndex:
    return PrefixTree(block_size=BLOCK, capacity=capacity, max_match=max_match, fingerprints=True)


def _chain(*, capacity: int = 1_000, max_match: int | None = None) -> PrefixIndex:
    return HashChainIndex(block_size=BLOCK, capacity=capacity, max_match=max_match)


KINDS: dict[str, Make] = {"tree": _tree, "fingerprints": _fingerprints, "hash chain": _chain}
every_index = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def block(letter: str) -> bytes:
    """Give a whole block."""
    return letter.encode() * BLOCK


def text(letters: str) -> bytes:
    """Give a prompt of one block for each letter."""
    return b"".join(map(block, letters))


def send(index: PrefixIndex, prompt: bytes, slot: int, space: Hashable = ()) -> PrefixMatch:
    """Look a prompt up and say where it went."""
    match = index.match(prompt, space)
    index.insert(match, slot)
    return match


@every_index
class TestPrefixIndex:
    def test_knows_nothing_at_first(self, make: Make) -> None:
        """A new index holds nothing, matches nothing, and tells how many blocks a prompt has."""
        index = make()
        match = index.match(text("abc"))

        assert (3, ()) == (match.total, tuple(match.levels))
        assert BLOCK == index.block_size
        assert 0 == match.blocks(0)
        assert (0, 0, 0, 1) == _held(index.statistics())

    def test_knows_a_prompt_that_was_sent(self, make: Make) -> None:
        """What went to a slot is held there: the whole prompt, and the beginning of others."""
        index = make()
        send(index, text("abcd"), 5)

        assert [(4, 1 << 5)] == list(index.match(text("abcd")).levels)
        assert [(4, 1 << 5)] == list(index.match(text("abcde")).levels)
        assert [(2, 1 << 5)] == list(index.match(text("ab")).levels)
        assert [(2, 1 << 5)] == list(index.match(text("abx")).levels)
        assert [] == list(index.match(text("xbcd")).levels)
        assert 2 == index.match(text("abx")).blocks(5)
        assert 0 == index.match(text("abx")).blocks(4)

    def test_one_byte_of_difference_ends_a_match(self, make: Make) -> None:
        """A block of which any one byte differs is another block."""
        index = make()
        known = text("abcd")
        send(index, known, 0)
        for position in range(len(known)):
            other = known[:position] + b"!" + known[position + 1 :]
            assert position // BLOCK == index.match(other).blocks(0)

    def test_lists_levels_from_the_deepest(self, make: Make) -> None:
        """Each level has all who hold at least so much; equal sets are told once, at their deepest."""
        index = make()
        send(index, text("a"), 0)
        send(index, text("abc"), 1)
        send(index, text("abcdef"), 2)
        send(index, text("abcdef"), 3)

        assert [(6, 0b1100), (3, 0b1110), (1, 0b1111)] == list(index.match(text("abcdefg")).levels)
        assert [(5, 0b1100), (3, 0b1110), (1, 0b1111)] == list(index.match(text("abcde")).levels)
        assert [(2, 0b1110), (1, 0b1111)] == list(index.match(text("ab")).levels)

    def test_keeps_spaces_apart(self, make: Make) -> None:
        """What was sent in one space is not known in another."""
        index = make()
        send(index, text("ab"), 0, ("llama", "salt"))

        assert 2 == index.match(text("ab"), ("llama", "salt")).blocks(0)
        assert 0 == index.match(text("ab"), ("llama", "")).blocks(0)
        assert 0 == index.match(text("ab")).blocks(0)

    def test_looking_up_changes_nothing(self, make: Make) -> None:
        """Without `insert` nothing is remembered."""
        index = make()
        for _ in range(3):
            assert 0 == index.match(text("ab")).blocks(0)
        assert (0, 0, 0, 3) == _held(index.statistics())

    def test_one_match_may_go_to_several_slots(self, make: Make) -> None:
        """A request that two endpoints work on is inserted for both, and again for one of them."""
        index = make()
        match = send(index, text("ab"), 0)
        index.insert(match, 9)
        index.insert(match, 0)

        assert {0: 2, 9: 2} == found_by(index.match(text("ab")))

    def test_a_late_insert_lands_in_what_became_of_the_tree(self, make: Make) -> None:
        """A match is inserted as a prompt, not as it stood when it was looked up."""
        index = make()
        match = index.match(text("abcd"))
        send(index, text("abxy"), 1)
        index.insert(match, 0)

        assert {0: 4, 1: 2} == found_by(index.match(text("abcd")))
        assert {0: 2, 1: 4} == found_by(index.match(text("abxy")))

    def test_remove_forgets_one_slot(self, make: Make) -> None:
        """What others hold stays; removing what is not there does nothing."""
        index = make()
        send(index, text("abc"), 0)
        send(index, text("abd"), 0)
        send(index, text("ab"), 1)
        index.remove(0)
        index.remove(7)

        assert {1: 2} == found_by(index.match(text("abc")))
        assert (1, 2, 2, 1) == _held(index.statistics())
        index.remove(1)
        assert (0, 0, 0, 1) == _held(index.statistics())

    def test_a_slot_that_is_used_again_starts_empty(self, make: Make) -> None:
        """The next endpoint in a slot holds nothing of the one before, and remembers what it is sent."""
        index = make()
        send(index, text("ab"), 3)
        index.remove(3)
        match = send(index, text("abc"), 3)

        assert {} == found_by(match)
        assert {3: 3} == found_by(index.match(text("abc")))

    def test_a_match_from_before_a_removal_is_not_inserted(self, make: Make) -> None:
        """A pick under way while its endpoint goes leaves nothing behind, for that slot only."""
        index = make()
        match = index.match(text("ab"))
        index.remove(3)
        index.insert(match, 3)
        assert {} == found_by(index.match(text("ab")))

        index.insert(match, 4)
        assert {4: 2} == found_by(index.match(text("ab")))
        send(index, text("ab"), 3)
        assert {3: 2, 4: 2} == found_by(index.match(text("ab")))

    def test_prompts_may_be_empty(self, make: Make) -> None:
        """A prompt without a byte has no block, and inserting it does nothing."""
        index = make()
        match = send(index, b"", 0)

        assert (0, ()) == (match.total, tuple(match.levels))
        assert (0, 0, 0, 0) == _held(index.statistics())

    def test_looks_at_so_many_blocks_at_most(self, make: Make) -> None:
        """Of a longer prompt the blocks beyond `max_match` do not exist, so that it can match as a whole."""
        index = make(max_match=3)
        match = send(index, text("abcdef"), 0)
        assert 3 == match.total
        assert 3 == index.statistics().held
        for prompt in (text("abcdef"), text("abcx"), text("abc"), text("abcd")[:-1]):
            found = index.match(prompt)
            assert (3, [(3, 1)]) == (found.total, list(found.levels))

    def test_an_endpoint_holds_no_more_than_its_capacity(self, make: Make) -> None:
        """Neither many prompts nor a long one exceed what a slot has room for, however it was told."""
        index = make(capacity=5)
        index.set_capacity(1, 2)
        index.set_capacity(2, 2)
        index.set_capacity(2, None)
        for slot in range(3):
            for prompt in (text("abcdefgh"), text("xyz"), text("uvw")):
                send(index, prompt, slot)

        assert 5 + 2 + 5 == index.statistics().held
        assert 3 == index.statistics().endpoints

    def test_a_capacity_goes_with_its_endpoint(self, make: Make) -> None:
        """The next endpoint in a slot has the default capacity."""
        index = make(capacity=5)
        index.set_capacity(1, 2)
        index.remove(1)
        send(index, text("abcdefgh"), 1)

        assert 5 == index.statistics().held

    def test_counts_hits_and_misses(self, make: Make) -> None:
        """A lookup counts as one or the other; one without a block as neither."""
        index = make()
        for prompt in (text("ab"), text("ac"), text("x"), b"", text("abc")):
            send(index, prompt, 0)
        found = index.statistics()

        assert (2, 2) == (found.hits, found.misses)
        assert 0 == found.evicted
        assert found.bytes > found.blocks > 0
        assert found.nodes > 0

    @pytest.mark.parametrize("prompt", ["text", bytearray(b"text"), memoryview(b"text"), None, 5, [1, 2]])
    def test_refuses_prompts_that_are_not_bytes(self, make: Make, prompt: Any) -> None:
        """Anything else would compare by other rules, or could change after it was looked up."""
        with pytest.raises(InvalidRequestError, match=f"prompt: {type(prompt).__name__} is not bytes"):
            make().match(prompt)

    def test_refuses_matches_of_other_indexes(self, make: Make) -> None:
        """A match belongs to the index that made it, whatever the other one is."""
        strangers: list[Any] = [other().match(text("ab")) for other in KINDS.values()]
        for match in (*strangers, PrefixMatch(2, [(1, 1)]), None):
            with pytest.raises(StrategyError, match=r"match: .+ was made by another index"):
                make().insert(match, 0)

    @pytest.mark.parametrize("slot", [-1, 1.5, "1", None])
    def test_refuses_what_is_no_slot(self, make: Make, slot: Any) -> None:
        """A slot is a whole number of 0 or more; one that is not changes nothing."""
        index = make()
        match = index.match(text("ab"))
        calls: list[Callable[[], None]] = [
            lambda: index.insert(match, slot),
            lambda: index.remove(slot),
            lambda: index.set_capacity(slot, 3),
        ]
        for call in calls:
            with pytest.raises(StrategyError, match=rf"slot: {slot!r} is not a whole number of 0 or more"):
                call()
        index.insert(match, 0)
        assert {0: 2} == found_by(index.match(text("ab")))

    @pytest.mark.parametrize("blocks", [-1, 1.5, "1", True])
    def test_refuses_what_is_no_capacity(self, make: Make, blocks: Any) -> None:
        """A capacity is a whole number of 0 or more, or None; the error names the slot."""
        with pytest.raises(ConfigurationError, match=rf"capacity of slot 4: {blocks!r} is not a whole number"):
            make().set_capacity(4, blocks)

    @pytest.mark.parametrize("parameter", ["block_size", "capacity", "max_match"])
    @pytest.mark.parametrize("value", [-1, 2.5, "8", True])
    def test_refuses_parameters_out_of_range(self, make: Make, parameter: str, value: Any) -> None:
        """The error names the index, the parameter and the value."""
        kind: Any = type(make())
        with pytest.raises(ConfigurationError, match=rf"(tree|index): {parameter}: {value!r} is not a whole number"):
            kind(**{parameter: value})

    def test_shows_how_much_it_holds(self, make: Make) -> None:
        """Index and match print numbers, and no prompt."""
        index = make()
        match = send(index, text("secret"), 0)

        assert f"<{type(index).__name__} blocks=6>" == repr(index)
        assert "total=6" in repr(match)
        assert "secret" not in repr(match).replace("s" * BLOCK, "secret")
        assert "ssss" not in repr(match)

    @given(data=st.data())
    def test_without_eviction_it_is_a_set_of_prefixes(self, make: Make, data: st.DataObject) -> None:
        """Whatever is sent where, and whoever leaves, each slot holds the beginnings of what it was sent."""
        index = make()
        held: dict[int, set[tuple[Hashable, bytes]]] = {}
        for _ in range(data.draw(st.integers(0, 12))):
            slot, space = data.draw(st.sampled_from([0, 1, 2, 70])), data.draw(spaces())
            prompt = data.draw(prompts(BLOCK))
            prompt = prompt[: len(prompt) // BLOCK * BLOCK]
            ends = range(BLOCK, len(prompt) + 1, BLOCK)
            match = index.match(prompt, space)
            expected = {
                known: count
                for known, blocks in held.items()
                if (count := sum((space, prompt[:end]) in blocks for end in ends))
            }
            assert expected == found_by(match)
            check_levels(match)
            if data.draw(st.integers(0, 5)):
                index.insert(match, slot)
                held.setdefault(slot, set()).update((space, prompt[:end]) for end in ends)
            else:
                index.remove(slot)
                held.pop(slot, None)
        found = index.statistics()
        assert len(set().union(*held.values())) == found.blocks
        assert sum(map(len, held.values())) == found.held


def _held(found: PrefixStatistics) -> tuple[int, int, int, int]:
    return found.endpoints, found.held, found.blocks, found.misses
