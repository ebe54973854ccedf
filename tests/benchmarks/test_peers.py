from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from benchmarks.peers.__main__ import main
from benchmarks.peers.catalog import OURS, PEERS, Peer
from benchmarks.peers.coordinator import (
    Connection,
    Plan,
    WorkerError,
    compare_memory,
    compare_speed,
    connect,
)
from benchmarks.peers.environments import NotInstalledError
from benchmarks.peers.figure import Bar, bars_of, draw
from benchmarks.peers.prompts import SYSTEM, prompt
from benchmarks.peers.table import memory_to_text, speed_to_text, ways_to_text

PLAN = Plan(sizes=[2, 3], rounds=2, turn_seconds=0.001, warm_prompts=20, memory_size=2, memory_prompts=20)


@pytest.fixture(name="connection")
def _connection(tmp_path: Path) -> Iterator[Connection]:
    with connect(OURS, tmp_path) as connection:
        yield connection


class TestPrompts:
    def test_they_share_the_system_prompt_and_nothing_after_it(self) -> None:
        """All prompts have 8 KiB, begin with the same 2 KiB, and differ within the next block."""
        texts = [prompt(number) for number in range(50)]

        assert {8192} == {len(text.encode()) for text in texts}
        assert {SYSTEM} == {text[:2048] for text in texts}
        assert 50 == len({text[2048 : 2048 + 64] for text in texts})


class TestSpeed:
    def test_every_way_takes_all_its_turns(self, connection: Connection) -> None:
        """Each way of ours has figures of every round at each size."""
        timed = list(compare_speed([connection], PLAN))

        assert 2 * (1 + 2 + 2) == len(timed)
        for one in timed:
            assert [0, 1] == sorted(one.picks) == sorted(one.ratios)
            assert min(one.picks.values()) > 0

    def test_the_table_tells_them(self, connection: Connection) -> None:
        """Each way has a line with its peer's version, and ours is once as fast as ours."""
        text = speed_to_text(list(compare_speed([connection], PLAN)), {"inferencepool": "1.2"}, {})

        (line,) = [line for line in text.splitlines() if "by load alone" in line]
        cells = [cell.strip() for cell in line.split("|")]
        assert ["by load alone", "inferencepool 1.2", "default profile, load"] == cells[1:4]
        assert "1.00 / 1.00" == cells[6]

    def test_what_a_worker_cannot_do_is_told(self, connection: Connection) -> None:
        """A way that the worker does not know is in the notes with the worker's own words; the others are measured."""
        unknown = attrs.evolve(OURS.ways[0], name="by magic")
        connection.peer = attrs.evolve(OURS, ways=(unknown, OURS.ways[0]))
        timed = list(compare_speed([connection], PLAN))

        assert ["KeyError: 'by magic'"] * 2 + [""] * 2 == sorted((one.error for one in timed), reverse=True)
        assert "by magic, n=2, 3: not measured: KeyError: 'by magic'" in speed_to_text(timed, {}, {})


class TestMemory:
    def test_all_prompts_are_picked_for(self, connection: Connection) -> None:
        """Each way that looks at prompts is given all of them."""
        filled = list(compare_memory([connection], PLAN))

        assert ["default profile, prefix", "prefix tree alone"] == [one.way.name for one in filled]
        assert [20, 20] == [one.prompts for one in filled]
        assert "prefix tree alone" in memory_to_text(filled, {}, 2)


class TestConnection:
    def test_a_worker_that_ends_leaves_its_last_words(self, tmp_path: Path) -> None:
        """A worker that cannot start is told with the last line that it printed."""
        with (
            connect(attrs.evolve(OURS, worker="no_such_worker"), tmp_path) as connection,
            pytest.raises(WorkerError, match=r"has ended: .*No module named .*no_such_worker"),
        ):
            connection.ask("about", distribution="inferencepool")

    def test_one_that_does_not_answer_is_ended_and_started_anew(self, connection: Connection) -> None:
        """After a worker was ended for its silence, the next order finds a new one."""
        connection.ask("open", way="default profile, load", size=2)
        with pytest.raises(WorkerError, match=r"no answer within 0\.5 seconds"):
            connection.ask("warm", patience=0.5, way="default profile, load", prompts=10**9, seconds=600)

        assert "version" in connection.ask("about", distribution="inferencepool")

    def test_what_cannot_be_installed_is_told(self, tmp_path: Path) -> None:
        """Requirements that pip refuses are an error with pip's reason."""
        requirements = tmp_path / "requirements.txt"
        requirements.write_text(f"nothing @ {(tmp_path / 'nothing').as_uri()}\n")

        with pytest.raises(NotInstalledError, match=r"ERROR: .*nothing"):
            connect(attrs.evolve(OURS, name="nobody", requirements=requirements), tmp_path)


