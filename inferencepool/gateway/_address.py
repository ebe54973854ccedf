"""Where something listens: a host and a port."""

from __future__ import annotations

import re
from typing import Any

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.model import canonical_address, join_host_port

__all__ = ["HostPort"]

_MAX_PORT = 65535
_MAX_NAME = 253
_LABEL = re.compile(r"[A-Za-z0-9_]([-A-Za-z0-9_]{0,61}[A-Za-z0-9_])?", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_SPLIT = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[^:]*)")


def _is_name(host: str) -> bool:
    labels = host.removesuffix(".").split(".")
    # A last label of digits makes it a mistyped IPv4 address, as in RFC 3696 section 2.
    return len(host) <= _MAX_NAME and all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdecimal()


def _spell(host: Any) -> Any:
    return (canonical_address(host) or host) if isinstance(host, str) else host


@attrs.frozen
class HostPort:
    """
    A host and a port.

    Attributes:
        host: An IP address, IPv6 without brackets, or a DNS name.
        port: 0 to 65535; 0 lets the system choose, where something listens.

    Raises:
        ConfigurationError: The host is neither, or the port is out of range.
    """

    host: str = attrs.field(converter=_spell)
    port: int

    def __attrs_post_init__(self) -> None:
        host: object = self.host
        if not isinstance(host, str) or not (canonical_address(host) or _is_name(host)):
            message = f"host: {self.host!r} is neither an IP address nor a DNS name"
            raise ConfigurationError(message)
        if type(self.port) is not int or not 0 <= self.port <= _MAX_PORT:
            message = f"port: {self.port!r} is not in 0 to {_MAX_PORT}"
            raise ConfigurationError(message)

    @classmethod
    def parse(cls, text: str) -> HostPort:
        """
        Read ``host:port``, IPv6 in brackets.

        Raises:
            ConfigurationError: *text* has another form; the message shows it.
        """
        match = _SPLIT.fullmatch(text)
        if match is None or not _PORT.fullmatch(match["port"]):
            message = f"{text!r} is not HOST:PORT (an IPv6 address needs brackets)"
            raise ConfigurationError(message)
        if match["v6"] is not None and (":" not in match["v6"] or canonical_address(match["v6"]) is None):
            message = f"{text!r}: {match['v6']!r} is no IPv6 address"
            raise ConfigurationError(message)
        try:
            return cls(match["v6"] or match["host"], int(match["port"]))
        except ConfigurationError as error:
            message = f"{text!r}: {error}"
            raise ConfigurationError(message) from None

    @property
    def is_ip(self) -> bool:
        """Tell whether the host is an IP address."""
        return canonical_address(self.host) is not None

    def __str__(self) -> str:
        return join_host_port(self.host, self.port)
