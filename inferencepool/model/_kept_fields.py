"""The fields of metadata that routing does not need: read by the API server's rules, and kept as they are."""

from __future__ import annotations

import re
from datetime import date

from inferencepool.model._schema import DNS_SUBDOMAIN, Reader, check_label_key, check_text, quoted

__all__ = ["read_kept_fields", "read_server_time"]

_GREATEST = 2**63 - 1
# As Go reads it: the letters T and Z are capitals, an hour may have one digit, and offsets end at 24 hours, 60 minutes.
_TIME = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})T([01]?[0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.,][0-9]+)?"
    r"(Z|[-+]([01][0-9]|2[0-4]):([0-5][0-9]|60))"
)
# Finalizers that garbage collection sets; core types may have no others without a domain before them.
_ORPHAN, _FOREGROUND = "orphan", "foregroundDeletion"
_PLAIN_FINALIZERS = ("kubernetes", _ORPHAN, _FOREGROUND)


def read_server_time(reader: Reader, name: str) -> str | None:
    """Read a time of metadata, which the API server decodes; what is wrong is noted in *reader*."""
    text = reader.text(name)
    if text is not None and not _is_time(text):
        reader.wrong(name, f"{quoted(text)} is not a time of RFC 3339, such as 2026-01-31T12:00:00Z", text)
    return text


def _is_time(text: str) -> bool:
    found = _TIME.fullmatch(text)
    if found is None:
        return False
    try:
        date.fromisoformat(found["day"])
    except ValueError:
        return False
    return True


def read_kept_fields(metadata: Reader, *, core: bool) -> None:
    """
    Check what nobody here needs, as the API server does; what is wrong is noted in *metadata*.

    Args:
        metadata: The metadata.
        core: Whether it is that of a core type, whose finalizers must have a domain unless they are Kubernetes' own.
    """
    metadata.text("resourceVersion")
    metadata.text("selfLink")
    metadata.whole("generation", low=0, high=_GREATEST)
    metadata.whole("deletionGracePeriodSeconds", low=-_GREATEST - 1, high=_GREATEST)
    metadata.items("managedFields")
    prefix = metadata.text("generateName")
    # What is appended to the prefix makes a dash at its end harmless.
    masked = f"{prefix[:-2]}a" if prefix and len(prefix) > 1 and prefix.endswith("-") else prefix
    if masked and (wrong := check_text(masked, most=253, pattern=DNS_SUBDOMAIN)):
        metadata.wrong("generateName", wrong if masked == prefix else f"{quoted(prefix)}: {wrong}", prefix)
    _read_finalizers(metadata, core=core)
    _read_owners(metadata)


def _read_finalizers(metadata: Reader, *, core: bool) -> None:
    given = metadata.texts("finalizers")
    for index, finalizer in given:
        wrong = check_label_key(finalizer)
        if wrong is None and core and "/" not in finalizer and finalizer not in _PLAIN_FINALIZERS:
            wrong = f"{quoted(finalizer)} has no domain and is not one of {', '.join(_PLAIN_FINALIZERS)}"
        if wrong:
            metadata.wrong(f"finalizers[{index}]", wrong, finalizer)
    if {_ORPHAN, _FOREGROUND} <= {finalizer for _, finalizer in given}:
        metadata.wrong("finalizers", f"{_ORPHAN} and {_FOREGROUND} exclude each other", metadata.get("finalizers"))


def _read_owners(metadata: Reader) -> None:
    controller = ""
    for owner in metadata.items("ownerReferences") or []:
        version = owner.text("apiVersion", "", required=True) or ""
        kind = owner.text("kind", "", required=True, least=1)
        name = owner.text("name", "", required=True, least=1)
        owner.text("uid", required=True, least=1)
        owner.flag("blockOwnerDeletion")
        if isinstance(owner.get("apiVersion"), str) and (version.count("/") > 1 or not version.rpartition("/")[2]):
            owner.wrong("apiVersion", f"{quoted(version)} has no version", version)
        if (version, kind) == ("v1", "Event"):
            owner.wrong("", "an Event of v1 may own nothing", owner.document)
        if owner.flag("controller"):
            if controller:
                owner.wrong("controller", f"is true for {controller} as well, allowed is one", True)
            controller = f"{kind}/{name}"
        owner.done()
