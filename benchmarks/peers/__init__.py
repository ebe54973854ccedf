"""Picks of other routers beside ours, each through its own public API: ``python -m benchmarks.peers``."""
