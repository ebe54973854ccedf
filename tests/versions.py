"""
Run tests with the oldest or the newest versions of dependencies that are allowed.

``python -m tests.versions oldest`` makes an environment for each part of the tests, in ``build/versions``, with the
extras that the part is about, and runs it there. Name a part to run that alone, and give pytest more after ``--``:
``python -m tests.versions newest core -- -x``.

It needs Python and nothing else, so that it is also what runs the core's tests on another system or interpreter.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["PARTS", "Part", "lower_bounds", "main"]

_ROOT = Path(__file__).resolve().parent.parent
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_REQUIREMENT = re.compile(rf"({_NAME.pattern})(?:\[[^]]*])?([^;:@]*)(;.*)?")
_LEAST = re.compile(r">=\s*([0-9.]+)")


class Part(NamedTuple):
    """
    Tests that are run together.

    Attributes:
        extras: What is installed of the package beside the core.
        tools: Requirements of the extra ``dev``, by name, that the tests need.
        paths: The tests.
    """

    extras: tuple[str, ...]
    tools: tuple[str, ...]
    paths: tuple[str, ...]


#: What runs everywhere: on every system, and on Python without an interpreter lock. And what touches the extras.
PARTS: Final[Mapping[str, Part]] = {
    "core": Part(
        extras=(),
        tools=("coverage", "hypothesis", "jsonschema", "numpy", "pytest", "pytest-xdist", "pyyaml"),
        paths=(
            "tests/model",
            "tests/selection",
            "tests/registry",
            "tests/scheduling",
            "tests/plugins",
            "tests/prefix",
            "tests/adapters/kubernetes",
            "tests/lab/simulation",
            "tests/test_packaging.py",
            "tests/test_picker.py",
            "tests/test_picker_retries.py",
            "tests/test_threads.py",
        ),
    ),
    "extras": Part(
        extras=("demo", "epp", "kubernetes", "plot", "testing", "yaml"),
        tools=(
            *("coverage", "grpcio", "grpcio-health-checking", "hypothesis", "jsonschema", "markdown-it-py"),
            *(
                "numpy",
                "openai",
                "orjson",
                "packaging",
                "protobuf",
                "pydantic",
                "pytest",
                "pytest-xdist",
                "python-multipart",
                "starlette",
                "uvicorn",
            ),
        ),
        paths=(
            "tests/adapters",
            "tests/cli",
            "tests/deploy",
            "tests/envoy",
            "tests/gateway",
            "tests/lab",
            "tests/runtime",
            "tests/testing",
            "tests/test_gateway_example.py",
        ),
    ),
}


def lower_bounds(project: Mapping[str, Any]) -> dict[str, str]:
    """
    Give constraints for pip that allow the oldest version of every dependency alone, by the dependency's name.

    Args:
        project: The table ``project`` of ``pyproject.toml``. Its extra ``dev`` is for developers and does not count.

    Raises:
        ValueError: A dependency has no lower bound, or several.
    """
    bounds: dict[str, str] = {}
    extras = [texts for name, texts in project["optional-dependencies"].items() if name != "dev"]
    for text in [*project["dependencies"], *(text for texts in extras for text in texts)]:
        name, versions, marker = _parsed(text)
        if name == project["name"]:
            continue
        least = _LEAST.findall(versions)
        if len(least) != 1:
            message = f"{text!r} has {len(least)} lower bounds, allowed is one"
            raise ValueError(message)
        bound = f"{name}=={least[0]}{marker}"
        if bounds.setdefault(name, bound) != bound:
            message = f"{text!r} has another lower bound than {bounds[name]!r}"
            raise ValueError(message)
    return bounds


def _parsed(text: str) -> tuple[str, str, str]:
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        message = f"{text!r} is no requirement that is understood"
        raise ValueError(message)
    return match[1], match[2], match[3] or ""


def _tools(project: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Give the requirements of the extra ``dev`` that have *names*; those of the package itself go by its extras."""
    known = {_parsed(text)[0]: text for text in project["optional-dependencies"]["dev"]}
    return [known.get(name, name) for name in names]


def _install(which: str, name: str, project: Mapping[str, Any]) -> Path:
    """Make the environment of a part; give its Python."""
    part, folder = PARTS[name], _ROOT / "build" / "versions" / f"{which}-{name}"
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    bounds = lower_bounds(project)
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(bounds.values() if which == "oldest" else ()), encoding="utf-8")
    extras = f"[{','.join(part.extras)}]" if part.extras else ""
    wanted = [f"--editable={_ROOT}{extras}", *_tools(project, part.tools)]
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*pip, "install", "--quiet", "--constraint", str(constraints), *wanted], check=True)
    listed = subprocess.run([*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True).stdout
    found = [line for line in listed.split() if _parsed(line)[0].lower() in bounds]
    sys.stdout.write(f"{which} {name}: {', '.join(found)}\n")
    return python


def main(arguments: Sequence[str] | None = None) -> int:
    """Install and run; give 1 if the tests of any part fail."""
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=(__doc__ or "").strip())
    parser.add_argument("which", choices=("oldest", "newest"))
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(PARTS)} (all)")
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    chosen, more = parser.parse_args(given[:end]), given[end + 1 :]
    unknown = [name for name in chosen.parts if name not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}; allowed: {', '.join(PARTS)}")
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    failed = []
    for name in chosen.parts or PARTS:
        python = _install(chosen.which, name, project)
        tests = [str(python), "-m", "pytest", "-q", "-n", "auto", "--dist", "worksteal", *PARTS[name].paths]
        if subprocess.run([*tests, *more], cwd=_ROOT, check=False).returncode:
            failed.append(f"{chosen.which} {name}")
    sys.stdout.write(f"failed: {', '.join(failed)}\n" if failed else "all passed\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
