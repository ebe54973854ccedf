"""Where a server listens, how it is secured and how it ends."""

from __future__ import annotations

import attrs

from inferencepool._checks import checked_number, checked_port
from inferencepool.errors import ConfigurationError

__all__ = ["ServerOptions"]

_OWNER = "server"
_seconds = checked_number(_OWNER, unit="seconds")


@attrs.frozen(kw_only=True)
class ServerOptions:
    """
    Where a server listens, how it is secured and how it ends.

    The defaults are the reference picker's, save for *drain_timeout*, which is 30 seconds there.

    Attributes:
        address: Name or address to listen on; empty for all addresses of this machine.
        grpc_port: Port of ext_proc; 0 for any that is free.
        grpc_health_port: Port of the health service, which is never secured; 0 for any that is free.
        secure_serving: Whether ext_proc is served with TLS.
        cert_path: Directory with ``tls.crt`` and ``tls.key``; None for a certificate that signs itself.
        enable_cert_reload: Whether changes of these files are followed.
        health_checking: Whether the port of ext_proc serves health as well.
        drain_timeout: Seconds that requests are served after the first signal, at most. The default is what clients of
            OpenAI and Anthropic wait for an answer. The server ends as soon as no stream is open.
        drain_notice: Seconds after the first signal after which clients are asked to open streams elsewhere. Those that
            are open then are waited for, later ones no longer than these. Gateways need the time before to notice that
            the server is not ready; who comes back sooner would come back to this server.
        drain_quiet: Seconds without any open stream after which the end is not waited for any longer: gateways need a
            moment to notice that the server is not ready, and go on sending until they do.
        poll_interval: Seconds between two looks at the files that are followed.

    Raises:
        ConfigurationError: A value is out of range, or two exclude each other; the message names the option.
    """

    address: str = ""
    grpc_port: int = attrs.field(default=9002, validator=checked_port(_OWNER, 0))
    grpc_health_port: int = attrs.field(default=9003, validator=checked_port(_OWNER, 0))
    secure_serving: bool = True
    cert_path: str | None = None
    enable_cert_reload: bool = False
    health_checking: bool = False
    drain_timeout: float = attrs.field(default=600.0, validator=_seconds)
    drain_notice: float = attrs.field(default=5.0, validator=_seconds)
    drain_quiet: float = attrs.field(default=1.0, validator=_seconds)
    poll_interval: float = attrs.field(default=1.0, validator=checked_number(_OWNER, above=True, unit="seconds"))

    def __attrs_post_init__(self) -> None:
        if self.cert_path is not None and not self.secure_serving:
            reason = "a certificate is of no use without secure_serving"
            raise ConfigurationError.of(_OWNER, "cert_path", reason, self.cert_path)
        if self.enable_cert_reload and self.cert_path is None:
            reason = "there is no cert_path whose files could be followed"
            raise ConfigurationError.of(_OWNER, "enable_cert_reload", reason, self.enable_cert_reload)
        if self.grpc_port == self.grpc_health_port != 0:
            reason = f"{self.grpc_port} is grpc_port as well"
            raise ConfigurationError.of(_OWNER, "grpc_health_port", reason, self.grpc_health_port)
