"""Certificates for the tests of TLS."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inferencepool.runtime.tls._certificate import Certificate, make_self_signed


@pytest.fixture(name="certificate", scope="package")
def _certificate() -> Certificate:
    """Make a certificate for localhost that signs itself."""
    return make_self_signed((), datetime.now(UTC))


@pytest.fixture(name="server_tls")
def _server_tls(certificate: Certificate, tmp_path: Path) -> ssl.SSLContext:
    """Give the server's side of TLS."""
    path = tmp_path / "server.pem"
    path.write_bytes(certificate.key + certificate.chain)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture(name="client_tls")
def _client_tls(certificate: Certificate) -> ssl.SSLContext:
    """Give the client's side of TLS, without a protocol (ALPN)."""
    return ssl.create_default_context(cadata=certificate.chain.decode())
