"""
Hide modules from every interpreter that has this folder on its path: those that `ABSENT_MODULES` names.

To a program they are not installed. `tests.pages` runs pages of the documentation so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_ABSENT = frozenset(os.environ.get("ABSENT_MODULES", "").split())


class _Installed:
    """Finds what `PathFinder` finds, less what is absent."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in _ABSENT else PathFinder.find_spec(name, path, target)

    find_distributions = PathFinder.find_distributions
    invalidate_caches = PathFinder.invalidate_caches


sys.meta_path[sys.meta_path.index(PathFinder)] = _Installed
