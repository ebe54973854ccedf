"""What can be chosen about the configuration of an Envoy in front of a pool."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from math import isfinite
from typing import Any, TypeVar

import attrs

from inferencepool.errors import ConfigurationError
from inferencepool.gateway._address import HostPort
from inferencepool.model._protocol import CONTROL_HEADERS

__all__ = ["BodyMode", "ClusterKind", "EnvoyOptions", "Fallback", "HealthCheck"]

_E = TypeVar("_E", bound=StrEnum)
_Validator = Callable[[Any, Any, Any], None]

_MAX_PORT = 65535
# What Envoy's fields for counts and sizes hold.
_MAX_WHOLE = 2**32 - 1
# A year: more than any exchange lasts, and far less than a Duration holds.
_MAX_SECONDS = 366 * 86_400
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_PROTOCOL = re.compile(rf"{_TOKEN.pattern}(?:/{_TOKEN.pattern})?", re.ASCII)


class ClusterKind(StrEnum):
    """
    How Envoy finds the endpoint that was picked.

    ``override-host`` knows the pool's endpoints and goes to the picked one among them: it walks a list of fallbacks,
    refuses foreign addresses, can fail open, and tells the picker which endpoint served. ``original-dst`` knows none
    and dials whatever single address the picker names.
    """

    OVERRIDE_HOST = "override-host"
    ORIGINAL_DST = "original-dst"


class BodyMode(StrEnum):
    """
    How the picker gets the request's body.

    ``auto`` is ``full-duplex`` for a pool that fails closed and ``buffered`` for one that fails open, since Envoy does
    not fail open once a body went out in full duplex. ``buffered`` holds the body until the pick, keeps its
    content-length, and refuses one above the buffer limit with 413. ``none`` is for pickers that never look at bodies:
    by load, by header, by label.
    """

    AUTO = "auto"
    NONE = "none"
    BUFFERED = "buffered"
    FULL_DUPLEX = "full-duplex"


class Fallback(StrEnum):
    """
    Where a request goes that has no usable pick: the picker named none, or only endpoints that Envoy does not have.

    ``auto`` is ``least-request`` for a pool that fails open, and ``none`` (status 503) for one that fails closed.
    """

    AUTO = "auto"
    NONE = "none"
    LEAST_REQUEST = "least-request"
    ROUND_ROBIN = "round-robin"


class HealthCheck(StrEnum):
    """
    What the picker's gRPC health counts for.

    ``prefer``: replicas that are not serving are left out while another one is serving. ``require``: also the last one
    is left out, so that the pool's failure mode applies at once. ``off``: nobody asks.
    """

    OFF = "off"
    PREFER = "prefer"
    REQUIRE = "require"


def _refuse(field: str, value: object, rule: str) -> ConfigurationError:
    return ConfigurationError(f"{field}: {value!r} {rule}")


def _one_of(kind: type[_E], field: str, value: str) -> _E:
    try:
        return kind(value)
    except ValueError:
        raise _refuse(field, value, f"is not one of {', '.join(kind)}") from None


def _to_cluster(value: str) -> ClusterKind:
    return _one_of(ClusterKind, "cluster", value)


def _to_health_check(value: str) -> HealthCheck:
    return _one_of(HealthCheck, "epp_health_check", value)


def _to_body_mode(value: str) -> BodyMode:
    return _one_of(BodyMode, "body_mode", value)


def _to_fallback(value: str) -> Fallback:
    return _one_of(Fallback, "fallback", value)


def _whole(least: int, most: int = _MAX_WHOLE) -> _Validator:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if type(value) is not int or not least <= value <= most:
            raise _refuse(attribute.name, value, f"is not a whole number from {least} to {most}")

    return check


def _seconds(_: Any, attribute: Any, value: Any) -> None:
    # Envoy counts in milliseconds.
    good = type(value) in {int, float} and isfinite(value) and 0.001 <= value <= _MAX_SECONDS  # noqa: PLR2004 - the millisecond
    if not good:
        raise _refuse(attribute.name, value, f"is not a number of seconds from 0.001 to {_MAX_SECONDS}")


def _flag(_: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise _refuse(attribute.name, value, "is neither true nor false")


def _text(_: Any, attribute: Any, value: Any) -> None:
    if not (isinstance(value, str) and value and value.isprintable()):
        raise _refuse(attribute.name, value, "is not a text of one or more printable characters")


def _address(least_port: int) -> _Validator:
    def check(_: Any, attribute: Any, value: Any) -> None:
        if not isinstance(value, HostPort) or value.port < least_port:
            shown = str(value) if isinstance(value, HostPort) else value
            raise _refuse(attribute.name, shown, f"is not a HostPort with a port from {least_port} to {_MAX_PORT}")

    return check


def _listening(_: Any, attribute: Any, value: Any) -> None:
    _address(0)(_, attribute, value)
    if not value.is_ip:
        raise _refuse(attribute.name, str(value), "must be an IP address: Envoy listens on no name")


def _to_headers(names: Iterable[str]) -> Any:
    return tuple(name.lower() if isinstance(name, str) else name for name in _items(names))


def _items(names: Any) -> Iterable[Any]:
    return names if isinstance(names, Iterable) and not isinstance(names, str) else (names,)


def _header_names(_: Any, attribute: Any, value: Any) -> None:
    for name in value:
        if not (isinstance(name, str) and _TOKEN.fullmatch(name)):
            raise _refuse(attribute.name, name, "is not the name of a header")
        if name == "host":
            raise _refuse(attribute.name, name, "cannot be removed: HTTP needs it")


def _protocols(_: Any, attribute: Any, value: Any) -> None:
    for name in value:
        if not (isinstance(name, str) and _PROTOCOL.fullmatch(name)):
            raise _refuse(attribute.name, name, "is not the name of a protocol")
        if name == "connect":
            raise _refuse(attribute.name, name, "would let clients open connections to anywhere")


def _control_headers(_: Any, attribute: Any, value: Any) -> None:
    for name in value:
        if name not in CONTROL_HEADERS:
            raise _refuse(attribute.name, name, f"is not removed anyhow; removed are {', '.join(CONTROL_HEADERS)}")


_optional = attrs.validators.optional


@attrs.frozen(kw_only=True)
class EnvoyOptions:
    """
    What can be chosen about an Envoy in front of a pool; each default is what a pool of language models needs.

    Times are in seconds, sizes in bytes.

    Attributes:
        cluster: How Envoy finds the picked endpoint.
        listen: Where Envoy listens. With ``[::]`` it takes IPv4 too.
        admin: Where its administration interface listens; None for no such interface, since whoever reaches it can
            stop the proxy.
        epp_address: Where the picker is; None for the Service that the pool names, ``<name>.<namespace>.svc``.
        epp_tls: Whether the picker speaks TLS, which pickers do unless told otherwise.
        epp_ca_file: Certificates that vouch for the picker, a file on Envoy's machine. None accepts any certificate,
            as the self-signed ones that pickers make for themselves demand: it protects against listening, not against
            someone who answers in the picker's place.
        epp_server_name: The name that the picker's certificate must carry; None for the host of its address. It counts
            with *epp_ca_file* only.
        epp_health_check: What the picker's gRPC health counts for.
        epp_health_port: Where its health is asked, without TLS; None for the port and the TLS of ext_proc.
        epp_connect_timeout: How long connecting to the picker may take. A picker whose machine is gone costs every
            request this much.
        epp_keepalive: How often the connection to the picker is probed, and how long the answer may take. A picker that
            hangs as a whole is given up after twice this time, with every exchange that waits for it.
        epp_timeout: How long the picker may take for an answer, where Envoy counts: not for bodies in full duplex. Must
            be above the time that requests wait in the picker's queue.
        body_mode: How the picker gets the request's body.
        buffer_limit: The largest body that is held: for the picker where the mode is buffered, and for a retry in any
            mode; a larger one is then refused with 413, or not retried. Each connection may use this much memory.
        usage: Whether the picker also gets the response's body, to count tokens. It costs a message per chunk.
        eds_file: A file on Envoy's machine, as `render_endpoints` gives it, that is read now and each time it is
            replaced by a rename; None to write the endpoints into the configuration.
        endpoint_connect_timeout: How long connecting to an endpoint may take before the next fallback.
        endpoint_idle_timeout: How long an unused connection to an endpoint is kept. Less than the 5 seconds after which
            vLLM closes one, so that no request meets a connection that is being closed.
        fallback: Where a request without a usable pick goes.
        retries: How often a request is sent again that no endpoint has begun to answer; None for 3 where the cluster is
            override-host, so that a list of fallbacks is walked, and none elsewhere.
        retry_resets: Whether a request is sent again, too, that an endpoint had when its connection broke, before any
            answer. The next one computes what the first one may have computed already, and a request that kills
            servers kills several. None for what the pool's failure mode says: where it fails open, serving comes first.
        outlier_detection: Whether Envoy itself, too, ejects endpoints that fail. It needs more failures for that than
            the picker does by default, and waits longer: it is for times without a picker.
        upgrades: Protocols that a client may upgrade a connection to, in lower case, such as ``websocket``. The picker
            decides about such a request by its headers. Empty for none.
        idle_timeout: How long an exchange may pass without a byte in either direction. It bounds the wait for a picker
            that hangs in full duplex, and the time to the first byte of a response; without streaming that is the whole
            generation.
        max_duration: How long an exchange may take in all; None for no limit.
        max_requests: How many exchanges may run at the same time, and connections: Envoy's own limit of 1024 is low for
            responses that take minutes. Each holds a stream to the picker as long as it runs.
        strip_headers: More request headers to remove where they come in, such as the objective in front of clients
            that must not choose it.
        keep_headers: Which of `CONTROL_HEADERS` not to remove, where the client is a proxy that sets them.

    Raises:
        ConfigurationError: A value is not allowed; the message begins with the attribute's name.
    """

    cluster: ClusterKind = attrs.field(default=ClusterKind.OVERRIDE_HOST, converter=_to_cluster)
    listen: HostPort = attrs.field(default=HostPort("0.0.0.0", 8080), validator=_listening)  # noqa: S104 - a proxy listens for all
    admin: HostPort | None = attrs.field(default=None, validator=_optional(_listening))
    epp_address: HostPort | None = attrs.field(default=None, validator=_optional(_address(1)))
    epp_tls: bool = attrs.field(default=True, validator=_flag)
    epp_ca_file: str | None = attrs.field(default=None, validator=_optional(_text))
    epp_server_name: str | None = attrs.field(default=None, validator=_optional(_text))
    epp_health_check: HealthCheck = attrs.field(default=HealthCheck.PREFER, converter=_to_health_check)
    epp_health_port: int | None = attrs.field(default=None, validator=_optional(_whole(1, _MAX_PORT)))
    epp_connect_timeout: float = attrs.field(default=2.0, validator=_seconds)
    epp_keepalive: float = attrs.field(default=10.0, validator=_seconds)
    epp_timeout: float = attrs.field(default=10.0, validator=_seconds)
    body_mode: BodyMode = attrs.field(default=BodyMode.AUTO, converter=_to_body_mode)
    buffer_limit: int = attrs.field(default=32 * 1024 * 1024, validator=_whole(1))
    usage: bool = attrs.field(default=False, validator=_flag)
    eds_file: str | None = attrs.field(default=None, validator=_optional(_text))
    endpoint_connect_timeout: float = attrs.field(default=2.0, validator=_seconds)
    endpoint_idle_timeout: float = attrs.field(default=4.0, validator=_seconds)
    fallback: Fallback = attrs.field(default=Fallback.AUTO, converter=_to_fallback)
    retries: int | None = attrs.field(default=None, validator=_optional(_whole(0, 100)))
    retry_resets: bool | None = attrs.field(default=None, validator=_optional(_flag))
    outlier_detection: bool = attrs.field(default=False, validator=_flag)
    upgrades: tuple[str, ...] = attrs.field(default=("websocket",), converter=_to_headers, validator=_protocols)
    idle_timeout: float = attrs.field(default=300.0, validator=_seconds)
    max_duration: float | None = attrs.field(default=None, validator=_optional(_seconds))
    max_requests: int = attrs.field(default=40_000, validator=_whole(1))
    strip_headers: tuple[str, ...] = attrs.field(default=(), converter=_to_headers, validator=_header_names)
    keep_headers: tuple[str, ...] = attrs.field(default=(), converter=_to_headers, validator=_control_headers)

    def __attrs_post_init__(self) -> None:
        unused = (
            ("epp_ca_file", self.epp_ca_file, not self.epp_tls, "has no meaning while epp_tls is false"),
            ("epp_server_name", self.epp_server_name, self.epp_ca_file is None, "is not checked without epp_ca_file"),
            (
                "epp_health_port",
                self.epp_health_port,
                self.epp_health_check is HealthCheck.OFF,
                "is not asked: epp_health_check is off",
            ),
        )
        for field, value, useless, reason in unused:
            if value is not None and useless:
                raise _refuse(field, value, reason)
