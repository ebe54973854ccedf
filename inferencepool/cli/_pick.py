"""The command ``pick``: where would a request go?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from inferencepool.cli._endpoint_metrics import apply_metrics
from inferencepool.cli._flags import add_strict
from inferencepool.cli._input_file import STANDARD_INPUT
from inferencepool.cli._manifests import PodDocument, read_pods_file, read_pool_file
from inferencepool.cli._metrics_file import read_metrics_file
from inferencepool.cli._output import one_line, report
from inferencepool.cli._request_file import read_request_file
from inferencepool.errors import NoEndpointsError
from inferencepool.model import InferencePool, InferenceRequest, Pod
from inferencepool.picker import EndpointPicker
from inferencepool.registry import EndpointRegistry
from inferencepool.scheduling import PickResult
from inferencepool.selection import active_ports, membership_issue

if TYPE_CHECKING:
    from argparse import _SubParsersAction

__all__ = ["add_command"]

_FILES = ("pool", "pods", "metrics", "request")


def add_command(commands: _SubParsersAction[argparse.ArgumentParser], text: str) -> None:
    """Add the command to the parser; the *text* says what it does."""
    parser = commands.add_parser("pick", help=text, description=f"{text.capitalize()}, from files.")
    add = parser.add_argument
    add("--pool", metavar="FILE", required=True, help="the InferencePool: YAML or JSON; - for standard input")
    add("--pods", metavar="FILE", required=True, help="its Pods, as `kubectl get pods -o yaml` prints them")
    add("--metrics", metavar="FILE", help="metrics by endpoint id, ip:port or pod name, or one saved /metrics page")
    add("--request", metavar="FILE", help="body of an OpenAI request, or model, prompt and headers")
    add("--config", metavar="FILE", help="an EndpointPickerConfig; not supported yet")
    add("--subset", metavar="LIST", help="pick among these only: ip:port or ip, separated by commas")
    add("--count", metavar="N", type=_positive, default=1, help="number of requests that run together (1)")
    add("--seed", metavar="N", type=int, help="makes ties fall the same way each time")
    add("--explain", action="store_true", help="tell what every scorer gave every candidate")
    add("--output", choices=("text", "json"), default="text", help="text, or one JSON object per line (text)")
    add_strict(parser)
    parser.set_defaults(run=_run, usage_error=parser.error)


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        message = f"{text!r} is not a whole number of 1 or more"
        raise argparse.ArgumentTypeError(message)
    return number


def _run(arguments: argparse.Namespace) -> int:
    if arguments.config is not None:
        arguments.usage_error("argument --config: EndpointPickerConfig files are not supported yet; leave it out")
    if [getattr(arguments, name) for name in _FILES].count(STANDARD_INPUT) > 1:
        arguments.usage_error("standard input (-) can be read only once")
    pool = read_pool_file(arguments.pool, strict=arguments.strict)
    documents = read_pods_file(arguments.pods, strict=arguments.strict)
    metrics = read_metrics_file(arguments.metrics) if arguments.metrics is not None else None
    request = read_request_file(arguments.request) if arguments.request is not None else InferenceRequest()
    registry = EndpointRegistry(pool, publish_interval=0)
    pods = [document.pod for document in documents]
    registry.resync(pods)
    _warn_of_contradictions(pool, documents)
    if metrics is not None:
        for note in apply_metrics(registry, pods, metrics):
            report(note)
    picker = EndpointPicker(registry, rng=Random(arguments.seed))
    outsiders = [(document, reason) for document in documents if (reason := _why_not(pool, document.pod))]
    write = _write_json if arguments.output == "json" else _write_text
    try:
        for number in range(arguments.count):
            # Not released, so that the picks of one call spread as those of requests that run together.
            result = picker.pick(request, arguments.subset)
            if number and arguments.explain and write is _write_text:
                print()
            write(result, outsiders, explain=arguments.explain)
    except NoEndpointsError as error:
        report("\n".join([str(error), *_reasons(documents, outsiders)]))
        return 1
    return 0


def _why_not(pool: InferencePool, pod: Pod) -> str:
    """Say why *pod* has no endpoints; empty if it has some."""
    issue = membership_issue(pool, pod)
    if issue is None and not active_ports(pool, pod):
        return "its active-ports annotation names no target port"
    return issue or ""


def _warn_of_contradictions(pool: InferencePool, documents: Sequence[PodDocument]) -> None:
    """Report pods that say they serve, and to which nothing can be sent."""
    for document in documents:
        pod = document.pod
        serves = pod.ready and pod.deletion_timestamp is None and pod.namespace == pool.namespace
        if serves and pool.selector.matches(pod.labels) and (issue := membership_issue(pool, pod)):
            report(f"{document.label}: status.podIP: Ready pod {pod.namespace}/{pod.name} {issue}, so it is left out")


def _reasons(documents: Sequence[PodDocument], outsiders: Sequence[tuple[PodDocument, str]]) -> Iterator[str]:
    if not documents:
        yield "the file of pods holds no pod"
    elif outsiders:
        yield f"{len(outsiders)} of {len(documents)} pods have no endpoints in the pool:"
        for document, reason in outsiders:
            yield f"{document.label}: pod {document.pod.namespace}/{document.pod.name}: {reason}"


def _write_text(result: PickResult, outsiders: Sequence[tuple[PodDocument, str]], *, explain: bool) -> None:
    if not explain:
        print(f"{result.destination} {result.endpoint.id}")
        return
    for line in str(result.explain()).split("\n"):
        print(one_line(line))
    if outsiders:
        print("\npods that are no members of the pool:")
        names = [f"{document.pod.namespace}/{document.pod.name}" for document, _ in outsiders]
        width = max(map(len, names))
        for name, (_, reason) in zip(names, outsiders, strict=True):
            print(one_line(f"  {name:<{width}}  {reason}"))


def _write_json(result: PickResult, outsiders: Sequence[tuple[PodDocument, str]], *, explain: bool) -> None:
    explanation = result.explain()
    scores: dict[str, float] = {}
    for candidate in explanation.candidates:
        # Where pods share an address, the one that is picked comes first.
        scores.setdefault(candidate.endpoint.destination, round(candidate.total, 6) + 0.0)
    line: dict[str, Any] = {
        "destination": result.destination,
        "endpoint": result.endpoint.id,
        "fallbacks": [endpoint.destination for endpoint in result.fallbacks],
        "scores": scores,
    }
    if explain:
        pods = [{"pod": f"{item.pod.namespace}/{item.pod.name}", "reason": reason} for item, reason in outsiders]
        line["explanation"] = explanation.to_dict() | {"not_members": pods}
    print(json.dumps(line))
