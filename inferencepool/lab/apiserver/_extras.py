"""What has to be right before a server can start: its arguments, and the packages of the extra ``testing``."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address

from inferencepool.errors import ConfigurationError, MissingExtraError
from inferencepool.runtime.tls._certificate import Certificate, make_self_signed
from inferencepool.runtime.tls._context import make_context

__all__ = ["certificate_for", "check_choice", "check_extra", "check_least", "checked_host", "context_of"]

# The names by which pods find the API server.
_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")


def checked_host(host: str) -> str:
    """Give *host*, which must be an IP address."""
    try:
        return str(ip_address(host))
    except ValueError:
        message = f"API server: host: {host!r} is not an IP address"
        raise ConfigurationError(message) from None


def check_choice(what: str, value: object, allowed: Iterable[str]) -> None:
    """Raise `ConfigurationError` where *value* is not one of *allowed*."""
    listed = list(allowed)
    if value not in listed:
        message = f"API server: {what}: {value!r} is not one of {', '.join(listed)}"
        raise ConfigurationError(message)


def check_least(what: str, value: float, least: float) -> None:
    """Raise `ConfigurationError` where *value* is less than *least*."""
    if not value >= least:
        message = f"API server: {what}: {value!r} is less than {least}"
        raise ConfigurationError(message)


def check_extra() -> None:
    """Raise `MissingExtraError` where h11 is not installed."""
    try:
        import h11  # noqa: F401, PLC0415 - an extra
    except ImportError:
        message = 'the API server for tests needs h11: pip install "inferencepool[testing]"'
        raise MissingExtraError(message) from None


def certificate_for(host: str) -> Certificate:
    """Make a certificate; raises `MissingExtraError` where cryptography is not installed."""
    try:
        return make_self_signed((*_NAMES, host), datetime.now(UTC))
    except MissingExtraError:
        message = 'an API server with TLS needs the package cryptography: pip install "inferencepool[testing]"'
        raise MissingExtraError(message) from None


def context_of(certificate: Certificate) -> ssl.SSLContext:
    """Make a context for a server that shows *certificate* and offers HTTP/1.1."""
    context = make_context(certificate, ssl.TLSVersion.TLSv1_2)
    context.set_alpn_protocols(["http/1.1"])
    return context
