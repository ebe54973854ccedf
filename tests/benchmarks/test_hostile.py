"""The attacks of the benchmark ``hostile`` are what they say they are, and its limits count."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest

from benchmarks.hostile.bodies import Bodies, honest_chat
from benchmarks.hostile.cases import CASES
from benchmarks.hostile.frames import body_message, grpc_message, headers_message
from benchmarks.hostile.measuring import Outcome
from benchmarks.hostile.pages import PAGE_SIZE, PAGES, Pages
from benchmarks.hostile.probe import Probe
from inferencepool.adapters.bodies import BodyParsers
from inferencepool.adapters.exposition import ENGINES, PageReader
from inferencepool.adapters.extproc import RequestBody, RequestHeaders, decode
from tests.patience import PATIENCE

BODIES = {name: case.attack for name, case in CASES.items() if isinstance(case.attack, Bodies)}
SMALL = 4000
OUTCOME = Outcome(
    case=attrs.evolve(CASES["empty parts"], lines=200),
    calm=0.01,
    calm_failed=0,
    beside=0.05,
    chats=100,
    failed=0,
    locked_out=0,
    step=0.02,
    step_name="",
    before=100,
    most=200,
    later=130,
    lines=0,
    counted="",
)


class TestBodies:
    @pytest.mark.parametrize("name", BODIES)
    def test_body_is_one_that_is_read(self, name: str) -> None:
        """Each body is JSON of about its size, which a parser reads: nobody refuses it for another reason."""
        attack = BODIES[name]
        body = attrs.evolve(attack, size=SMALL).body()

        assert SMALL - 200 < len(body) <= SMALL
        assert json.loads(body)["model"] in {"llama", "llama-base"}
        assert BodyParsers().parse({":path": attack.path}, body).model == json.loads(body)["model"]

    def test_honest_chats_differ(self) -> None:
        """The others send what clients send."""
        assert json.loads(honest_chat(1))["messages"] != json.loads(honest_chat(2))["messages"]


class TestPages:
    @pytest.mark.parametrize("kind", PAGES)
    def test_page_is_as_long_as_it_may_be(self, kind: str) -> None:
        """Each page is read without an error, is no longer than allowed, and is another one each time."""
        pages = Pages(kind).pages()

        assert all(0.95 * PAGE_SIZE < len(page) <= PAGE_SIZE for page in pages)
        assert len(pages) == len(set(pages))
        assert PageReader(ENGINES["vllm"]).read(pages[0]).waiting_queue_size >= 100_000


class TestFrames:
    def test_messages_are_ext_proc(self) -> None:
        """The picker reads what the clients write."""
        headers = decode(headers_message(last=True))
        body = decode(body_message(b"abc"))

        assert isinstance(headers, RequestHeaders)
        assert "/v1/chat/completions" == headers.headers[":path"]
        assert isinstance(body, RequestBody)
        assert b"abc" == body.body

    def test_bomb_unpacks(self) -> None:
        """A compressed message is a thousandth of what it holds."""
        message = grpc_message(body_message(b" " * (1 << 20)), compressed=True)

        assert len(message) < (1 << 20) / 500
        assert body_message(b" " * (1 << 20)) == gzip.decompress(message[5:])


class TestOutcome:
    @pytest.mark.parametrize(
        ("change", "missed"),
        [
            ({}, []),
            ({"beside": 0.051}, ["p99"]),
            ({"failed": 1}, ["failed"]),
            ({"locked_out": 1}, ["locked out"]),
            ({"step": 0.026}, ["step"]),
            ({"most": 101 + 4 * 16_800_000}, ["most"]),
            ({"later": 131}, ["later"]),
            ({"lines": 201}, ["lines"]),
            ({"case": CASES["descriptor limit"], "locked_out": 1}, []),
        ],
    )
    def test_each_limit_counts(self, change: dict[str, Any], missed: list[str]) -> None:
        """What is beyond a limit is named, and makes the line of the table a miss."""
        outcome = attrs.evolve(OUTCOME, **change)

        assert missed == outcome.missed()
        assert outcome.row().met is not bool(missed)


def test_probe_notes_the_longest_step(tmp_path: Path) -> None:
    """Another process reads how long a step took, and which it was."""
    file = tmp_path / "probe"
    probe = Probe.create(file)
    program = (
        "import asyncio, sys, pathlib, time\n"
        "from benchmarks.hostile.probe import Probe\n"
        "Probe(pathlib.Path(sys.argv[1])).install()\n"
        "async def busy():\n"
        "    until = time.thread_time() + 0.02\n"
        "    while time.thread_time() < until: pass\n"
        "    await asyncio.sleep(0)\n"
        "asyncio.run(busy())\n"
    )
    subprocess.run([sys.executable, "-c", program, str(file)], check=True, timeout=PATIENCE)
    step, name = probe.read(os.getpid())

    assert 0.02 <= step
    assert "busy" == name
    probe.reset()
    assert 0 == probe.read(os.getpid())[0]


def test_probe_tells_a_step_that_is_not_over(tmp_path: Path) -> None:
    """A step counts while it lasts, too."""
    probe = Probe.create(tmp_path / "probe")
    program = (
        "import asyncio, sys, pathlib, time\n"
        "from benchmarks.hostile.probe import Probe\n"
        "Probe(pathlib.Path(sys.argv[1])).install()\n"
        "async def busy():\n"
        "    until = time.thread_time() + 0.05\n"
        "    while time.thread_time() < until: pass\n"
        "    print(flush=True)\n"
        "    sys.stdin.read()\n"
        "asyncio.run(busy())\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "probe")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        step, name = probe.read(process.pid)
        process.communicate(timeout=PATIENCE)

    assert 0.02 <= step
    assert "not over" == name
