"""Files that change while they are watched; all files are real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from inferencepool.errors import ConfigurationError, InvalidDocumentError
from inferencepool.runtime.files import FileWatcher, read_file


class Watched:
    """A file in a folder, its watcher, and what the watcher told."""

    def __init__(self, path: Path, limit: int = 100) -> None:
        self.path = path
        self.told: list[object] = []
        self.watcher = FileWatcher(
            path, limit=limit, on_change=self._on_change, on_problem=self._on_problem, on_recovery=self._on_recovery
        )

    async def _on_change(self, content: bytes) -> None:
        self.told.append(content)

    def _on_problem(self, problem: InvalidDocumentError) -> None:
        self.told.append(str(problem).removeprefix(f"{self.path}: "))

    def _on_recovery(self) -> None:
        self.told.append("recovered")

    def look(self) -> list[object]:
        """What a look tells."""
        self.told.clear()
        changed = asyncio.run(self.watcher.check())
        assert changed == any(isinstance(each, bytes) for each in self.told)
        return self.told[:]


@pytest.fixture(name="watched")
def _watched(tmp_path: Path) -> Watched:
    watched = Watched(tmp_path / "endpoints.yaml")
    watched.path.write_bytes(b"one")
    assert b"one" == watched.watcher.read()
    return watched


class TestChanges:
    def test_nothing_changed(self, watched: Watched) -> None:
        """What was read is not handed over."""
        assert [] == watched.look() == watched.look()

    def test_written_in_place(self, watched: Watched) -> None:
        """A write is seen, once."""
        watched.path.write_bytes(b"two")

        assert [b"two"] == watched.look()
        assert [] == watched.look() == watched.look()

    def test_same_content_again(self, watched: Watched) -> None:
        """A file that was touched, or replaced by its like, has not changed."""
        os.utime(watched.path, (1, 1))
        assert [] == watched.look()

        other = watched.path.with_name("other")
        other.write_bytes(b"one")
        other.replace(watched.path)
        assert [] == watched.look()

    def test_replaced_by_rename(self, watched: Watched) -> None:
        """An atomic rename is seen, also if the new file has the size and times of the old one."""
        status = watched.path.stat()
        other = watched.path.with_name("other")
        other.write_bytes(b"two")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.replace(watched.path)

        assert [b"two"] == watched.look()

    def test_links_of_a_config_map(self, tmp_path: Path) -> None:
        """A link that turns to another directory is seen, as kubelet turns that of a ConfigMap."""
        for name, content in (("first", b"one"), ("second", b"two")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "endpoints.yaml").write_bytes(content)
        (tmp_path / "..data").symlink_to("first")
        watched = Watched(tmp_path / "endpoints.yaml")
        watched.path.symlink_to("..data/endpoints.yaml")
        assert [b"one"] == watched.look()

        (tmp_path / "..data_tmp").symlink_to("second")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")

        assert [b"two"] == watched.look()

    def test_change_that_leaves_all_times_as_they_were(self, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        """A second write within one tick of the file system's clock is seen at the look after; then the file rests."""
        status = watched.path.stat()
        monkeypatch.setattr(Path, "stat", lambda *_args, **_options: status)
        coarse = Watched(watched.path)
        assert b"one" == coarse.watcher.read()

        watched.path.write_bytes(b"two")
        assert [b"two"] == coarse.look()

        watched.path.write_bytes(b"six")
        assert [] == coarse.look()


class TestProblems:
    def test_removed_and_made_again(self, watched: Watched) -> None:
        """That a file is gone is told once; the content that comes back is compared with the last one."""
        watched.path.unlink()
        assert ["no such file"] == watched.look()
        assert [] == watched.look()
        watched.path.write_bytes(b"one")
        assert ["recovered"] == watched.look()
        watched.path.unlink()
        assert ["no such file"] == watched.look()
        watched.path.write_bytes(b"two")
        assert ["recovered", b"two"] == watched.look()

    def test_another_reason_is_told(self, watched: Watched) -> None:
        """A problem is told again when its reason changes."""
        watched.path.unlink()
        assert ["no such file"] == watched.look()
        watched.path.mkdir()
        assert ["is a directory, not a file"] == watched.look()
        watched.path.rmdir()
        watched.path.write_bytes(b"a" * 101)
        assert ["exceeds the limit of 100 bytes"] == watched.look()

    def test_file_that_is_not_there_at_first(self, tmp_path: Path) -> None:
        """A watcher may start before its file is there; reading it at once fails."""
        watched = Watched(tmp_path / "none")
        with pytest.raises(InvalidDocumentError, match="none: no such file"):
            watched.watcher.read()
        assert ["no such file"] == watched.look()
        watched.path.write_bytes(b"one")
        assert ["recovered", b"one"] == watched.look()


