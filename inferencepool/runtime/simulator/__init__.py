"""Model servers without models, for demonstrations and for users' own tests; needs the extra ``demo``."""

from inferencepool.runtime.simulator._engine import Engine, EngineLoad, EngineRequest
from inferencepool.runtime.simulator._options import SimulatorOptions
from inferencepool.runtime.simulator._received import ReceivedRequest
from inferencepool.runtime.simulator._server import ModelServerSimulator

__all__ = ["Engine", "EngineLoad", "EngineRequest", "ModelServerSimulator", "ReceivedRequest", "SimulatorOptions"]
