"""What has to be right before a server can start: its arguments, and the packages of the extra ``testing``."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import TYPE_CHECKING

from inferencepool.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from inferencepool.lab.apiserver._certificates import ServerCertificate

__all__ = ["certificate_for", "check_choice", "check_extra", "check_least", "checked_host"]


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


def certificate_for(host: str) -> ServerCertificate:
    """Make a certificate; raises `MissingExtraError` where cryptography is not installed."""
    try:
        from inferencepool.lab.apiserver._certificates import make_certificate  # noqa: PLC0415 - an extra
    except ImportError:
        message = 'an API server with TLS needs the package cryptography: pip install "inferencepool[testing]"'
        raise MissingExtraError(message) from None
    return make_certificate(host)