class TestReadFile:
    def test_limit_is_exact(self, tmp_path: Path) -> None:
        """A file of the limit is read, one byte more is not."""
        file = tmp_path / "file"
        file.write_bytes(b"a" * 1024 * 1024)
        assert 1024 * 1024 == len(read_file(file, 1024 * 1024))
        file.write_bytes(b"a" * (1024 * 1024 + 1))
        with pytest.raises(InvalidDocumentError, match="exceeds the limit of 1 MiB"):
            read_file(file, 1024 * 1024)

    def test_pipe(self, tmp_path: Path) -> None:
        """A pipe without a writer is refused instead of waited for."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(InvalidDocumentError, match="is no regular file"):
            read_file(tmp_path / "pipe", 10)

    def test_no_permission(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that may not be read says so; a superuser may read all, so the system's refusal is made here."""

        def refuse(*_: object) -> int:
            raise PermissionError

        (tmp_path / "file").write_bytes(b"")
        monkeypatch.setattr(os, "open", refuse)
        with pytest.raises(InvalidDocumentError, match="no permission to read it"):
            read_file(tmp_path / "file", 10)

    def test_loop_of_links(self, tmp_path: Path) -> None:
        """What else the system refuses is told in its words."""
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(InvalidDocumentError, match="loop: cannot be read: Too many levels"):
            read_file(tmp_path / "loop", 10)

    def test_impossible_name(self) -> None:
        """A name that no file can have is no crash, not for the watcher either."""
        with pytest.raises(InvalidDocumentError, match="cannot be read: embedded null"):
            read_file("a\0b", 10)
        assert len(Watched(Path("a\0b")).look()) == 1


class TestRun:
    def test_looks_every_interval(self, watched: Watched) -> None:
        """`run` sleeps, looks, and waits for who is told, until it is cancelled."""
        steps: list[object] = []

        async def sleep(seconds: float) -> None:
            steps.append(seconds)
            if len(steps) > 3:
                raise asyncio.CancelledError
            watched.path.write_bytes(b"content %d" % len(steps))

        async def on_change(content: bytes) -> None:
            await asyncio.sleep(0)
            steps.append(content)

        watcher = FileWatcher(watched.path, limit=100, on_change=on_change, interval=2.5, sleep=sleep)
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(watcher.run())

        assert [2.5, b"content 1", 2.5, b"content 3", 2.5] == steps

    @pytest.mark.parametrize(
        ("interval", "limit", "expected"),
        [(0, 1, "interval: 0 "), (float("nan"), 1, "interval: nan"), (1, 0, "limit: 0 ")],
    )
    def test_arguments(self, interval: float, limit: int, expected: str) -> None:
        """Arguments that make no sense are refused."""
        ignore: Callable[[bytes], Awaitable[None]] = lambda _content: asyncio.sleep(0)  # noqa: E731 - the type is needed
        with pytest.raises(ConfigurationError, match=expected):
            FileWatcher("file", limit=limit, on_change=ignore, interval=interval)

    def test_representation(self) -> None:
        """A watcher says what it watches."""
        assert "<FileWatcher of file>" == repr(Watched(Path("file")).watcher)


CONTENTS = st.sampled_from([b"", b"a", b"b", b"ab", b"too long"])


class Writer(RuleBasedStateMachine):
    """Writes, renames and removes a file at random; after two looks the watcher has told the latest content."""

    folder: Path
    files = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).files += 1
        self.watched = Watched(self.folder / str(self.files), limit=2)
        self.known: object = None

    @rule(content=CONTENTS)
    def write(self, content: bytes) -> None:
        """Write in place."""
        self.watched.path.write_bytes(content)

    @rule(content=CONTENTS)
    def rename(self, content: bytes) -> None:
        """Replace by a rename."""
        other = self.watched.path.with_suffix(".new")
        other.write_bytes(content)
        other.replace(self.watched.path)

    @precondition(lambda self: self.watched.path.exists())
    @rule()
    def remove(self) -> None:
        """Remove the file."""
        self.watched.path.unlink()

    @rule()
    def glance(self) -> None:
        """Look once."""
        self._learn()

    @rule()
    def look_twice(self) -> None:
        """Look until nothing can have been missed."""
        self._learn()
        self._learn()
        content = self.watched.path.read_bytes() if self.watched.path.exists() else None
        if content is not None and len(content) <= 2:
            assert content == self.known
        assert [] == self.watched.look()

    def _learn(self) -> None:
        for each in self.watched.look():
            if isinstance(each, bytes):
                assert each != self.known
                self.known = each


def test_latest_content_is_told(tmp_path: Path) -> None:
    """Whatever happens to a file, two looks later its content is known; nothing is told twice in a row."""
    Writer.folder = tmp_path
    run_state_machine_as_test(Writer)
