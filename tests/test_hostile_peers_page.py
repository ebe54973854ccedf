"""The page about hostile peers says what the code does."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from inferencepool.adapters.extproc import ExternalProcessor, ProcessorOptions
from inferencepool.adapters.kubernetes import ElectionOptions, ReflectorOptions, _pool_search, _served
from inferencepool.cli._main import _parser
from inferencepool.gateway import EnvoyOptions
from inferencepool.picker import EndpointPicker
from inferencepool.plugins import ApproxPrefixCacheProducer
from inferencepool.registry import EndpointRegistry, OutlierDetection, Staleness, _away
from inferencepool.runtime.exporter import CardinalityLimits
from inferencepool.runtime.extproc import extproc_limits
from inferencepool.runtime.grpc import Limits
from inferencepool.runtime.http import PageLimits
from inferencepool.runtime.kubernetes import _kubeconfig_extras, _unused_pods
from inferencepool.runtime.logs import LineLimit
from inferencepool.runtime.scraping import ScrapingOptions
from inferencepool.runtime.server import ServerOptions

PAGE = Path(__file__).resolve().parent.parent / "docs/explanation/hostile-peers.md"
COLUMNS = ("It tries", "Limit", "Default", "Flag", "What happens then")
PEERS = ("A client", "A pod", "The API server", "A gateway", "Whoever reaches the pages", "A strategy")
OWNERS: dict[str, type] = {
    owner.__name__: owner
    for owner in (
        ApproxPrefixCacheProducer,
        CardinalityLimits,
        ElectionOptions,
        EnvoyOptions,
        LineLimit,
        OutlierDetection,
        PageLimits,
        ProcessorOptions,
        ReflectorOptions,
        ScrapingOptions,
        ServerOptions,
        Staleness,
    )
}
# Of which every field is a limit, and so is on the page.
WHOLE = {"grpc.Limits": Limits, "PageLimits": PageLimits, "CardinalityLimits": CardinalityLimits}
# Limits that nobody can set, by the name that the page gives them.
FIXED = {
    "Away.KEPT_SECONDS": _away.KEPT_SECONDS,
    "Away.MOST_KEPT": _away.MOST_KEPT,
    "Kubeconfig.MOST_GROUPS": _kubeconfig_extras.MOST_GROUPS,
    "PoolSearch.MOST_BYTES": _pool_search.MOST_BYTES,
    "PoolSearch.MOST_NAMED": _pool_search.MOST_NAMED,
    "ServedResources.MOST_BYTES": _served.MOST_BYTES,
    "UnusedPods.MOST_REMEMBERED": _unused_pods.MOST_REMEMBERED,
}
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "ms": 0.001}
# As flags and their help have them.
SHORT_UNITS = {"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "s": 1, "ms": 0.001}


@attrs.frozen
class Line:
    """A line of one of the tables."""

    peer: str
    tries: str
    limit: str
    default: str
    flag: str


def lines() -> Iterator[Line]:
    """Read all tables of the page."""
    peer = ""
    for text in PAGE.read_text(encoding="utf-8").splitlines():
        if text.startswith("## "):
            peer = text.removeprefix("## ")
        elif text.startswith("|") and not text.startswith("|---"):
            cells = [cell.strip() for cell in text.strip("|").split("|")]
            assert len(COLUMNS) == len(cells), text
            if tuple(cells) != COLUMNS:
                yield Line(peer, cells[0], cells[1].strip("`"), cells[2], cells[3].strip("`"))


def default_of(limit: str) -> Any:
    """Give the default that a limit has in ``serve``."""
    owner, _, name = limit.rpartition(".")
    if limit in FIXED:
        return FIXED[limit]
    if owner == "grpc.Limits":
        return getattr(extproc_limits(ExternalProcessor(EndpointPicker(EndpointRegistry()))), name) or None
    return inspect.signature(OWNERS[owner]).parameters[name].default or None


def value_of(text: str) -> float | None:
    """Read a default as the page tells it."""
    if text == "none":
        return None
    number, _, unit = text.partition(" ")
    return float(number.replace(",", "")) * UNITS.get(unit, 1)


def flags() -> dict[str, argparse.Action]:
    """Give the flags of the commands that the page is about."""
    return {
        option: action
        for command in ("envoy-config", "serve")
        for commands in _parser([command])._actions
        if isinstance(commands, argparse._SubParsersAction)
        for action in commands.choices[command]._actions
        for option in action.option_strings
    }


def flag_default(flag: argparse.Action) -> float | None:
    """Give the default of a flag; of one that leaves it to the library, what its help tells of it."""
    if flag.default:
        return float(flag.default)
    told = re.search(r"\(([0-9.]+)([KM]i|m?s|)\)$", flag.help or "")
    return float(told[1]) * SHORT_UNITS[told[2]] if told is not None else None


LIMITED = [line for line in lines() if line.limit]


@pytest.mark.parametrize("line", LIMITED, ids=lambda line: f"{line.peer}-{line.limit}")
def test_limit_is_as_the_page_says(line: Line) -> None:
    """Each limit exists, and has the default that the page tells; its flag has the same."""
    told = value_of(line.default)

    assert default_of(line.limit) == (told if told is None else pytest.approx(told))
    if line.flag:
        assert flag_default(flags()[line.flag]) == (told if told is None else pytest.approx(told))


def test_each_peer_has_a_table() -> None:
    """No peer is left out."""
    assert dict.fromkeys(PEERS) == dict.fromkeys(line.peer for line in lines())


@pytest.mark.parametrize("owner", WHOLE)
def test_no_limit_is_left_out(owner: str) -> None:
    """A limit that is added to the code is added to the page."""
    told = {line.limit for line in LIMITED}

    assert set() == {f"{owner}.{field.name}" for field in attrs.fields(WHOLE[owner])} - told


def test_no_fixed_limit_is_left_out() -> None:
    """What is fixed is on the page, by the name of its constant, and nothing else in capitals is."""
    assert FIXED.keys() == {line.limit for line in LIMITED if line.limit.rpartition(".")[2].isupper()}


def test_all_flags_exist() -> None:
    """The page names no flag that is gone."""
    named = set(re.findall(r"`(--[a-z-]+)`", PAGE.read_text(encoding="utf-8")))

    assert named
    assert set() == named - flags().keys()
