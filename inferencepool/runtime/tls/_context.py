"""SSL contexts of servers that speak HTTP/2."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from inferencepool.errors import ConfigurationError
from inferencepool.runtime.tls._certificate import CHAIN_FILE, Certificate, make_self_signed, read_certificate, utc

__all__ = ["check_version", "make_context", "server_context"]

# RFC 9113, appendix A, forbids all others in TLS 1.2. Those of TLS 1.3 are all allowed and not affected by this.
_CIPHERS_OF_TLS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def server_context(
    certificate_directory: str | os.PathLike[str] | None = None,
    *,
    minimum_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
    names: Iterable[str] = (),
    on_problem: Callable[[str], None] | None = None,
    clock: Callable[[], float] = time.time,
) -> ssl.SSLContext:
    """
    Make the TLS context of a gRPC server: HTTP/2 only (ALPN ``h2``), clients without certificates.

    A certificate outside its dates is used all the same, and *on_problem* is told: most gateways do not check the
    certificate of an endpoint picker, so it may still serve, and a server that does not start never will.

    Args:
        certificate_directory: Holds ``tls.crt`` (a chain, the server's certificate first) and ``tls.key``, both PEM;
            `CertificateReloader` follows changes. With None a key and a self-signed certificate are made, valid for
            ten years, and kept in memory only.
        minimum_version: TLS 1.2 or 1.3.
        names: Host names and IP addresses a self-signed certificate is for, beside ``localhost``, ``127.0.0.1`` and
            ``::1``. Not used with a directory.
        on_problem: Called with one sentence when the certificate is outside its dates.
        clock: Tells the time, in seconds since 1970.

    Raises:
        ConfigurationError: A file cannot be used, the files do not belong together, or an argument is not allowed; the
            message names it.
        MissingExtraError: The package ``cryptography`` is not installed.
    """
    check_version(minimum_version)
    now = utc(clock())
    if certificate_directory is None:
        certificate = make_self_signed(names, now)
    else:
        certificate = read_certificate(Path(certificate_directory))
        problem = certificate.find_problem(now)
        if problem is not None and on_problem is not None:
            on_problem(f"{Path(certificate_directory) / CHAIN_FILE}: {problem}")
    return make_context(certificate, minimum_version)


def check_version(minimum_version: ssl.TLSVersion) -> ssl.TLSVersion:
    """
    Give *minimum_version* back.

    Raises:
        ConfigurationError: It is neither TLS 1.2 nor 1.3.
    """
    if minimum_version not in _VERSIONS:
        message = f"TLS: minimum_version: {minimum_version!r} is not allowed: TLS 1.2 or TLS 1.3"
        raise ConfigurationError(message)
    return minimum_version


def make_context(certificate: Certificate, minimum_version: ssl.TLSVersion) -> ssl.SSLContext:
    """
    Make a context that shows *certificate*.

    Raises:
        ConfigurationError: OpenSSL refuses the certificate or its key, for example because the key is too short.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = minimum_version
    context.set_ciphers(_CIPHERS_OF_TLS_1_2)
    # RFC 9113, 9.2.1: no renegotiation. Compression is off by default.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["h2"])
    with ExitStack() as stack:
        chain_file = stack.enter_context(_private_file(certificate.chain))
        key_file = stack.enter_context(_private_file(certificate.key))
        try:
            context.load_cert_chain(chain_file, key_file)
        except ssl.SSLError as error:
            message = f"TLS: OpenSSL refuses the certificate: {error.reason or error}"
            raise ConfigurationError(message) from None
    return context


def _private_file(data: bytes) -> AbstractContextManager[str]:
    """Show *data* as a file to nobody but this process: the ssl module loads keys from files only."""
    # Containers often have no place to write to; memory is better anyway for a key.
    return _in_memory(data) if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir() else _on_disk(data)


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o600)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


@contextmanager
def _on_disk(data: bytes) -> Iterator[str]:
    # The directory is open to its owner only, and goes with its file at once.
    with TemporaryDirectory(prefix="inferencepool-") as directory:
        path = Path(directory, "certificate")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        yield str(path)
