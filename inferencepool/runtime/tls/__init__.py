"""TLS of the servers: a context from files or self-signed, and certificates that are exchanged while it is in use."""

from inferencepool.runtime.tls._context import server_context
from inferencepool.runtime.tls._reloader import CertificateReloader

__all__ = ["CertificateReloader", "server_context"]
