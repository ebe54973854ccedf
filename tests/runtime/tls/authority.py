"""Certificates of an authority that tests trust, and directories that hold them."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


@attrs.frozen
class Pair:
    """A certificate and its key, both PEM."""

    chain: bytes
    key: bytes


def pem(key: Key, password: bytes | None = None) -> bytes:
    """Write a private key."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def new_key(kind: str = "ec", bits: int = 2048) -> Key:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, bits)


class Authority:
    """Signs certificates for 127.0.0.1 and localhost."""

    def __init__(self) -> None:
        self._key = new_key()
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority of the tests")])
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False
        ) | dict.fromkeys(("encipher_only", "decipher_only"), False)
        certificate = (
            self._begin(self._name, self._key, datetime.now(UTC) - DAY, datetime.now(UTC) + DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=True, key_cert_sign=True, crl_sign=True, **usage), critical=True
            )
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, name: str, key: Key | None = None, *, begin: timedelta = -DAY, end: timedelta = DAY) -> Pair:
        """Sign a certificate whose common name is *name*, valid from *begin* to *end*, both counted from now."""
        key = key or new_key()
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        now = datetime.now(UTC)
        certificate = (
            self._begin(subject, key, now + begin, now + end)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Pair(certificate.public_bytes(serialization.Encoding.PEM), pem(key))

    def _begin(self, subject: x509.Name, key: Key, begin: datetime, end: datetime) -> x509.CertificateBuilder:
        own = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own), critical=False)
        )


def write(directory: Path, pair: Pair) -> Path:
    """Write the two files into *directory*, which is made if need be."""
    directory.mkdir(exist_ok=True)
    (directory / "tls.crt").write_bytes(pair.chain)
    (directory / "tls.key").write_bytes(pair.key)
    return directory


def mount(directory: Path, pair: Pair, version: str) -> Path:
    """Write a version of a secret as a kubelet does: files are links through ``..data``, which is renamed over."""
    directory.mkdir(exist_ok=True)
    write(directory / f"..{version}", pair)
    fresh = directory / "..data_tmp"
    fresh.symlink_to(f"..{version}")
    fresh.replace(directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not os.path.lexists(directory / name):
            (directory / name).symlink_to(f"..data/{name}")
    return directory
