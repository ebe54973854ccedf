"""The `inferencepool` command."""

from inferencepool.cli._main import main

__all__ = ["main"]
