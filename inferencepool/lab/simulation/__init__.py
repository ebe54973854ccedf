"""Requests, engines and their caches by a simulated clock, and a real picker in front of them."""

from inferencepool.lab.simulation._arrival import DEFAULT_MODEL, Arrival
from inferencepool.lab.simulation._bursts import Bursts
from inferencepool.lab.simulation._chats import Chats
from inferencepool.lab.simulation._engine import EngineOptions, SimulatedEngine
from inferencepool.lab.simulation._grouped import LongDocuments, LoraMix, SharedPrompts, ZipfPrompts
from inferencepool.lab.simulation._options import (
    EndpointLeaves,
    EndpointsJoin,
    FaultChanges,
    FleetChange,
    SimulationOptions,
    SpeedChanges,
)
from inferencepool.lab.simulation._profiles import PROFILES, parse_profile
from inferencepool.lab.simulation._prompt import BYTES_PER_TOKEN, Prompt
from inferencepool.lab.simulation._queue import EngineRequest
from inferencepool.lab.simulation._results import Distribution, EndpointResult, SimulationResult
from inferencepool.lab.simulation._simulation import Gateway, ProfileFactory, Progress, compare, simulate
from inferencepool.lab.simulation._trace import read_trace, write_trace
from inferencepool.lab.simulation._workloads import WORKLOADS, Workload, parse_workload

__all__ = [
    "BYTES_PER_TOKEN",
    "DEFAULT_MODEL",
    "PROFILES",
    "WORKLOADS",
    "Arrival",
    "Bursts",
    "Chats",
    "Distribution",
    "EndpointLeaves",
    "EndpointResult",
    "EndpointsJoin",
    "EngineOptions",
    "EngineRequest",
    "FaultChanges",
    "FleetChange",
    "Gateway",
    "LongDocuments",
    "LoraMix",
    "ProfileFactory",
    "Progress",
    "Prompt",
    "SharedPrompts",
    "SimulatedEngine",
    "SimulationOptions",
    "SimulationResult",
    "SpeedChanges",
    "Workload",
    "ZipfPrompts",
    "compare",
    "parse_profile",
    "parse_workload",
    "read_trace",
    "simulate",
    "write_trace",
]
