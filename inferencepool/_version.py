"""The version. It stands here alone, where what builds the package reads it without importing anything."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
