"""From what is known to pages that show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from inferencepool.runtime.debug._decisions import RecordedDecision
from inferencepool.runtime.debug._html import Cell, Markup, document, facts, heading, link, meter, note, table

__all__ = ["show_decision", "show_overview"]

# More rows would take a browser seconds; all of them are in the JSON.
_ROWS: Final = 1000


def show_overview(
    state: Mapping[str, Any], decisions: Sequence[RecordedDecision], refusals: Sequence[RecordedDecision]
) -> bytes:
    """Show what is known at the moment, and the latest decisions."""
    pool = state["pool"]
    title = f"Endpoint picker of {pool['namespace']}/{pool['name']}" if pool else "Endpoint picker"
    return document(
        title,
        note(
            f"Snapshot {state['generation']}, {_now()}. As JSON: ",
            link("state.json", "the state"),
            ", ",
            link("decisions.json", "the decisions"),
            ". ",
            link("?refresh=2", "Refresh every 2 seconds"),
            ".",
        ),
        *_endpoints(state["endpoints"]),
        heading("Latest decisions"),
        _decisions(decisions) if decisions else note("None yet."),
        heading("Latest requests that got no endpoint"),
        _refusals(refusals) if refusals else note("None."),
        heading("Profile"),
        _profile(state["profile"]),
        heading("Pool"),
        facts(_flat(pool)) if pool else note("There is none: the endpoints were given as a list."),
        heading("Statistics"),
        facts(_flat(state["statistics"])),
    )


def show_decision(decision: RecordedDecision) -> bytes:
    """Show one decision, with its explanation."""
    tokens = f", {decision.prompt_tokens} tokens" if decision.prompt_tokens is not None else ""
    parts = [
        note(link("../", "Overview")),
        facts(
            [
                ("time", _time(decision.at)),
                ("destination", decision.destination or "none"),
                ("fallbacks", ", ".join(decision.fallbacks) or None),
                ("took", f"{decision.seconds * 1e6:.0f} µs" if decision.destination else None),
                ("error", decision.error or None),
                ("request id", decision.request_id),
                ("path", decision.path),
                ("model", decision.model),
                ("fairness id", decision.fairness_id),
                ("priority", str(decision.priority)),
                ("prompt", f"{decision.prompt_bytes} bytes{tokens}"),
                ("stream", "yes" if decision.stream else "no"),
            ]
        ),
        *_explanation(decision),
        heading("Request headers"),
        facts(decision.headers.items()),
    ]
    return document(f"Decision {decision.number}", *parts)


def _endpoints(endpoints: Sequence[Mapping[str, Any]]) -> Iterator[Markup]:
    yield heading(f"Endpoints: {len(endpoints)}")
    if not endpoints:
        yield note("There are none, so every request is refused.")
        return
    shown = endpoints[:_ROWS]
    yield table(
        (
            *("endpoint", "destination", "waiting", "running", "KV cache", "age, s", "pending", "in flight"),
            *("adapters", "ejected"),
        ),
        [
            (
                item["endpoint"],
                item["destination"],
                item["waiting"],
                item["running"],
                meter(item["kv_cache_usage"]),
                "never observed" if item["age_seconds"] is None else item["age_seconds"],
                item["pending"],
                item["in_flight"],
                ", ".join(item["active_models"] + [f"{name} (waiting)" for name in item["waiting_models"]]),
                "; ".join(map(_ejection, item["ejections"])),
            )
            for item in shown
        ],
        # An endpoint that is ejected for one model serves the others.
        marked={index for index, item in enumerate(shown) if any(each["model"] is None for each in item["ejections"])},
    )
    ejected = sum(bool(item["ejections"]) for item in endpoints)
    if ejected:
        yield note(
            f"{ejected} are ejected, for all models or for one: they get requests only where no other is left, and "
            "from time to time one that probes them."
        )
    if len(endpoints) > _ROWS:
        yield note(f"{len(endpoints) - _ROWS} more are in ", link("state.json", "the state"), ".")
    yield note("Pending are picks that the metrics do not show yet; in flight are those that were not released yet.")


def _ejection(item: Mapping[str, Any]) -> str:
    """Tell why an endpoint is ejected, since when and until when."""
    model = f" for model {item['model']}" if item["model"] is not None else ""
    detail = f" ({item['detail']})" if item["detail"] else ""
    probe = f"probed in {item['probe_in_seconds']:.1f} s" if item["probe_in_seconds"] else "probed by the next request"
    return f"{item['reason']}{model}{detail}, since {item['since_seconds']:.1f} s, {probe}"


def _decisions(decisions: Sequence[RecordedDecision]) -> Markup:
    return table(
        ("", "time", "request", "model", "destination", "score", "candidates", "rejected", "µs"),
        [
            (
                link(f"decisions/{each.number}", f"why? {each.number}"),
                _time(each.at),
                each.request_id,
                each.model,
                each.destination,
                each.explanation.picked.total if each.explanation is not None else None,
                each.candidates,
                each.rejected,
                round(each.seconds * 1e6),
            )
            for each in decisions
        ],
    )


def _refusals(refusals: Sequence[RecordedDecision]) -> Markup:
    return table(
        ("", "time", "request", "model", "reason"),
        [
            (
                link(f"decisions/{each.number}", str(each.number)),
                _time(each.at),
                each.request_id,
                each.model,
                each.error,
            )
            for each in refusals
        ],
    )


def _profile(profile: Mapping[str, Any]) -> Markup:
    strategies = [("filter", item["name"], item["kind"], "") for item in profile["filters"]]
    strategies += [("scorer", item["name"], item["kind"], f"{item['weight']:g}") for item in profile["scorers"]]
    strategies.append(("picker", profile["picker"], "", ""))
    return table((f"profile {profile['name']}", "strategy", "kind", "weight"), strategies)


def _explanation(decision: RecordedDecision) -> Iterator[Markup]:
    explanation = decision.explanation
    if explanation is None:
        return
    yield heading("Candidates")
    yield note(
        f"{decision.candidates} candidates in snapshot {explanation.generation}; profile {explanation.profile}. "
        "Each scorer's column is its score; the total is the sum of scores times weights."
    )
    scorers = [f"{score.name} x{score.weight:g}" for score in explanation.picked.scores]
    places = {None: "", 1: "picked"}
    yield table(
        ("", "endpoint", "destination", "pending", *scorers, "total"),
        [
            (
                places.get(each.place, f"fallback {(each.place or 0) - 1}"),
                each.endpoint.id,
                each.endpoint.destination,
                each.pending,
                *(score.score for score in each.scores),
                each.total,
            )
            for each in explanation.candidates
        ],
        first=True,
    )
    if decision.candidates > len(explanation.candidates):
        yield note(f"{decision.candidates - len(explanation.candidates)} more had lower scores.")
    if explanation.rejected:
        yield heading("Not considered")
        yield table(
            ("endpoint", "destination", "reason"),
            [(item.endpoint.id, item.endpoint.destination, item.reason) for item in explanation.rejected],
        )
    if decision.rejected > len(explanation.rejected):
        yield note(f"{decision.rejected - len(explanation.rejected)} more were not considered.")


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Cell]]:
    """Give nested values as pairs of a dotted name and a text."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        elif isinstance(value, list):
            yield f"{path}{name}", ", ".join(map(str, value))
        else:
            yield f"{path}{name}", str(value)


def _time(at: float) -> str:
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
