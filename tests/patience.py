"""How long tests wait for what must come."""

from __future__ import annotations

from typing import Final

__all__ = ["PATIENCE"]

#: Seconds after which a test that waits has failed. No test takes as long where all is well, on a busy machine either.
PATIENCE: Final = 120.0
