"""A real Envoy beside this process, for demonstrations and for users' own tests; the extra ``demo`` brings one."""

from inferencepool.lab.envoy._admin import Admin
from inferencepool.lab.envoy._executable import find_envoy
from inferencepool.lab.envoy._launch import validate
from inferencepool.lab.envoy._process import EnvoyProcess

__all__ = ["Admin", "EnvoyProcess", "find_envoy", "validate"]
