"""The cluster of ``serve``: which pool of it, and what follows it while the server runs."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, final

from inferencepool.cli._flags import flag_of, port, usage_error_of
from inferencepool.errors import ConfigurationError, InvalidDocumentError, InvalidSelectorError
from inferencepool.model import InferencePool, LabelSelector

if TYPE_CHECKING:
    from inferencepool.adapters.extproc import ExternalProcessor
    from inferencepool.runtime.health import Health
    from inferencepool.runtime.kubernetes import LightkubeTransport, PoolWatch

__all__ = ["CLUSTER_EVENTS", "add_cluster_flags", "check_cluster_flags", "follows_cluster", "make_cluster_part"]

_POOL_GROUP = "inference.networking.k8s.io"
# The name of a pool that has no object; nothing looks it up.
_UNNAMED = "endpoint-selector"
_MAX_PORTS = 8
#: The events that an API server can cause at will.
CLUSTER_EVENTS = (
    "cluster not followed",
    "cluster followed again",
    "object not read",
    "object not asked for",
    "objectives changed",
    "model rewrites changed",
    "pods listed again",
    "pool known",
    "pool gone",
    "pool not found",
    "pod without endpoint",
    "synced",
    "standing by",
    "leading",
    "no longer leading",
    "lease not reached",
    "lease makes no sense",
)


def add_cluster_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags that choose a pool of a cluster."""
    add = group.add_argument
    add("--pool-name", metavar="NAME", help="the InferencePool, followed with its pods, objectives and model rewrites")
    add("--pool-namespace", metavar="NAME", help="namespace of pool and pods (that of the environment, or default)")
    add("--pool-group", metavar="GROUP", help=f"API group of the pool ({_POOL_GROUP})")
    add("--endpoint-selector", metavar="LABELS", type=_selector, help="pods by labels, as `kubectl -l` has them")
    add("--endpoint-target-ports", metavar="PORTS", type=_ports, help="ports of these pods, separated by commas")
    add("--kubeconfig", metavar="FILE", help="how to reach the cluster (KUBECONFIG, own cluster, ~/.kube/config)")
    add("--context", metavar="NAME", help="context of the kubeconfig (its current one)")


def follows_cluster(arguments: argparse.Namespace) -> bool:
    """Tell whether the endpoints are those of a cluster."""
    return arguments.pool_name is not None or arguments.endpoint_selector is not None


def check_cluster_flags(arguments: argparse.Namespace) -> None:
    """End with a message about usage if flags of the cluster make no sense with the others."""
    usage_error = usage_error_of(arguments)
    if not follows_cluster(arguments):
        for name in ("pool_namespace", "pool_group", "kubeconfig", "context"):
            if getattr(arguments, name) is not None:
                usage_error(f"argument {flag_of(name)}: is of no use without --pool-name or --endpoint-selector")
    elif arguments.pool_group is not None and arguments.pool_name is None:
        usage_error("argument --pool-group: is of no use without --pool-name")


def make_cluster_part(arguments: argparse.Namespace, processor: ExternalProcessor, health: Health) -> ClusterPart:
    """
    Prepare to follow the pool.

    Raises:
        ConfigurationError: There is no cluster, or a name cannot be one.
        MissingExtraError: The extra for clusters is not installed.
    """
    from inferencepool.adapters.kubernetes import NamedPool  # noqa: PLC0415 - whoever serves files need not wait for it
    from inferencepool.runtime.kubernetes import (  # noqa: PLC0415 - as above
        LightkubeTransport,
        PoolWatch,
        choose_namespace,
        load_cluster,
    )

    # It has a line for each request to the API server.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    config = load_cluster(arguments.kubeconfig, arguments.context)
    namespace = choose_namespace(arguments.pool_namespace, config)
    pool: NamedPool | InferencePool
    try:
        if arguments.pool_name is not None:
            pool = NamedPool(arguments.pool_name, namespace, arguments.pool_group or _POOL_GROUP)
        else:
            pool = InferencePool(
                name=_UNNAMED,
                namespace=namespace,
                selector=arguments.endpoint_selector,
                target_ports=arguments.endpoint_target_ports,
            )
    except InvalidDocumentError as error:
        message = f"pool: namespace: {error.issues[0].reason}"
        raise ConfigurationError(message) from None
    transport = LightkubeTransport(config)
    registry = processor.picker.registry
    watch = PoolWatch(
        transport,
        registry,
        pool,
        rules=processor if arguments.pool_name is not None else None,
        on_synced=lambda synced: health.set("synced", synced),
    )
    return ClusterPart(watch, transport)


@final
class ClusterPart:
    """The watch of a pool, with its client, as a part of a server."""

    def __init__(self, watch: PoolWatch, transport: LightkubeTransport) -> None:
        """Run *watch* on *transport*, which is closed afterwards."""
        self._watch = watch
        self._transport = transport

    def state(self) -> object:
        """Tell how far the pool is known, as values of JSON."""
        watch = self._watch
        problems = {resource: failure.reason for resource, failure in watch.problems.items()}
        return {
            "synced": watch.synced,
            "pool_missing": watch.absence,
            "pods_heard_seconds_ago": round(watch.age, 3),
            "pods_without_endpoint": watch.unused_pods,
            "problems": problems,
        }

    async def run(self) -> None:
        """Follow the pool until cancelled."""
        try:
            await self._watch.run()
        finally:
            await self._transport.close()


def _selector(text: str) -> LabelSelector:
    try:
        selector = LabelSelector.parse(text)
    except InvalidSelectorError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if selector == LabelSelector():
        message = "an empty selector would choose every pod"
        raise argparse.ArgumentTypeError(message)
    return selector


def _ports(text: str) -> tuple[int, ...]:
    ports = tuple(dict.fromkeys(port()(each.strip()) for each in text.split(",")))
    if len(ports) > _MAX_PORTS:
        message = f"{text!r} has {len(ports)} ports, allowed are 1 to {_MAX_PORTS}"
        raise argparse.ArgumentTypeError(message)
    return ports
