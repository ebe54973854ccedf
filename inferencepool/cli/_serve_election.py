"""The replicas of ``serve``: which of several is ready, by a lease of the cluster."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, final

from inferencepool.cli._durations import duration
from inferencepool.cli._flags import add_boolean, flag_of, usage_error_of
from inferencepool.errors import ConfigurationError

if TYPE_CHECKING:
    from inferencepool.adapters.kubernetes import ElectionOptions
    from inferencepool.runtime.election import LeaderElection
    from inferencepool.runtime.health import Health
    from inferencepool.runtime.kubernetes import LightkubeTransport

__all__ = ["LEADER", "add_election_flags", "check_election_flags", "make_election_part"]

#: The condition of readiness that a leader meets.
LEADER = "leader"
_TIMES = ("lease_duration", "renew_deadline", "retry_period")


def add_election_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of leader election."""
    add = group.add_argument
    text = "be ready only while leading, by a lease in the namespace of the pool"
    add_boolean(group, "--ha-enable-leader-election", text)
    add("--ha-lease-duration", metavar="TIME", type=duration, help="others may lead after it without a renewal (15s)")
    add("--ha-renew-deadline", metavar="TIME", type=duration, help="a leader stops after it without a renewal (10s)")
    add("--ha-retry-period", metavar="TIME", type=duration, help="time between renewals (2s)")


def check_election_flags(arguments: argparse.Namespace) -> None:
    """End with a message about usage if flags of the election make no sense."""
    usage_error = usage_error_of(arguments)
    given = [name for name in _TIMES if getattr(arguments, f"ha_{name}") is not None]
    if arguments.ha_enable_leader_election:
        if arguments.pool_name is None:
            usage_error("argument --ha-enable-leader-election: needs --pool-name, after which the lease is named")
        try:
            _options(arguments)
        except ConfigurationError as error:
            usage_error(f"argument {flag_of(f'ha_{error.field}')}: {error.reason}")
    elif given:
        usage_error(f"argument {flag_of(f'ha_{given[0]}')}: is of no use without --ha-enable-leader-election")


def make_election_part(arguments: argparse.Namespace, health: Health) -> ElectionPart:
    """
    Prepare to compete for the lease of the pool, on which readiness depends.

    Raises:
        ConfigurationError: There is no cluster, or a name cannot be one.
        MissingExtraError: The extra for clusters is not installed.
    """
    from inferencepool.adapters.kubernetes import LeaseName  # noqa: PLC0415 - who serves files need not wait for it
    from inferencepool.runtime.election import LeaderElection  # noqa: PLC0415 - as above
    from inferencepool.runtime.kubernetes import LightkubeTransport, choose_namespace, load_cluster  # noqa: PLC0415 - as above

    config = load_cluster(arguments.kubeconfig, arguments.context)
    lease = LeaseName.of_pool(arguments.pool_name, choose_namespace(arguments.pool_namespace, config))
    # It has connections of its own: nothing that the watch does holds a renewal up.
    transport = LightkubeTransport(config)
    election = LeaderElection(
        transport, lease, on_change=lambda leading: health.set(LEADER, leading), options=_options(arguments)
    )
    return ElectionPart(election, transport)


@final
class ElectionPart:
    """A leader election, with its client, as a part of a server."""

    def __init__(self, election: LeaderElection, transport: LightkubeTransport) -> None:
        """Run *election* on *transport*, which is closed afterwards."""
        self._election = election
        self._transport = transport

    async def run(self) -> None:
        """Compete until the lease was given up."""
        try:
            await self._election.run()
        finally:
            await self._transport.close()

    def drain(self) -> None:
        """Give the lease up, so that another replica is ready before this one has ended."""
        self._election.drain()


def _options(arguments: argparse.Namespace) -> ElectionOptions:
    from inferencepool.adapters.kubernetes import ElectionOptions  # noqa: PLC0415 - as above

    given = {name: getattr(arguments, f"ha_{name}") for name in _TIMES}
    options = {name: seconds for name, seconds in given.items() if seconds is not None}
    seconds = options.get("lease_duration", 0.0)
    # A lease counts in whole seconds; what has a fraction is refused with the others.
    return ElectionOptions(**options | ({"lease_duration": int(seconds)} if seconds.is_integer() and seconds else {}))
