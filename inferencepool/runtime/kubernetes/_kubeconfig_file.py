"""The text of a kubeconfig, which holds secrets: nothing of it gets into messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from inferencepool.errors import ConfigurationError, InvalidDocumentError
from inferencepool.runtime.files import read_file

__all__ = ["MAX_KUBECONFIG", "explain", "read_kubeconfig"]

#: Bytes of a kubeconfig, at most.
MAX_KUBECONFIG: Final = 4 * 1024 * 1024
# Values of a kubeconfig after all aliases are followed, at most.
_MAX_VALUES: Final = 100_000
# Lists and objects in brackets that lie in each other, at most. YAML takes long to find out about very many.
_MAX_DEPTH: Final = 100
_BRACKET: Final = re.compile(r"[][{}]")


def read_kubeconfig(file: Path) -> Any:
    """
    Read the YAML of a kubeconfig.

    Raises:
        ConfigurationError: It is not there, is no regular file, is too long, nested too deep or says too much by its
            aliases.
        Exception: It is not YAML; `explain` tells what of it may be shown.
    """
    import yaml  # noqa: PLC0415 - comes with lightkube

    try:
        text = read_file(file, MAX_KUBECONFIG).decode()
    except InvalidDocumentError as error:
        message = error.issues[0].reason
        raise ConfigurationError(message) from None
    _check_depth(text)
    # The loader in C recurses without a limit.
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count(node, {})
        return loader.construct_document(node)
    finally:
        loader.dispose()


def explain(error: Exception) -> str:
    """Tell what kind of error it is, and where; its text only where that cannot be of the file."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        return f"{type(error).__name__}: line {mark.line + 1}, column {mark.column + 1}"
    if type(error).__module__.partition(".")[0] == "msgspec":
        # It has types and the path of the field.
        return f"{type(error).__name__}: {error}"
    return type(error).__name__


def _check_depth(text: str) -> None:
    depth = 0
    for bracket in _BRACKET.findall(text):
        depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
        if depth > _MAX_DEPTH:
            message = f"has more than {_MAX_DEPTH} lists and objects in each other"
            raise ConfigurationError(message)


def _count(node: Any, known: dict[int, int | None]) -> int:
    """Count the values that *node* comes to."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            message = "an alias stands inside what it stands for"
            raise ConfigurationError(message)
        return size
    known[id(node)] = None
    children = node.value if isinstance(node.value, list) else ()
    pairs = (each for child in children for each in (child if isinstance(child, tuple) else (child,)))
    size = 1 + sum(_count(each, known) for each in pairs)
    if size > _MAX_VALUES:
        message = f"holds more than {_MAX_VALUES} values"
        raise ConfigurationError(message)
    known[id(node)] = size
    return size
