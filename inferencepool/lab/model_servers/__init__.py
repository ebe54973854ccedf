"""Model servers without models, for demonstrations and for users' own tests; needs the extra ``demo``."""

from inferencepool.lab.model_servers._engine import Engine, EngineLoad, EngineRequest
from inferencepool.lab.model_servers._options import SimulatorOptions
from inferencepool.lab.model_servers._received import ReceivedRequest
from inferencepool.lab.model_servers._server import ModelServerSimulator

__all__ = ["Engine", "EngineLoad", "EngineRequest", "ModelServerSimulator", "ReceivedRequest", "SimulatorOptions"]
