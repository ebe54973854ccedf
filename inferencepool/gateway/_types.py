"""The spelling of Envoy's values: extensions, addresses, durations, metadata keys."""

from __future__ import annotations

from typing import Any

from inferencepool.gateway._address import HostPort

__all__ = ["duration", "extension", "message", "metadata_key", "socket_address"]


def message(kind: str, /, **fields: Any) -> dict[str, Any]:
    """Make a message of the type ``envoy.<kind>`` for a field that takes any type."""
    return {"@type": f"type.googleapis.com/envoy.{kind}", **fields}


def extension(name: str, kind: str, /, **fields: Any) -> dict[str, Any]:
    """Make an extension of the given name, configured by a message of the type ``envoy.extensions.<kind>``."""
    return {"name": f"envoy.{name}", "typed_config": message(f"extensions.{kind}", **fields)}


def duration(seconds: float) -> str:
    """Spell a time as JSON spells a Duration, to the millisecond."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


def socket_address(address: HostPort, **fields: Any) -> dict[str, Any]:
    """Spell an address."""
    return {"socket_address": {"address": address.host, "port_value": address.port, **fields}}


def metadata_key(namespace: str, name: str) -> dict[str, Any]:
    """Spell the place of a value in dynamic metadata."""
    return {"key": namespace, "path": [{"key": name}]}
