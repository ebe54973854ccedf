from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inferencepool.cli import main
from inferencepool.lab.commands._progress import ProgressBar
from inferencepool.lab.simulation import PROFILES, WORKLOADS, parse_profile, parse_workload, read_trace, simulate
from inferencepool.plugins import CATALOG
from tests.patience import PATIENCE

SHORT = ("--endpoints", "2", "--rate", "10", "--duration", "5s")


class Terminal(io.StringIO):
    """Standard error that says it is a terminal."""

    def isatty(self) -> bool:
        """Claim it."""
        return True


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """Run the command; give what it prints as JSON."""
    assert 0 == main(["simulate", "--output", "json", *arguments])
    captured = capsys.readouterr()
    assert not captured.err
    document: dict[str, Any] = json.loads(captured.out)
    return document


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command, which must not understand its arguments; give the error."""
    with pytest.raises(SystemExit) as caught:
        main(["simulate", *arguments])
    assert 2 == caught.value.code
    return capsys.readouterr().err.split("error: ", 1)[1].rstrip()


class TestResults:
    def test_text_tells_times_caches_and_load_of_every_profile(self, capsys: pytest.CaptureFixture[str]) -> None:
        """By default three profiles are compared, each with a line in each table."""
        assert 0 == main(["simulate", *SHORT])
        captured = capsys.readouterr()

        lines = captured.out.splitlines()
        assert lines[0].startswith("shared-prompts: ")
        assert lines[0].endswith(" a second), 2 endpoints, seed 0")
        for name in ("default", "least-request", "random"):
            assert 3 == sum(line.startswith(f"  {name} ") for line in lines)
        assert not captured.err

    def test_json_is_what_the_library_finds(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The command gives what `simulate` gives for the same workload, profile and seed."""
        document = run_json(
            capsys, "--workload", "chats(turns=3)", "--rate", "20", "--duration", "5s", "--seed", "7",
            "--profile", "mine=2*queue-scorer + random-picker",
        )  # fmt: skip
        arrivals = parse_workload("chats(turns=3)").arrivals(rate=20, duration=5, seed=7)
        expected = simulate(arrivals, parse_profile("2*queue-scorer + random-picker"), name="mine", seed=7)

        assert [expected.to_dict()] == document["profiles"]
        assert ("chats(turns=3)", expected.requests, 5.0, 8, 7) == tuple(
            document[key] for key in ("workload", "requests", "seconds", "endpoints", "seed")
        )

    def test_the_rate_is_what_suits_workload_and_endpoints(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Without a rate, each endpoint gets what the workload says it serves with ease."""
        document = run_json(capsys, "--endpoints", "4", "--duration", "50s", "--profile", "random")

        assert 0.9 < document["requests"] / (4 * 10 * 50) < 1.1

    def test_options_of_fleet_and_engine_count(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Changes of the fleet, and what an engine is like, show in the result."""
        slow, changed = (
            run_json(capsys, *SHORT, "--profile", "round-robin", *more)["profiles"][0]
            for more in (
                ("--decode-tokens-per-second", "10", "--no-prefix-cache", "--no-reserve"),
                ("--change", "2s:join:1", "--change", "3s:leave:0", "--change", "1s:speed:1:0.5"),
            )
        )

        assert 0 == slow["hit_rate"]
        assert slow["end_to_end"]["mean"] > 2 * changed["end_to_end"]["mean"]
        assert ["server-0", "server-1", "server-2"] == [endpoint["name"] for endpoint in changed["endpoints"]]

    def test_failed_requests_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What failed at servers that are ill is counted below the tables, with what went wrong."""
        ill = ("--endpoints", "2", "--change", "1s:fault:0:500", "--change", "2s:fault:1:dead", "--retries", "1")
        given = (
            "--profile",
            "random",
            "--rate",
            "20",
            "--duration",
            "4s",
            "--timeout",
            "30s",
            "--no-outlier-detection",
        )
        assert 0 == main(["simulate", *given, *ill])
        lines = capsys.readouterr().out.splitlines()
        told = {line.rpartition(": ")[2] for line in lines if " failed: " in line}

        assert {"500", "connect-failure"} <= told
        assert all(line.startswith("  random: ") for line in lines if " failed: " in line)

    def test_rejected_requests_are_told(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What was rejected is counted below the tables, with the reason."""
        assert 0 == main(["simulate", *SHORT, "--kv-blocks", "10", "--profile", "random"])
        lines = capsys.readouterr().out.splitlines()

        assert lines[-1].startswith("  random: ")
        assert lines[-1].endswith(" rejected: refused-by-engine")

    def test_no_requests_give_a_result_of_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A workload without time has no requests, and the result says so."""
        assert 0 == run_json(capsys, "--duration", "0s")["requests"]


class TestTraces:
    def test_a_workload_that_was_saved_can_be_replayed(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """The trace of a workload gives the same result as the workload."""
        file = str(tmp_path / "trace.jsonl")
        fleet = ("--endpoints", "2", "--profile", "default", "--seed", "3")
        saved = run_json(capsys, "--rate", "10", "--duration", "5s", "--save-trace", file, *fleet)
        replayed = run_json(capsys, "--trace", file, *fleet)

        assert saved["profiles"] == replayed["profiles"]
        assert (file, saved["requests"]) == (replayed["workload"], replayed["requests"])

    def test_a_trace_may_come_from_standard_input(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A dash stands for standard input."""
        text = b'{"at": 0, "prompt": "Hello", "output_tokens": 3}\n{"at": 2, "prompt": 5, "output_tokens": 1}'
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
        document = run_json(capsys, "--trace", "-")

        assert ("standard input", 2, 2.0) == (document["workload"], document["requests"], document["seconds"])

    def test_every_error_of_a_trace_is_a_line(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """A trace with errors is refused with status 1 and a line for each, with field, value and what is allowed."""
        file = tmp_path / "trace.jsonl"
        file.write_text('{"at": 0, "prompt": 5, "output_tokens": 0}\n{"at": "x"}\n', encoding="utf-8")

        assert 1 == main(["simulate", "--trace", str(file)])
        assert [
            f"inferencepool: {file}: line 1: output_tokens: 0 is not a whole number from 1 to 2147483647",
            f"inferencepool: {file}: line 2: at: 'x' is not a number of seconds of 0 or more",
        ] == capsys.readouterr().err.splitlines()

    def test_a_file_that_is_no_text_is_refused(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """A line that is not UTF-8 is named."""
        file = tmp_path / "trace.jsonl"
        file.write_bytes(b'{"at": 0, "prompt": 5, "output_tokens": 1}\n\xff\n')

        assert 1 == main(["simulate", "--trace", str(file)])
        assert f"inferencepool: {file}: line 2: not UTF-8 text: byte 0xff at offset 0\n" == capsys.readouterr().err

    @pytest.mark.parametrize(("name", "reason"), [("none", "no such file"), (".", "is a directory, not a file")])
    def test_a_file_that_cannot_be_read_is_refused(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, reason: str
    ) -> None:
        """A file that is not there, or is none, is refused with status 1."""
        assert 1 == main(["simulate", "--trace", str(tmp_path / name)])
        assert capsys.readouterr().err.endswith(f"{reason}\n")

    def test_a_trace_that_cannot_be_written_is_an_error(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """A trace is not lost without a word."""
        assert 1 == main(["simulate", *SHORT, "--save-trace", str(tmp_path)])
        assert "Is a directory" in capsys.readouterr().err

    def test_what_was_saved_is_a_trace(self, tmp_path: Path) -> None:
        """The file that is saved can be read by the library."""
        file = tmp_path / "trace.jsonl"
        assert 0 == main(["simulate", *SHORT, "--save-trace", str(file)])

        assert len(read_trace(file.read_text(encoding="utf-8").splitlines())) > 20


class TestPlots:
    def test_a_plot_is_drawn_beside_the_text(self, tmp_path: Path) -> None:
        """The picture is written to the file that was named."""
        file = tmp_path / "result.svg"

        assert 0 == main(["simulate", *SHORT, "--plot", str(file)])
        assert "<svg" in file.read_text(encoding="utf-8")

    def test_without_matplotlib_nothing_is_simulated_in_vain(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Where the extra is missing, the command says so before it begins."""
        monkeypatch.setitem(sys.modules, "matplotlib", None)

        assert 1 == main(["simulate", *SHORT, "--plot", str(tmp_path / "result.svg")])
        captured = capsys.readouterr()
        assert 'inferencepool: plots need matplotlib: pip install "inferencepool[plot]"\n' == captured.err
        assert not captured.out


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--workload", "chat"], "argument --workload: workload 'chat': 'chat' is no known workload, allowed are "),
            (["--workload", "chats", "--trace", "f"], "argument --trace: not allowed with argument --workload"),
            (["--trace", "f", "--rate", "3"], "argument --trace: the file says when requests come; "),
            (["--trace", "f", "--duration", "3"], "argument --trace: the file says when requests come; "),
            (["--rate", "0"], "argument --rate: '0' is not a finite number above 0"),
            (["--rate", "nan"], "argument --rate: 'nan' is not a finite number above 0"),
            (["--rate", "x"], "argument --rate: 'x' is not a finite number above 0"),
            (["--seed", "-1"], "argument --seed: '-1' is not a whole number from 0 to 999999999"),
            (["--duration", "x"], "argument --duration: 'x' is not a duration such as "),
            (["--profile", "fastest"], "argument --profile: profile 'fastest': "),
            (["--profile", "a=fastest"], "argument --profile: profile 'fastest': "),
            (
                ["--profile", "random", "--profile", "random"],
                "argument --profile: 'random' is given twice; tell them apart with NAME=PROFILE",
            ),
            (["--endpoints", "0"], "simulation: endpoints: 0 is not a whole number from 1 to 100000"),
            (["--kv-blocks", "0"], "engine options: kv_blocks: 0 is not a whole number from 1 to 2147483647"),
            (["--kv-blocks", "x"], "argument --kv-blocks: invalid int value: 'x'"),
            (["--change", "3s:grow:1"], "argument --change: '3s:grow:1' is not TIME:join:COUNT, TIME:leave:NUMBER, "),
            (["--change", "3s:join:0"], "argument --change: join: count: 0 is not a whole number from 1 to 100000"),
            (["--change", "x:join:1"], "argument --change: 'x' is not a duration such as "),
            (["--change", "1s:speed:0:0"], "argument --change: '0' is not a finite number above 0"),
            (["--change", "1s:leave:8"], "simulation: changes: 8 is not the number of an endpoint at 1 s, 0 to 7"),
            (["--scrape-delay", "1s"], "simulation: scrape_delay: 1.0 is not less than scrape_interval, 0.05"),
            (["--plot", "result.gif"], "plot: file: 'result.gif' has none of the endings .pdf, .png, .svg"),
            (["--plot", "missing/a.svg"], "plot: file: 'missing/a.svg' is in no directory that exists"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
    ) -> None:
        """Arguments that make no sense are refused with status 2; the error names the argument and what is allowed."""
        assert usage_error(capsys, *arguments).startswith(message)

    def test_a_file_that_cannot_be_written_is_named(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        """The error tells which file, and why."""
        file = tmp_path / "missing" / "trace.jsonl"
        assert 1 == main(["simulate", *SHORT, "--save-trace", str(file)])
        assert f"inferencepool: {file}: No such file or directory\n" == capsys.readouterr().err

    def test_a_profile_with_parameters_needs_no_name(self, capsys: pytest.CaptureFixture[str]) -> None:
        """An equals sign in parentheses does not make a name, and spaces around a name do not count."""
        names = ("load-aware-scorer(threshold=9)", " mine = random")
        document = run_json(capsys, *SHORT, "--profile", names[0], "--profile", names[1])

        assert [names[0], "mine"] == [profile["profile"] for profile in document["profiles"]]

    def test_help_teaches_what_may_be_named(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The help lists every workload with its parameters, every profile and every strategy."""
        with pytest.raises(SystemExit):
            main(["simulate", "--help"])
        text = capsys.readouterr().out

        for name in (*WORKLOADS, *PROFILES, *CATALOG, "turns=6", "same_prompt=true"):
            assert name in text


class TestProgress:
    def test_a_terminal_sees_how_far_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """On a terminal one line is drawn, and wiped at the end."""
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        with ProgressBar(10) as bar:
            bar.tell(5, "random")
            bar.tell(6, "too soon after the one before")

        drawn, wiped, last = terminal.getvalue().split("\r")[1:]
        assert f"[{'#' * 15}{'.' * 15}]  50% random" == drawn
        assert ("", "", len(drawn)) == (wiped.strip(), last, len(wiped))

    def test_elsewhere_nothing_is_written(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where standard error is no terminal, nothing is written to it."""
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        with ProgressBar(10) as bar:
            bar.tell(5, "random")

        assert not stream.getvalue()


@pytest.mark.parametrize("workload", ["chats", "lora-mix"])
def test_the_result_does_not_depend_on_the_process(workload: str, root: Path) -> None:
    """Two processes that hash texts differently print the same result."""
    command = ["simulate", "--workload", workload, "--duration", "10s", "--output", "json"]
    profiles = ["--profile", "default", "--profile", "lora-affinity-scorer + session-affinity-scorer"]
    printed = [
        subprocess.run(
            [sys.executable, "-m", "inferencepool", *command, *profiles],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        ).stdout
        for seed in ("1", "2")
    ]

    assert printed[0] == printed[1]
