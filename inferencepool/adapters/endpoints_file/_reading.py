"""
From the document of an endpoints file to endpoints.

The format is that of the reference picker's ``file-discovery``. It differs in three places, each more lenient: an
address may be IPv6, a port may be a number as well as a string, and an entry that is wrong does not stop the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import Endpoint, canonical_address

__all__ = ["MAX_FILE_SIZE", "EndpointsFile", "read_endpoints"]

#: The longest file of endpoints that may be read, in bytes; the reference picker has the same limit.
MAX_FILE_SIZE = 1024 * 1024

_LIST = "endpoints"
_FIELDS = ("name", "namespace", "address", "port", "labels")
_METRICS_HOST = "metricsHost"
_NAMESPACE = "default"
_NAME_RULE = "1 to 253 printable characters without space and /"
_NAME = re.compile(r"[^\s/]{1,253}")
_PORT_RULE = '"1" to "65535"'
# Bounded, because a string may hold more digits than int() accepts.
_PORT = re.compile(r"0*([1-9][0-9]{0,4})", re.ASCII)
_MAX_PORT = 65535
_SHOWN = 80


@attrs.frozen
class EndpointsFile:
    """
    What a file of endpoints says.

    Attributes:
        endpoints: The endpoints of all entries that are right, each id once, without rank.
        issues: What is wrong, in the order of the document. An entry with a wrong value is left out; one with a field
            that is not known, and the last one of those with the same id, are in.
    """

    endpoints: tuple[Endpoint, ...] = ()
    issues: tuple[Issue, ...] = ()


def read_endpoints(document: object) -> EndpointsFile:
    """
    Read the endpoints of a *document*: a mapping whose ``endpoints`` is a list of entries.

    An entry has a ``name``, a ``namespace`` (``default`` where it is absent or empty), an ``address`` (a literal IP
    address), a ``port`` (a string of digits, or a number; 1 to 65535) and ``labels``. The endpoint's id is
    ``<namespace>/<name>``.

    Args:
        document: What the file holds, as YAML or JSON values.

    Raises:
        InvalidDocumentError: The document is no mapping, or its ``endpoints`` is no list. Nothing can be read then.
    """
    if not isinstance(document, Mapping):
        raise InvalidDocumentError([Issue("", f"{_shown(document)} is not a mapping", document)])
    if _LIST not in document:
        raise InvalidDocumentError([Issue(_LIST, "is required: a list of endpoints")])
    entries = document[_LIST]
    if not isinstance(entries, list):
        raise InvalidDocumentError([Issue(_LIST, f"{_shown(entries)} is not a list of endpoints", entries)])
    issues = [
        Issue(str(name), f"is no field of an endpoints file and is not used; allowed: {_LIST}", document[name])
        for name in document
        if name != _LIST
    ]
    found: dict[str, Endpoint] = {}
    places: dict[str, str] = {}
    for index, entry in enumerate(entries):
        path = f"{_LIST}[{index}]"
        wrong = list(_find_wrong(entry, path))
        issues += wrong
        if wrong:
            continue
        issues += _find_unknown(entry, path)
        endpoint = _read(entry)
        if endpoint.id in found:
            reason = f"{_shown(endpoint.id)} is that of {places[endpoint.id]} as well, which is left out for it"
            issues.append(Issue(f"{path}.name", reason, entry["name"]))
            del found[endpoint.id]
        found[endpoint.id] = endpoint
        places[endpoint.id] = path
    return EndpointsFile(tuple(found.values()), tuple(issues))


def _read(entry: Mapping[str, Any]) -> Endpoint:
    """Make the endpoint of an *entry* with which nothing is wrong."""
    address, port = canonical_address(entry["address"]), _to_port(entry["port"])
    assert address is not None  # noqa: S101 - both were found right
    assert port is not None  # noqa: S101 - as above
    return Endpoint(
        namespace=entry.get("namespace") or _NAMESPACE,
        pod_name=entry["name"],
        address=address,
        port=port,
        rank=None,
        labels=dict(entry.get("labels") or {}),
    )


def _find_wrong(entry: object, path: str) -> Iterator[Issue]:
    """Find what makes an entry useless."""
    if not isinstance(entry, Mapping):
        yield Issue(path, f"{_shown(entry)} is not a mapping", entry)
        return
    name, namespace = entry.get("name"), entry.get("namespace")
    if name is None or not _is_name(name):
        yield Issue(f"{path}.name", _reason(name, _NAME_RULE), name)
    if namespace is not None and not (namespace == "" or _is_name(namespace)):
        yield Issue(f"{path}.namespace", _reason(namespace, f"{_NAME_RULE}, or none for {_NAMESPACE}"), namespace)
    address, port, labels = entry.get("address"), entry.get("port"), entry.get("labels")
    if not isinstance(address, str) or canonical_address(address) is None:
        rule = "an IPv4 or IPv6 address without brackets, zone or port; names are not looked up"
        yield Issue(f"{path}.address", _reason(address, rule), address)
    if _to_port(port) is None:
        yield Issue(f"{path}.port", _reason(port, _PORT_RULE), port)
    if labels is not None and not _are_labels(labels):
        yield Issue(f"{path}.labels", _reason(labels, "a mapping of strings to strings"), labels)


def _find_unknown(entry: Mapping[Any, Any], path: str) -> Iterator[Issue]:
    for field, value in entry.items():
        if field == _METRICS_HOST:
            reason = "is not used: this picker reads metrics, where it does, from address and port"
            yield Issue(f"{path}.{field}", reason, value)
        elif field not in _FIELDS:
            allowed = ", ".join(_FIELDS)
            yield Issue(f"{path}.{field}", f"is no field of an endpoint and is not used; allowed: {allowed}", value)


def _reason(value: object, rule: str) -> str:
    return f"is required: {rule}" if value is None else f"{_shown(value)} is not allowed; allowed: {rule}"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None and value.isprintable()


def _are_labels(value: object) -> bool:
    return isinstance(value, Mapping) and all(isinstance(part, str) for item in value.items() for part in item)


def _to_port(value: object) -> int | None:
    if isinstance(value, str):
        match = _PORT.fullmatch(value)
        value = int(match[1]) if match else None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_PORT:
        return value
    return None


def _shown(value: object) -> str:
    """Show a value in a message, shortened where it is long."""
    if isinstance(value, Mapping | list):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    try:
        text = repr(value)
    except ValueError:
        # Python does not spell integers of thousands of digits.
        text = "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:60]}... ({len(text)} characters)"
