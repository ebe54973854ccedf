"""Run the command with ``python -m inferencepool``."""

from __future__ import annotations

import sys

from inferencepool.cli import main

if __name__ == "__main__":
    sys.exit(main())
