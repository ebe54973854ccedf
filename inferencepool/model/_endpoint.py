"""One address that serves requests: a pod's IP with one of the pool's target ports."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["Endpoint", "join_host_port"]


def join_host_port(address: str, port: int) -> str:
    """Join an IP *address* and a *port* the way URLs do: IPv6 goes into brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


@attrs.frozen(kw_only=True)
class Endpoint:
    """
    One address that serves requests; a pod of a pool with two target ports has two of them.

    An endpoint that belongs to no pool, such as one from a file of endpoints, has a name of its own in place of a
    pod's, and no rank.

    Attributes:
        namespace: The pod's namespace.
        pod_name: The pod's name.
        address: The pod's IP address, IPv6 without brackets.
        port: The port number, 1 to 65535.
        rank: Index of the port in the pool's ``spec.targetPorts`` (not among the pod's active ports); None for an
            endpoint that belongs to no pool.
        labels: The pod's labels.
        node_address: IP address of the node that the pod runs on.
        other_addresses: The other IP addresses of the pod, as of a dual-stack one: they name it, and are not sent to.
        pod_uid: The pod's UID; tells a pod from a later one of the same name.
        restarts: How often the pod's containers were restarted.
        id: ``<namespace>/<pod>-rank-<rank>``; ``<namespace>/<pod>`` without a rank.
        destination: ``ip:port``, IPv6 in brackets: the value of ``x-gateway-destination-endpoint``.
    """

    namespace: str
    pod_name: str
    address: str
    port: int
    rank: int | None = 0
    labels: Mapping[str, str] = attrs.field(factory=dict, hash=False)
    node_address: str | None = None
    other_addresses: tuple[str, ...] = ()
    pod_uid: str = ""
    restarts: int = 0
    id: str = attrs.field(init=False, repr=False, eq=False)
    destination: str = attrs.field(init=False, repr=False, eq=False)

    @id.default
    def _id(self) -> str:
        name = f"{self.namespace}/{self.pod_name}"
        return name if self.rank is None else f"{name}-rank-{self.rank}"

    @destination.default
    def _destination(self) -> str:
        return join_host_port(self.address, self.port)

    def __str__(self) -> str:
        return f"{self.id} ({self.destination})"
