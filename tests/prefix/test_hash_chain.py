from __future__ import annotations

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from inferencepool.prefix import HashChainIndex
from tests.prefix.oracle import check_levels, found_by
from tests.prefix.test_contract import send, text
from tests.strategies.prompts import prompts

BLOCK = 8


def index_of(capacity: int = 1_000) -> HashChainIndex:
    """Make an index with blocks of eight bytes."""
    return HashChainIndex(block_size=BLOCK, capacity=capacity)


def test_the_end_of_a_prompt_is_a_block() -> None:
    """What follows the last whole block counts as one, and matches only itself."""
    index = index_of()
    prompt = text("ab") + b"abcd"
    assert 3 == send(index, prompt, 0).total

    assert 3 == index.match(prompt).blocks(0)
    assert 2 == index.match(prompt + b"e").blocks(0)
    assert 2 == index.match(prompt[:-1]).blocks(0)
    assert 1 == index.match(b"x").total


def test_the_end_of_a_prompt_is_filled_up_to_whole_tokens() -> None:
    """Four bytes are packed into a token, so zeros that fill up the last token make no difference."""
    index = index_of()
    send(index, text("a") + b"bc", 0)

    assert 2 == index.match(text("a") + b"bc\0\0").blocks(0)
    assert 1 == index.match(text("a") + b"bc\0\0\0").blocks(0)


def test_a_whole_block_is_the_same_wherever_it_ends() -> None:
    """A block of a size that is no multiple of four is not filled up: it may be the last one or not."""
    index = HashChainIndex(block_size=6)
    index.insert(index.match(b"abcdef"), 0)

    assert 1 == index.match(b"abcdefghijkl").blocks(0)


def test_blocks_are_counted_though_one_before_is_missing() -> None:
    """An endpoint that lost its first block counts the rest, where another one still leads there."""
    index = index_of(capacity=3)
    send(index, text("abc"), 0)
    send(index, text("x"), 0)
    assert 0 == index.match(text("abc")).blocks(0)

    send(index, text("a"), 1)
    assert {0: 2, 1: 1} == found_by(index.match(text("abc")))


def test_the_first_block_nobody_holds_ends_a_lookup() -> None:
    """What comes after it is not looked at, whoever holds it."""
    index = index_of(capacity=2)
    send(index, text("abc"), 0)
    assert {} == found_by(index.match(text("abc")))

    index.set_capacity(1, 1)
    send(index, text("a"), 1)
    assert {0: 2, 1: 1} == found_by(index.match(text("abc")))


def test_a_capacity_is_fixed_with_the_first_prompt() -> None:
    """Later ones count from the next endpoint in the slot on; 0 means the default."""
    index = index_of(capacity=4)
    index.set_capacity(0, 2)
    send(index, text("abcdef"), 0)
    index.set_capacity(0, 3)
    send(index, text("abcdef"), 0)
    assert 2 == index.statistics().held

    index.remove(0)
    index.set_capacity(0, 0)
    send(index, text("abcdef"), 0)
    assert 4 == index.statistics().held
    assert 2 + 4 + 2 + 2 == index.statistics().evicted - 2


def test_counts_many_blocks_of_many_endpoints() -> None:
    """Counts of any size come out right, and in order, where every endpoint holds another number of blocks."""
    index = index_of()
    letters = "".join(chr(ord("A") + n % 26) for n in range(70))
    for slot in range(70):
        send(index, text(letters[: slot + 1]), slot)
    match = index.match(text(letters))

    assert {slot: slot + 1 for slot in range(70)} == found_by(match)
    assert 70 == len(match.levels)
    check_levels(match)


class Definition:
    """The same, as plainly as it can be said: for each server a list of blocks, oldest first."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.blocks: dict[int, OrderedDict[bytes, None]] = {}

    @staticmethod
    def chain(prompt: bytes) -> list[bytes]:
        """Name each block by everything up to its end."""
        ends = [*range(BLOCK, len(prompt), BLOCK), len(prompt)] if prompt else []
        return [prompt[:end] + b"|" * (end % BLOCK > 0) for end in ends]

    def match(self, prompt: bytes) -> dict[int, int]:
        """Count blocks up to the first one that nobody has."""
        found: dict[int, int] = {}
        for block in self.chain(prompt):
            servers = [server for server, blocks in self.blocks.items() if block in blocks]
            if not servers:
                break
            for server in servers:
                found[server] = found.get(server, 0) + 1
        return found

    def insert(self, prompt: bytes, server: int) -> None:
        """Use the blocks from the first to the last."""
        blocks = self.blocks.setdefault(server, OrderedDict())
        for block in self.chain(prompt):
            blocks[block] = None
            blocks.move_to_end(block)
            if len(blocks) > self.capacity:
                blocks.popitem(last=False)


@given(
    capacity=st.sampled_from([1, 2, 5, 12, 40]),
    sent=st.lists(st.tuples(prompts(BLOCK), st.sampled_from([0, 1, 2, 70])), max_size=30),
)
def test_equals_its_definition(capacity: int, sent: list[tuple[bytes, int]]) -> None:
    """Every lookup counts what the plain lists count, under eviction too."""
    index, definition = index_of(capacity), Definition(capacity)
    for prompt, slot in sent:
        match = index.match(prompt)
        assert definition.match(prompt) == found_by(match)
        check_levels(match)
        index.insert(match, slot)
        definition.insert(prompt, slot)
    held = sum(map(len, definition.blocks.values()))
    assert held == index.statistics().held
    assert len(set().union(*definition.blocks.values())) == index.statistics().blocks
