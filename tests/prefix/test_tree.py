from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any

import attrs
import pytest

from inferencepool.errors import ConfigurationError
from inferencepool.prefix import PrefixTree
from inferencepool.prefix._forest import Forest
from tests.prefix.oracle import check_shape, found_by, nodes_in
from tests.prefix.test_contract import send

BLOCK = 8
AMPLE = 10**9


def blocks(*numbers: int) -> bytes:
    """Give a prompt of one block for each number."""
    return b"".join(number.to_bytes(BLOCK, "big") for number in numbers)


def tree_of(**parameters: Any) -> PrefixTree:
    """Make a tree with blocks of eight bytes and ample room."""
    return PrefixTree(**{"block_size": BLOCK, "capacity": AMPLE, "max_bytes": AMPLE, "max_match": None} | parameters)


def calls(act: Callable[[], object]) -> int:
    """Count the functions that *act* calls, those of C included: its cost, whatever the machine does meanwhile."""
    count = 0

    def note(_: FrameType, event: str, __: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # what it would end belongs to other tests
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    return count


class TestForgetting:
    def test_the_oldest_prompt_loses_its_end(self) -> None:
        """A full endpoint forgets as many blocks as it lacks room for: the last ones of its oldest prompt."""
        tree = tree_of(capacity=6)
        send(tree, blocks(1, 2, 3, 4), 0)
        send(tree, blocks(5, 6, 7), 0)

        assert 3 == tree.match(blocks(1, 2, 3, 4)).blocks(0)
        assert 3 == tree.match(blocks(5, 6, 7)).blocks(0)
        assert 1 == tree.statistics().evicted

    def test_using_a_prompt_again_makes_it_young(self) -> None:
        """What was sent again is kept, though it was there first."""
        tree = tree_of(capacity=4)
        for prompt in (blocks(1, 2), blocks(3, 4), blocks(1, 2), blocks(5, 6)):
            send(tree, prompt, 0)

        assert (2, 0, 2) == tuple(tree.match(p).blocks(0) for p in (blocks(1, 2), blocks(3, 4), blocks(5, 6)))

    def test_a_shared_beginning_is_as_young_as_its_youngest_prompt(self) -> None:
        """A system prompt outlives the conversations below it."""
        tree = tree_of(capacity=5)
        for number in range(10, 60):
            send(tree, blocks(1, 2, 3, number), 0)

        assert 3 == tree.match(blocks(1, 2, 3)).blocks(0)
        assert (3, 4, 4) == tuple(tree.match(blocks(1, 2, 3, n)).blocks(0) for n in (57, 58, 59))

    def test_of_a_prompt_beyond_the_capacity_the_beginning_is_kept(self) -> None:
        """A prompt longer than the whole capacity pushes everything else out, and its own end."""
        tree = tree_of(capacity=3)
        send(tree, blocks(9), 0)
        send(tree, blocks(1, 2, 3, 4, 5), 0)

        assert 3 == tree.match(blocks(1, 2, 3, 4, 5)).blocks(0)
        assert 0 == tree.match(blocks(9)).blocks(0)

    def test_less_capacity_counts_at_once(self) -> None:
        """What an endpoint lost the room for is forgotten at once; 0 holds nothing, and None is the default."""
        tree = tree_of(capacity=4)
        send(tree, blocks(1, 2, 3, 4), 0)
        tree.set_capacity(0, 2)
        assert 2 == tree.match(blocks(1, 2, 3, 4)).blocks(0)
        tree.set_capacity(0, 0)
        send(tree, blocks(1, 2, 3, 4), 0)
        assert 0 == tree.statistics().blocks == tree.statistics().spaces
        tree.set_capacity(0, None)
        send(tree, blocks(1, 2, 3, 4, 5), 0)
        assert 4 == tree.match(blocks(1, 2, 3, 4)).blocks(0)

    def test_a_chat_is_one_prompt(self) -> None:
        """Each turn covers the one before: one end and one node are kept, however long the chat and who takes turns."""
        tree = tree_of()
        for turns in range(1, 50):
            send(tree, blocks(*range(turns)), 0)
        assert (1, 1, 49) == (tree.statistics().nodes, tree.statistics().prompts, tree.statistics().held)

        for turns in range(50, 100):
            send(tree, blocks(*range(turns)), turns % 3)
        assert (3, 3) == (tree.statistics().nodes, tree.statistics().prompts)


class TestLateInserts:
    """Whatever happened since a prompt was looked up, it is inserted as if it had been looked up again."""

    @pytest.mark.parametrize(
        "change",
        [
            lambda tree: send(tree, blocks(1, 2), 2),
            lambda tree: send(tree, blocks(1, 2, 3, 4, 9), 2),
            lambda tree: send(tree, blocks(1, 9), 2),
            lambda tree: tree.set_capacity(0, 3),
            lambda tree: tree.set_capacity(0, 1),
            lambda tree: tree.set_capacity(0, 0),
            lambda tree: tree.remove(0),
            lambda tree: tree.remove(1),
        ],
        ids=["split", "grown", "branched", "cut", "cut short", "emptied", "removed", "joined"],
    )
    @pytest.mark.parametrize("held_by_another", [False, True])
    @pytest.mark.parametrize(
        "prompt",
        [blocks(1, 2, 3, 4, 5), blocks(1, 2, 3, 6), blocks(1, 2, 7), blocks(8)],
        ids=["12345", "1236", "127", "8"],
    )
    def test_the_tree_has_moved(
        self, change: Callable[[PrefixTree], object], held_by_another: bool, prompt: bytes
    ) -> None:
        """The walk of the lookup is not trusted once the tree has another shape."""
        tree = tree_of()
        send(tree, blocks(1, 2, 3, 4), 0)
        if held_by_another:
            send(tree, blocks(1, 2), 1)
        match = tree.match(prompt)
        change(tree)
        tree.insert(match, 5)

        check_shape(tree)
        assert len(prompt) // BLOCK == tree.match(prompt).blocks(5)


class TestMemory:
    def test_the_oldest_prompt_of_all_goes_first(self) -> None:
        """The cap in bytes takes prompts in the order of their last use, whichever endpoint they are at."""
        tree = tree_of()
        for number in range(40):
            send(tree, blocks(number, number), number % 7)
        tree = tree_of(max_bytes=tree.statistics().bytes // 2)
        for number in range(40):
            send(tree, blocks(number, number), number % 7)
        known = [bool(tree.match(blocks(number, number)).levels) for number in range(40)]

        assert known == sorted(known)
        assert 15 <= sum(known) <= 20
        assert 0 < tree.statistics().bytes <= tree.statistics().evicted * AMPLE

    def test_a_flood_pushes_out_no_more_than_its_endpoint_has_room_for(self) -> None:
        """What an endpoint floods itself with goes through its own capacity, and the others keep theirs."""
        tree = tree_of(capacity=10, max_bytes=40_000)
        for slot in range(1, 5):
            for number in range(5):
                send(tree, blocks(slot, number), slot)
        before = tree.statistics()
        for number in range(1_000):
            send(tree, blocks(10 + number, number), 0)

        assert before.held + 10 == tree.statistics().held

    def test_a_prompt_that_does_not_fit_alone_is_not_kept(self) -> None:
        """A cap too small for one prompt leaves the tree empty, and working."""
        tree = tree_of(max_bytes=100)
        send(tree, blocks(1, 2, 3), 0)
        send(tree, blocks(1, 2, 3), 1)

        assert 0 == tree.statistics().bytes == tree.statistics().spaces
        check_shape(tree)

    @pytest.mark.parametrize("fingerprints", [False, True])
    def test_new_spaces_and_sessions_do_not_grow_it(self, fingerprints: bool) -> None:
        """A million salts and sessions would stay below the cap as these do: each has a size that counts."""
        most = 20_000
        tree = tree_of(max_bytes=most, fingerprints=fingerprints)
        for number in range(2_000):
            send(tree, blocks(number, number), number % 5, ("llama", "salt" * (number % 50), str(number)))
            assert tree.statistics().bytes <= most
        found = tree.statistics()

        assert 5 < found.spaces < 100
        assert found.spaces == len(tree._forest.roots)
        check_shape(tree)

    def test_salts_that_fit_nowhere_are_not_kept(self) -> None:
        """The key of a space counts as memory too, so a salt larger than the cap cannot stay."""
        tree = tree_of(max_bytes=100_000)
        send(tree, blocks(1), 0, ("llama", "s" * 200_000))

        assert 0 == tree.statistics().spaces

    def test_empty_spaces_disappear(self) -> None:
        """A space goes with the last endpoint that holds something there, and with the last prompt."""
        tree = tree_of(capacity=1)
        send(tree, blocks(1), 0, "a")
        send(tree, blocks(1), 1, "a")
        send(tree, b"short", 0, "b")
        tree.match(blocks(1), "c")
        assert ["a"] == list(tree._forest.roots)
        tree.remove(0)
        assert ["a"] == list(tree._forest.roots)
        send(tree, blocks(1), 1, "d")
        assert ["d"] == list(tree._forest.roots)

    def test_endpoints_that_come_and_go_leave_nothing(self) -> None:
        """After any number of endpoints there is at most a small entry for each slot that they shared."""
        tree, rng = tree_of(capacity=20, max_bytes=20_000), Random(1)
        for number in range(3_000):
            slot = rng.randrange(8)
            send(tree, blocks(*(rng.randrange(3) for _ in range(rng.randrange(8)))), slot)
            if rng.random() < 0.2:
                tree.remove(rng.randrange(8))
                tree.set_capacity(rng.randrange(8), number % 30)
        check_shape(tree)
        for slot in range(8):
            tree.remove(slot)
        check_shape(tree)
        recency = tree._recency

        assert 0 == tree.statistics().bytes == tree.statistics().held
        assert not recency.holdings
        assert not tree._forest.roots
        assert len(recency._turns) <= 8
        assert len(tree._removed) <= 8

    def test_forgotten_text_is_freed(self) -> None:
        """Nothing keeps a node that is no longer part of a tree: neither its neighbors nor a cycle."""
        tree, rng = tree_of(capacity=30), Random(2)
        gc.collect()
        gc.disable()
        try:
            before = sum(type(item).__name__ == "Node" for item in gc.get_objects())
            for _ in range(2_000):
                send(tree, blocks(*(rng.randrange(3) for _ in range(8))), rng.randrange(3))
            alive = sum(type(item).__name__ == "Node" for item in gc.get_objects()) - before
        finally:
            gc.enable()

        assert tree.statistics().nodes == alive

    def test_nodes_of_one_endpoint_share_its_set(self) -> None:
        """In a large fleet a set is as long as a short prompt, so nodes with the same lone holder have one for all."""
        tree = tree_of()
        for number in range(5):
            send(tree, blocks(number), 9_999)

        assert 1 == len({id(node.holders) for _, _, node in nodes_in(tree)})

    def test_fingerprints_keep_no_text(self) -> None:
        """With fingerprints neither the tree nor a match holds any part of a prompt, and keys are an eighth as long."""
        tree = PrefixTree(fingerprints=True)
        prompt = bytes(range(256)) * 4
        match = tree.match(prompt)
        tree.insert(match, 0)
        found: Any = match

        assert 16 == match.total
        assert [8 * 16] == [len(node.key) for _, _, node in nodes_in(tree)]
        assert 8 * 16 == len(found.text)
        assert all(prompt[at : at + 4] not in found.text for at in range(0, len(prompt), 4))

    def test_fingerprints_cut_prompts_anywhere(self) -> None:
        """Prompts of every length match themselves and their beginnings block by block, across runs of blocks too."""
        tree = tree_of(fingerprints=True)
        whole = blocks(*range(200))
        send(tree, whole, 0)
        for length in (*range(70 * BLOCK), len(whole) - 1, len(whole)):
            assert length // BLOCK == tree.match(whole[:length]).blocks(0)
        assert 64 == tree.match(blocks(*range(64), 0, *range(65, 200))).blocks(0)


class TestHostilePrompts:
    """Costs are counted in calls, which no other load on the machine changes."""

    def test_a_branch_at_every_block_costs_one_step(self) -> None:
        """Looking up a prompt that branches at every block costs in proportion to its blocks, as inserting it does."""

        def cost(length: int) -> tuple[int, int]:
            tree, whole = tree_of(), blocks(*range(length))
            send(tree, whole, 0)
            for cut in range(1, length):
                send(tree, whole[: cut * BLOCK] + blocks(AMPLE), 0)
            assert 2 * length - 1 == tree.statistics().nodes
            match = tree.match(whole)
            return calls(lambda: tree.match(whole)), calls(lambda: tree.insert(match, 1))

        small, large = cost(200), cost(800)

        assert large[0] < 4.2 * small[0]
        assert large[1] < 4.2 * small[1]

    def test_many_children_cost_nothing(self) -> None:
        """Among 5,000 children of one node a lookup takes as many calls as among two."""

        def cost(children: int) -> int:
            tree = tree_of()
            for number in range(children):
                send(tree, blocks(0, number), 0)
            return calls(lambda: tree.match(blocks(0, children - 1))) + calls(lambda: tree.match(blocks(0, children)))

        cost(2)  # whatever is done once in a process
        assert cost(2) == cost(5_000)

    def test_a_long_key_is_bisected(self) -> None:
        """Finding the one byte that differs in a megabyte takes a few dozen calls, not one for each block."""
        tree = tree_of()
        whole = blocks(*range(131_072))
        send(tree, whole, 0)
        for at in (BLOCK, len(whole) // 3, len(whole) - 1):
            other = whole[:at] + b"!" + whole[at + 1 :]
            assert at // BLOCK == tree.match(other).blocks(0)
            assert calls(lambda: tree.match(other)) < 60  # noqa: B023  # called here

    def test_repeated_bytes_match_as_far_as_they_go(self) -> None:
        """Prompts of one byte, of any length up to ten megabytes, match each other to the shorter one's last block."""
        tree = tree_of()
        send(tree, b"a" * 10_000_000, 0)
        for length in (0, 7, 8, 9, 4_096, 9_999_999, 10_000_000, 10_000_009):
            assert min(length, 10_000_000) // BLOCK == tree.match(b"a" * length).blocks(0)

    def test_the_default_bounds_what_is_looked_at(self) -> None:
        """Of ten megabytes 512 KiB are looked at and kept."""
        tree = PrefixTree()
        match = send(tree, bytes(10_000_000), 0)

        assert 8_192 == match.total == tree.statistics().blocks
        assert 8_192 == tree.match(bytes(600_000)).blocks(0)
        assert 8_191 == tree.match(bytes(8_192 * 64 - 1)).blocks(0)

    @pytest.mark.parametrize("act", ["cover", "remove", "fill"])
    def test_a_chain_of_ends_is_joined_as_a_whole(self, act: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """
        Where hundreds of ends of one chain go at once, their text is not put together again for each of them.

        Ends that a longer prompt covers, ends of an endpoint that leaves, and the oldest ends of a memory that is full.
        """
        length = 600
        tree = tree_of(max_bytes=1_000_000 if act == "fill" else AMPLE)
        for cut in range(1, length + 1) if act == "fill" else range(length, 0, -1):
            send(tree, blocks(*range(cut)), cut if act == "fill" else 0)
        send(tree, blocks(*range(length)), length + 1)
        assert length == tree.statistics().nodes
        joined: list[int] = []
        absorb = Forest._absorb

        def count(forest: Forest, node: Any) -> None:
            absorb(forest, node)
            joined.append(len(node.key))

        monkeypatch.setattr(Forest, "_absorb", count)
        if act == "cover":
            send(tree, blocks(*range(length)), 0)
        elif act == "remove":
            tree.remove(0)
        else:
            send(tree, blocks(*range(1_000, 110_000)), 0)

        # Where the memory is full, merging may save a prompt; so it is tried again, ever closer to the end.
        assert len(joined) <= (40 if act == "fill" else 1)
        assert joined[-1] > length * BLOCK // 4
        assert tree.statistics().nodes < length * 3 // 4
        check_shape(tree)

    def test_very_deep_trees_are_dropped_safely(self) -> None:
        """A tree of 20,000 levels is walked, emptied and thrown away without recursion."""
        tree, whole = tree_of(), blocks(*range(20_000))
        for cut in range(20_000, 0, -1):
            tree.insert(tree.match(whole[: cut * BLOCK]), cut % 2)
            if cut % 1_000 == 0:
                gc.collect(0)
        assert 20_000 == tree.match(whole).blocks(0)
        assert 20_000 == tree.statistics().nodes
        tree.remove(0)
        del tree
        gc.collect()


def test_parameters_have_ranges() -> None:
    """The cap in bytes is a whole number of 1 or more."""
    for value in (0, -1, 1.5, "1", None, True):
        given: Any = value
        with pytest.raises(ConfigurationError, match=f"prefix tree: max_bytes: {value!r} is not a whole number of 1"):
            PrefixTree(max_bytes=given)
    with pytest.raises(ConfigurationError, match="prefix tree: block_size: 0 is not a whole number of 1 or more"):
        PrefixTree(block_size=0)
    assert 0 == PrefixTree(capacity=0).statistics().bytes


def test_statistics_are_a_value() -> None:
    """What was counted stays as it was."""
    tree = tree_of()
    before = tree.statistics()
    send(tree, blocks(1), 0)

    assert before == tree_of().statistics() != tree.statistics()
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        before.blocks = 1  # type: ignore[misc]  # that is the point


def test_any_size_of_block_will_do() -> None:
    """Blocks may be one byte, or larger than every prompt."""
    tree = PrefixTree(block_size=1)
    send(tree, b"abc", 0)
    assert {0: 2} == found_by(tree.match(b"abx"))
    tree = PrefixTree(block_size=2**70, max_match=2**70)
    assert 0 == send(tree, b"abc", 0).total
