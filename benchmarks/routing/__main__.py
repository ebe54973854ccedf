"""Play workloads through policies, and print one table for each: ``python -m benchmarks.routing [NAME...]``."""

from __future__ import annotations

import argparse
import sys
from time import monotonic

from benchmarks.routing.cases import CASES, POLICIES, Policy
from benchmarks.routing.runs import play
from benchmarks.routing.tables import table
from inferencepool.errors import ConfigurationError
from inferencepool.lab.simulation import parse_profile


def main() -> int:
    """Play what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.routing")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"{', '.join(CASES)}; all unless given")
    parser.add_argument("--seeds", type=int, default=7, help="how many seeds to compare over (7)")
    parser.add_argument("--policy", action="append", help="a policy by name, or NAME=PROFILE; repeatable")
    parser.add_argument("--ours", help="the policy that the others are compared with")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in CASES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(CASES)}")
    try:
        chosen = {name: policy for each in arguments.policy or () for name, policy in [_policy(each)]}
    except ConfigurationError as error:
        parser.error(str(error))
    began = monotonic()
    for name, outcomes in play(arguments.names or list(CASES), arguments.seeds, chosen):
        ours = arguments.ours or (CASES[name].ours if not chosen else next(iter(chosen)))
        print(f"\n## {name}: {CASES[name].title}\n", *table(outcomes, ours), sep="\n", flush=True)
    print(f"\n{monotonic() - began:.0f} s", file=sys.stderr)
    return 0


def _policy(text: str) -> tuple[str, Policy]:
    """Read ``NAME`` or ``NAME=PROFILE``; a name that ends with ``!`` picks without reservation."""
    name, _, profile = text.partition("=")
    if not profile:
        if name not in POLICIES:
            message = f"policy {name!r}: there are {', '.join(POLICIES)}"
            raise ConfigurationError(message)
        return name, POLICIES[name]
    return name, Policy(parse_profile(profile), reserve=not name.endswith("!"))


if __name__ == "__main__":
    sys.exit(main())
