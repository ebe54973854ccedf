"""A certificate chain with its private key: read from a directory and checked, or made for this process."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import attrs

from inferencepool.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = ["CHAIN_FILE", "KEY_FILE", "Certificate", "make_self_signed", "read_certificate", "utc"]

#: The two files of a certificate directory; a Kubernetes secret of type ``kubernetes.io/tls`` has these keys.
CHAIN_FILE = "tls.crt"
KEY_FILE = "tls.key"

# Longer than any process runs. Clients that check dates at all may have clocks that are behind.
_VALID_FOR = timedelta(days=3650)
_CLOCK_SKEW = timedelta(hours=1)
_HOST_NAME = re.compile(r"(?:\*\.)?[A-Za-z0-9_](?:[-.A-Za-z0-9_]{0,251}[A-Za-z0-9_])?")


@attrs.frozen(kw_only=True)
class Certificate:
    """
    A certificate chain and the private key that belongs to it.

    Attributes:
        chain: Certificates as PEM, the server's own first.
        key: The private key as PEM, without a password. Not in the representation.
        not_before: The server's certificate is valid from here.
        not_after: The server's certificate is valid until here.
    """

    chain: bytes
    key: bytes = attrs.field(repr=False)
    not_before: datetime
    not_after: datetime

    def find_problem(self, now: datetime) -> str | None:
        """Tell why clients that check dates refuse the certificate at *now*; None if they do not."""
        if now > self.not_after:
            return f"the certificate expired at {self.not_after:%Y-%m-%dT%H:%M:%SZ}"
        if now < self.not_before:
            return f"the certificate is not valid before {self.not_before:%Y-%m-%dT%H:%M:%SZ}"
        return None


def read_certificate(directory: Path) -> Certificate:
    """
    Read the files ``tls.crt`` and ``tls.key`` of *directory*.

    Raises:
        ConfigurationError: A file cannot be read, is not PEM, or the two do not belong together; names the file.
        MissingExtraError: The package ``cryptography`` is not installed.
    """
    x509_ = _import_x509()
    chain_file, key_file = directory / CHAIN_FILE, directory / KEY_FILE
    chain, key = _read(chain_file), _read(key_file)
    try:
        own: x509.Certificate = x509_.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        message = f"{chain_file}: no certificates in PEM: {_first_line(error)}"
        raise ConfigurationError(message) from None
    if _public_part(own, chain_file) != _public_part(_parse_key(key, key_file), key_file):
        message = f"{key_file}: not the private key of the first certificate in {chain_file}"
        raise ConfigurationError(message)
    return Certificate(chain=chain, key=key, not_before=own.not_valid_before_utc, not_after=own.not_valid_after_utc)


def make_self_signed(names: Iterable[str], now: datetime) -> Certificate:
    """
    Make an EC P-256 key and a certificate of it that it signs itself, valid for ten years.

    Args:
        names: Host names and IP addresses the certificate is for, beside ``localhost`` and the loopback addresses.
        now: The present time, with a time zone.

    Raises:
        ConfigurationError: A name can stand in no certificate.
        MissingExtraError: The package ``cryptography`` is not installed.
    """
    x509_ = _import_x509()
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 - an extra

    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key()
    subject = x509_.Name([x509_.NameAttribute(x509_.NameOID.COMMON_NAME, "inferencepool")])
    not_before, not_after = now - _CLOCK_SKEW, now + _VALID_FOR
    key_id = x509_.SubjectKeyIdentifier.from_public_key(public)
    builder = (
        x509_.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(public)
        .serial_number(x509_.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509_.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509_.ExtendedKeyUsage([x509_.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(x509_.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .add_extension(_alternative_names(x509_, names), critical=False)
    )
    return Certificate(
        chain=builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
        key=private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        not_before=not_before,
        not_after=not_after,
    )


def utc(seconds: float) -> datetime:
    """Give the moment *seconds* after 1970."""
    return datetime.fromtimestamp(seconds, UTC)


def _import_x509() -> ModuleType:
    try:
        from cryptography import x509  # noqa: PLC0415 - an extra
    except ImportError:
        message = 'TLS needs the package cryptography: pip install "inferencepool[epp]"'
        raise MissingExtraError(message) from None
    return x509


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror or error}"
        raise ConfigurationError(message) from None


def _parse_key(key: bytes, file: Path) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - an extra

    try:
        return load_pem_private_key(key, password=None)
    except TypeError:
        message = f"{file}: the private key has a password; only keys without one are allowed"
    except (ValueError, UnsupportedAlgorithm) as error:
        message = f"{file}: no private key in PEM: {_first_line(error)}"
    raise ConfigurationError(message) from None


def _public_part(owner: x509.Certificate | PrivateKeyTypes, file: Path) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415 - an extra

    try:
        return owner.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        message = f"{file}: the public key cannot be used: {_first_line(error)}"
        raise ConfigurationError(message) from None


def _alternative_names(x509_: ModuleType, names: Iterable[str]) -> x509.SubjectAlternativeName:
    entries = []
    for name in dict.fromkeys(("localhost", "127.0.0.1", "::1", *names)):
        try:
            entries.append(x509_.IPAddress(ip_address(name)))
        except ValueError:
            entries.append(_host_name(x509_, name))
    alternative: x509.SubjectAlternativeName = x509_.SubjectAlternativeName(entries)
    return alternative


def _host_name(x509_: ModuleType, name: str) -> x509.DNSName:
    if _HOST_NAME.fullmatch(name) is None:
        message = f"self-signed certificate: name {name!r} is neither a host name in ASCII nor an IP address"
        raise ConfigurationError(message)
    host_name: x509.DNSName = x509_.DNSName(name)
    return host_name


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:200]