class TestCatalog:
    @pytest.mark.parametrize("peer", [peer for peer in PEERS if not peer.missing], ids=lambda peer: peer.name)
    def test_everything_that_can_run_is_there(self, peer: Peer) -> None:
        """A peer that can be run has a worker, and ways of which each is described once."""
        import benchmarks.peers.workers  # noqa: PLC0415 - only this test needs it

        folder = Path(benchmarks.peers.workers.__path__[0])
        assert (folder / f"{peer.worker}.py").exists()
        assert len(peer.ways) == len({way.name for way in peer.ways})
        assert all(way.name in ways_to_text([peer], {}) for way in peer.ways)

    @pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.requirements], ids=lambda peer: peer.name)
    def test_every_requirement_is_pinned(self, peer: Peer) -> None:
        """Each line of a requirements file names one version or one commit."""
        assert peer.requirements is not None
        lines = [line for line in peer.requirements.read_text().splitlines() if not line.startswith("#")]
        assert all(re.search(r"==[\w.]+$|@[0-9a-f]{40}$", line) for line in lines)


class TestCommand:
    def test_a_peer_without_figures_is_named(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """A peer that cannot be run has a line in the table with the reason."""
        status = main(["AIBrix", "--only", "speed", "--sizes", "2", "--rounds", "1", "--folder", str(tmp_path)])

        assert 0 == status
        assert re.search(r"\| AIBrix +\| not measured: .* in Go", capsys.readouterr().out)

    def test_an_unknown_peer_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A name that is not known is an error that lists those that are."""
        with pytest.raises(SystemExit):
            main(["nginx"])

        assert "unknown: nginx; there are litellm, ray" in capsys.readouterr().err


class TestFigure:
    _PAGE = """
| what          | peer      | way    | µs at n = 10 / 100 | x rc      | x ours     | sent back | used |
|---------------|-----------|--------|--------------------|-----------|------------|-----------|------|
| by load alone | nginx 1.0 | turn * | 5.50 / 5,500       | 35.3 / 34 | 1.00 / 1,200 |           |      |
|               | apache    | not measured: too old | | | | | |
"""

    def test_rows_with_figures_are_read(self) -> None:
        """A row is a bar of its ratio at the size asked for; rows without figures are none."""
        assert [Bar("by load alone", "nginx 1.0", "turn", 1200.0, proxied=True)] == bars_of(self._PAGE)
        assert [1.0] == [bar.ratio for bar in bars_of(self._PAGE, 10)]

    @pytest.mark.parametrize(("page", "size"), [("no table", 100), (_PAGE, 7)])
    def test_a_page_without_such_a_table_is_refused(self, page: str, size: int) -> None:
        """Nothing is drawn from nothing."""
        with pytest.raises(ValueError, match=f"no table of speed for n = {size}"):
            bars_of(page, size)

    def test_the_figure_of_the_page_is_up_to_date(self, root: Path) -> None:
        """The figure that the page shows is drawn from the page's tables."""
        folder = root / "docs" / "explanation"
        page = (folder / "comparison.md").read_text(encoding="utf-8")

        assert draw(bars_of(page)) == (folder / "images" / "comparison.svg").read_text(encoding="utf-8")

    def test_every_peer_is_on_the_page(self, root: Path) -> None:
        """Whoever is in the catalog has rows on the page, with figures or with the reason why there are none."""
        page = (root / "docs" / "explanation" / "comparison.md").read_text(encoding="utf-8")

        assert [] == [peer.name for peer in PEERS if f"| {peer.name} " not in page]
