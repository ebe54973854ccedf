from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import inferencepool

# The names that users are promised to find at the top.
PINNED = [
    "AppProtocol",
    "Endpoint",
    "EndpointMetrics",
    "EndpointPicker",
    "EndpointPickerRef",
    "EndpointRegistry",
    "FailureMode",
    "InferencePool",
    "InferencePoolError",
    "InferenceRequest",
    "LabelSelector",
    "NoEndpointsError",
    "PickResult",
    "Pod",
    "SchedulingProfile",
    "TargetPort",
    "WeightedScorer",
]


def _packages() -> Iterator[str]:
    yield inferencepool.__name__
    for module in pkgutil.walk_packages(inferencepool.__path__, f"{inferencepool.__name__}."):
        if module.ispkg:
            yield module.name


def _public_modules() -> Iterator[str]:
    yield from _packages()
    for module in pkgutil.iter_modules(inferencepool.__path__, f"{inferencepool.__name__}."):
        if not module.ispkg and not module.name.rpartition(".")[2].startswith("_"):
            yield module.name


def _sort_key(name: str) -> tuple[int, str]:
    """Order names as ruff orders `__all__`: constants, then classes, then the others."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def _is_import_or_all(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)] == ["__all__"]
    return isinstance(statement, ast.Import | ast.ImportFrom)


@pytest.mark.parametrize("name", PINNED)
def test_pinned_name_is_at_the_top(name: str) -> None:
    """A name that users are promised can be imported from `inferencepool`, and is listed as public."""
    assert hasattr(inferencepool, name)
    assert name in inferencepool.__all__


@pytest.mark.parametrize("module", list(_public_modules()))
def test_all_is_sorted_and_true(module: str) -> None:
    """`__all__` is sorted, names nothing twice, and names only what exists."""
    imported = importlib.import_module(module)
    names: list[str] = imported.__all__

    assert sorted(set(names), key=_sort_key) == names
    assert [] == [name for name in names if not hasattr(imported, name)]


@pytest.mark.parametrize("package", [name for name in _packages() if name != "inferencepool"])
def test_init_holds_imports_and_all_only(package: str) -> None:
    """An `__init__` module has a docstring, imports and `__all__`, and no logic; but for the one at the top."""
    path = importlib.import_module(package).__file__
    assert path is not None
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))

    assert ast.get_docstring(tree)
    assert all(_is_import_or_all(statement) for statement in tree.body[1:])


@pytest.mark.parametrize("package", list(_packages()))
def test_all_lists_every_import_of_init(package: str) -> None:
    """A package exports everything that its `__init__` module imports from inside the project."""
    imported = importlib.import_module(package)
    assert imported.__file__ is not None
    tree = ast.parse(Path(imported.__file__).read_text(encoding="utf-8"))
    names = {
        alias.asname or alias.name
        for statement in ast.walk(tree)
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith(inferencepool.__name__)
        for alias in statement.names
    }

    assert names == set(imported.__all__)


def test_names_are_loaded_when_they_are_asked_for() -> None:
    """Importing the package imports no part of it, and each of its names is the one of its home."""
    script = (
        "import sys, inferencepool\n"
        "assert not {'attrs', 'inferencepool.model', 'inferencepool.picker'} & set(sys.modules), sys.modules\n"
        "assert set(inferencepool.__all__) <= set(dir(inferencepool))\n"
        "for name in inferencepool.__all__:\n"
        "    value = getattr(inferencepool, name)\n"
        "    assert value is getattr(inferencepool, name)\n"
        "    assert name == '__version__' or value.__name__ == name, name\n"
        "try:\n"
        "    inferencepool.EndpointPickr\n"
        "except AttributeError as error:\n"
        "    print(error)\n"
    )
    completed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert ("module 'inferencepool' has no attribute 'EndpointPickr'\n", "") == (completed.stdout, completed.stderr)
