from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from inferencepool.cli import _main, main
from inferencepool.cli._serve_election import LEADER, make_election_part
from inferencepool.errors import ConfigurationError
from inferencepool.lab.apiserver import ApiServer
from inferencepool.runtime.health import Health
from tests.patience import PATIENCE

POOL = ("--pool-name", "llama")
ELECTION = (*POOL, "--ha-enable-leader-election")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("--endpoints-file", "x", "--ha-enable-leader-election"),
            "argument --ha-enable-leader-election: needs --pool-name, after which the lease is named",
        ),
        (
            (*POOL, "--ha-retry-period", "1s"),
            "argument --ha-retry-period: is of no use without --ha-enable-leader-election",
        ),
        (
            (*ELECTION, "--ha-lease-duration", "2.5s"),
            "argument --ha-lease-duration: 2.5 is not a whole number of seconds",
        ),
        ((*ELECTION, "--ha-lease-duration", "0"), "argument --ha-lease-duration: 0.0 is not a whole number of seconds"),
        (
            (*ELECTION, "--ha-lease-duration", "5s"),
            "argument --ha-renew-deadline: 10.0 is not less than lease_duration (5)",
        ),
        ((*ELECTION, "--ha-retry-period", "9s"), "argument --ha-retry-period: 9.0 leaves no time for a second try"),
        ((*POOL, "--ha-enable-leader-election=maybe"), "'maybe' is neither true nor false"),
    ],
)
def test_flags_that_make_no_sense(arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags that do not go together, or times that do not, are errors of usage that name the flag."""
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])

    assert 2 == ended.value.code
    assert told in capsys.readouterr().err


def test_part_of_a_server(tmp_path: Path) -> None:
    """The part meets the condition of readiness while it leads, and gives the lease up when it drains."""
    with ApiServer(initializing=0) as server:
        flags = [*ELECTION, "--kubeconfig", str(server.kubeconfig(tmp_path / "config"))]
        arguments = _main._parser(["serve"]).parse_args(["serve", *flags])
        health = Health((LEADER,))
        told = asyncio.Event()

        async def scenario() -> None:
            part = make_election_part(arguments, health)
            stop = health.watch("readiness", lambda _: told.set() if health.ready else None, lambda: None)
            task = asyncio.create_task(part.run())
            await asyncio.wait_for(told.wait(), PATIENCE)
            part.drain()
            assert not health.ready
            await asyncio.wait_for(task, PATIENCE)
            stop()

        asyncio.run(scenario())
        spec = server.leases.get("epp-default-llama.llm-d.ai")["spec"]

        assert ("", 0) == (spec["holderIdentity"], spec["leaseTransitions"])


def test_lease_that_cannot_be_named(tmp_path: Path) -> None:
    """A pool whose name makes a lease's too long is refused before anything is asked."""
    with ApiServer(initializing=0) as server:
        flags = ["--pool-name", "x" * 250, "--ha-enable-leader-election"]
        config = str(server.kubeconfig(tmp_path / "config"))
        arguments = _main._parser(["serve"]).parse_args(["serve", *flags, "--kubeconfig", config])
        with pytest.raises(ConfigurationError, match="at most 253 characters"):
            make_election_part(arguments, Health((LEADER,)))

        assert 0 == len(server.requests)
