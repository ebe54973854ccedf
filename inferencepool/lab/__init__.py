"""
The laboratory: simulated fleets, model servers without models, an API server, a real Envoy, and commands on them.

It imports any other package, and none imports it.
"""

__all__ = []
