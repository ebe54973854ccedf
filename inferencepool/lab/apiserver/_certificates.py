"""A certificate authority for one server, as a cluster has its own. Needs cryptography, so it is imported late."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import final

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["ServerCertificate", "make_certificate"]

_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")
_ADDRESSES = ("127.0.0.1", "::1")
_VALID_FOR = timedelta(days=365)
_CLOCK_SKEW = timedelta(hours=1)
_NO_USAGE = dict.fromkeys(
    (
        "content_commitment",
        "crl_sign",
        "data_encipherment",
        "decipher_only",
        "digital_signature",
        "encipher_only",
        "key_agreement",
        "key_cert_sign",
        "key_encipherment",
    ),
    False,
)


@final
@attrs.frozen
class ServerCertificate:
    """
    A server's certificate.

    Attributes:
        authority: The certificate of the authority that signed it, as PEM: what clients must trust.
        chain: The server's certificate, as PEM.
        key: Its private key, as PEM. Not in the representation.
    """

    authority: bytes
    chain: bytes
    key: bytes = attrs.field(repr=False)

    def context(self) -> ssl.SSLContext:
        """Make a context for a server that offers HTTP/1.1."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(["http/1.1"])
        with TemporaryDirectory() as directory:
            # Python reads certificates from files only; the directory is for this user alone.
            chain, key = Path(directory, "tls.crt"), Path(directory, "tls.key")
            chain.write_bytes(self.chain)
            key.write_bytes(self.key)
            context.load_cert_chain(chain, key)
        return context


def make_certificate(host: str) -> ServerCertificate:
    """Make an authority, and a certificate that it signs for *host*, the loopback and the names of the API server."""
    authority_key, own_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = _name("kubernetes")
    authority = (
        _builder(issuer, issuer, authority_key, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**_NO_USAGE | {"key_cert_sign": True, "crl_sign": True}), critical=True)
    )
    addresses = [x509.IPAddress(ip_address(address)) for address in dict.fromkeys((*_ADDRESSES, host))]
    own = (
        _builder(_name("kube-apiserver"), issuer, own_key, authority_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**_NO_USAGE | {"digital_signature": True}), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([*map(x509.DNSName, _NAMES), *addresses]), critical=False)
    )
    return ServerCertificate(
        authority=authority.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM),
        chain=own.sign(authority_key, hashes.SHA256()).public_bytes(Encoding.PEM),
        key=own_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, signer: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now, public = datetime.now(UTC), key.public_key()
    authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(authority_id, critical=False)
    )
