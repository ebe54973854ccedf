"""What is compared: the parts of the study, with their workloads, profiles and fleets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from inferencepool.lab.simulation import EndpointsJoin, ProfileFactory, SimulationOptions, parse_profile

__all__ = ["ENDPOINTS", "PARTS", "Part"]

ENDPOINTS = 8
_LOAD = "2*queue-scorer + 2*kv-cache-utilization-scorer"
_DEFAULT = f"{_LOAD} + 3*prefix-cache-scorer"
_STRONG = f"{_LOAD} + 30*prefix-cache-scorer"
_JOINED_AT = 30.0
_BURST = "bursts(burst_requests=600)"


@attrs.frozen(kw_only=True)
class Part:
    """
    One question.

    Attributes:
        title: What is asked.
        workloads: Each with the factor on its usual rate.
        profiles: What is compared, by name.
        options: The fleet; by default the usual one.
        rivals: Names of profiles that the others are compared with, seed by seed.
        seconds: How long requests come.
        joined_at: When endpoints join, if any do.
    """

    title: str
    workloads: Mapping[str, float]
    profiles: Mapping[str, ProfileFactory]
    options: Mapping[str, SimulationOptions] = attrs.field(factory=dict)
    rivals: Sequence[str] = ()
    seconds: float = 60.0
    joined_at: float | None = None

    def options_of(self, profile: str) -> SimulationOptions:
        """Give the fleet that a profile is simulated on."""
        return self.options.get(profile, SimulationOptions(endpoints=ENDPOINTS))


def _spans() -> dict[str, ProfileFactory]:
    """Give the default profile by how many pending requests take a whole point of `queue-scorer`."""
    rest = _DEFAULT.removeprefix("2*queue-scorer")
    return {str(span): parse_profile(f"2*queue-scorer(pendingSpan={span}){rest}") for span in (1, 2, 4, 8, 16)}


def _parsed(**texts: str) -> dict[str, ProfileFactory]:
    return {name.replace("_", " "): parse_profile(text) for name, text in texts.items()}


def _bounds(text: str) -> dict[str, ProfileFactory]:
    """Give the profile *text*, whose last scorer may have a bound, without one and with several."""
    bounds = {f"factor {factor:g}": f"(loadFactor={factor})" for factor in (1.1, 1.25, 1.5, 2, 3)}
    slacks = {f"factor 1.5, slack {slack}": f"(loadFactor=1.5, loadSlack={slack})" for slack in (1, 32)}
    return {name: parse_profile(text + bound) for name, bound in ({"none": ""} | bounds | slacks).items()}


def _warm_ups() -> dict[str, ProfileFactory]:
    made = {"none": parse_profile(_DEFAULT)}
    for share, seconds in ((0.25, 10), (0.25, 30), (0.5, 30), (1, 30), (1, 60), (2, 30)):
        text = f"warm-up-filter(share={share}, durationSeconds={seconds}) + {_DEFAULT}"
        made[f"share {share:g}, {seconds} s"] = parse_profile(text)
    return made


_GROWING = SimulationOptions(endpoints=ENDPOINTS, changes=[EndpointsJoin(_JOINED_AT, count=4)])

PARTS: Mapping[str, Part] = {
    "affinity": Part(
        title="Does it pay to look at prefixes?",
        workloads=dict.fromkeys(
            ("shared-prompts", "zipf-prompts", "chats", "long-documents", "bursts", "lora-mix"), 1.0
        ),
        profiles=_parsed(
            default=_DEFAULT,
            bounded_affinity=f"{_DEFAULT}(loadFactor=1.5)",
            load_only=_LOAD,
            least_request="least-request-picker",
            round_robin="round-robin-picker",
            random="random-picker",
        ),
        rivals=("least request", "random"),
    ),
    "burst": Part(
        title="What does a burst of one prompt do?",
        workloads={_BURST: 1.0, "bursts(burst_requests=600, groups=0)": 1.0},
        profiles=_parsed(
            default=_DEFAULT,
            bounded_affinity=f"{_DEFAULT}(loadFactor=1.5)",
            strong_affinity=_STRONG,
            strong_and_bounded=f"{_STRONG}(loadFactor=1.5)",
            affinity_filter=f"prefix-cache-affinity-filter + {_LOAD}",
            least_request="least-request-picker",
            random="random-picker",
        ),
        rivals=("least request", "random"),
    ),
    "reservation": Part(
        title="How many pending requests should outweigh an empty queue?",
        workloads={"zipf-prompts": 1.0, "chats": 1.0, "long-documents": 1.0, _BURST: 1.0},
        profiles=_spans() | {"no reservation": parse_profile(_DEFAULT)},
        options={"no reservation": SimulationOptions(endpoints=ENDPOINTS, reserve=False)},
    ),
    "bound": Part(
        title="When should affinity yield to load, with the default weights?",
        workloads={"zipf-prompts": 1.0, "chats": 1.0, "long-documents": 1.0, _BURST: 1.0},
        profiles=_bounds(_DEFAULT),
    ),
    "strong-bound": Part(
        title="When should affinity yield to load, where it has ten times the weight?",
        workloads={"zipf-prompts": 1.0, "chats": 1.0, "long-documents": 1.0, "lora-mix": 1.0, _BURST: 1.0},
        profiles=_bounds(_STRONG),
    ),
    "warm-up": Part(
        title="How much should endpoints get that have just joined?",
        workloads={"zipf-prompts": 1.2, "chats": 1.4, "long-documents": 1.5},
        profiles=_warm_ups(),
        options=dict.fromkeys(_warm_ups(), _GROWING),
        seconds=90.0,
        joined_at=_JOINED_AT,
    ),
}
"""The parts of the study by name."""
