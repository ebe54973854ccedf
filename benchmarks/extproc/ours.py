"""
Ours: the endpoint picker for a pool of as many endpoints as asked for, with everything on.

Run as ``python -m benchmarks.extproc.ours ENDPOINTS PORT PHASE``: the endpoints are 127.0.x.y:PORT, the response phase
is ``auto``, ``end`` or ``keep``, or ``usage``, which is ``keep`` with usage, or ``rewrite``, which is ``keep`` with a
rewrite of the model. Prints its port.
"""

from __future__ import annotations

import asyncio
import sys
from random import Random

from benchmarks.extproc.traffic import MODEL, SERVED_MODEL
from benchmarks.fleets import random_metrics
from inferencepool import EndpointPicker, EndpointRegistry, InferencePool, Pod
from inferencepool.adapters.extproc import ExternalProcessor, ProcessorOptions, ResponsePhase
from inferencepool.model import InferenceModelRewrite
from inferencepool.runtime.extproc import extproc_routes, fastest_loads
from inferencepool.runtime.grpc import GrpcServer

__all__ = ["address"]

_PHASES = {"auto": ResponsePhase.AUTO, "end": ResponsePhase.END}


def address(index: int) -> str:
    """Give the loopback address of an endpoint."""
    return f"127.0.{index // 250}.{index % 250 + 1}"


def _rewrite() -> InferenceModelRewrite:
    """Have servers asked for the model that the upstream's events name."""
    return InferenceModelRewrite.from_dict(
        {
            "apiVersion": "inference.networking.x-k8s.io/v1alpha2",
            "kind": "InferenceModelRewrite",
            "metadata": {"name": "rewrite", "namespace": "default"},
            "spec": {
                "poolRef": {"name": "pool"},
                "rules": [
                    {"matches": [{"model": {"value": MODEL}}], "targets": [{"modelRewrite": SERVED_MODEL}]},
                ],
            },
        }
    )


async def _serve(endpoints: int, port: int, phase: str) -> None:
    rng = Random(endpoints)
    registry = EndpointRegistry(InferencePool(name="pool", selector={"app": "llama"}, target_ports=[port]))
    registry.resync(
        Pod(name=f"pod-{index}", ip=address(index), labels={"app": "llama"}, ready=True) for index in range(endpoints)
    )
    for endpoint in registry.endpoints():
        registry.observe_metrics(endpoint.id, random_metrics(rng))
    processor = ExternalProcessor(
        EndpointPicker(registry),
        options=ProcessorOptions(response_phase=_PHASES.get(phase, ResponsePhase.KEEP), usage=phase == "usage"),
        rewrites=[_rewrite()] if phase == "rewrite" else [],
        loads=fastest_loads(),
    )
    server = GrpcServer(extproc_routes(processor))
    await server.start("127.0.0.1", 0)
    print(server.port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
