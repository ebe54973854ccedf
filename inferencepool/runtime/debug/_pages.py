"""`DebugPages`: who may see what is known, and under which path."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, final
from urllib.parse import urlsplit

import attrs

from inferencepool.picker import EndpointPicker
from inferencepool.runtime.debug._decisions import DecisionLog
from inferencepool.runtime.debug._html import POLICY
from inferencepool.runtime.debug._state import decision_to_dict, state_of
from inferencepool.runtime.debug._views import show_decision, show_overview
from inferencepool.runtime.http import Page, PageHandler, PageRequest

__all__ = ["DebugPages"]

_PREFIX: Final = "/debug/"
# What is shown is of this moment, and for nobody else's page.
_HEADERS: Final = (
    ("cache-control", "no-store"),
    ("content-security-policy", POLICY),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
)
_LONGEST_REFRESH: Final = 3600


@final
class DebugPages:
    """
    The pages below ``/debug/``: what a picker knows, and why it decided as it did.

    They show addresses of endpoints, ids and paths of requests, names of headers and the length of prompts; never a
    prompt, and of most headers no value. Nobody is asked who they are: so they are shown only where the connection came
    in at a loopback address, as that of ``kubectl port-forward`` does, unless *remote* is set.

    Thread-safe; it has no state of its own.
    """

    def __init__(
        self,
        picker: EndpointPicker,
        decisions: DecisionLog,
        *,
        statistics: Mapping[str, Callable[[], object]] | None = None,
        remote: bool = False,
    ) -> None:
        """
        Show what *picker* knows.

        Args:
            picker: Whose state is shown.
            decisions: The latest decisions of that picker: its observer, or one of them.
            statistics: What else is shown, by name: functions that give values, such as a ``statistics`` method. They
                are called in another thread than the event loop's.
            remote: Whether connections from other machines are answered, too.
        """
        self._picker = picker
        self._decisions = decisions
        self._statistics = dict(statistics or {})
        self._remote = remote

    def pages(self) -> dict[str, PageHandler]:
        """Give the pages by path, for a `PageServer`."""
        return {_PREFIX: self._show}

    def _show(self, request: PageRequest) -> Page:
        if not self._remote and not _is_local(request):
            return Page.text(403, "these pages are shown to connections from this machine alone")
        page = self._make(request.path.removeprefix(_PREFIX))
        return attrs.evolve(page, headers=(*_HEADERS, *_refresh(request.query.get("refresh", ""))))

    def _make(self, name: str) -> Page:
        log = self._decisions
        if not name:
            return _html(show_overview(self._state(), log.decisions(), log.refusals()))
        if name == "state.json":
            return _json(self._state())
        if name == "decisions.json":
            kinds = {"decisions": log.decisions(), "refusals": log.refusals()}
            return _json({kind: [decision_to_dict(each) for each in found] for kind, found in kinds.items()})
        number = name.removeprefix("decisions/")
        for decision in (*log.decisions(), *log.refusals()):
            if str(decision.number) == number:
                return _html(show_decision(decision))
        return Page.text(404, "there is no such page, or the decision is kept no longer")

    def _state(self) -> dict[str, Any]:
        return state_of(self._picker, self._statistics)


def _html(body: bytes) -> Page:
    return Page(body, "text/html; charset=utf-8")


def _json(value: Any) -> Page:
    return Page(json.dumps(value, indent=1).encode(), "application/json")


def _refresh(seconds: str) -> tuple[tuple[str, str], ...]:
    """Have a browser ask again after so many *seconds*, if that is a number."""
    is_number = seconds.isascii() and seconds.isdecimal() and len(seconds) <= len(str(_LONGEST_REFRESH))
    return (("refresh", str(int(seconds))),) if is_number and int(seconds) else ()


def _is_local(request: PageRequest) -> bool:
    """
    Tell whether the connection came in at a loopback address, and the client meant to talk to this machine.

    The second is for browsers: a page from elsewhere whose name suddenly means 127.0.0.1 is let into here by the
    browser, but asks for the name.
    """
    try:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    except ValueError:
        return False
    return _is_loopback(request.local_address) and (host == "localhost" or _is_loopback(host))


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
