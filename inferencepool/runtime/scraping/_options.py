"""How model servers are scraped."""

from __future__ import annotations

import re
import ssl

import attrs

from inferencepool._checks import (
    checked_choice,
    checked_number,
    checked_port,
    checked_whole_number,
    optional,
    refusal,
)
from inferencepool.adapters.exposition import MAX_PAGE_SIZE, Engines
from inferencepool.errors import ConfigurationError

__all__ = ["ScrapingOptions", "ScrapingTls"]

_OWNER = "scraping"
_LEAST_PAGE_SIZE = 1024
# What a request line may hold: visible ASCII, save for what would begin a fragment.
_PATH = re.compile(r"/[!-\"$-~]*")

_seconds = checked_number(_OWNER, above=True, unit="seconds")


@attrs.frozen(kw_only=True)
class ScrapingTls:
    """
    How connections to model servers are secured where the scheme is ``https``.

    Attributes:
        verify: Whether the server's certificate is verified. Off by default, as in the reference: pods rarely have
            certificates for their addresses.
        ca_path: File with the certificates of authorities to trust, as PEM; None for those of the system.
        cert_path: File with the client's certificate chain, as PEM; None to show none.
        key_path: File with the key of that certificate, as PEM.
        server_name: The name that the certificate must be for; None for the address of the endpoint.

    Raises:
        ConfigurationError: Options that are of no use without others.
    """

    verify: bool = False
    ca_path: str | None = None
    cert_path: str | None = None
    key_path: str | None = None
    server_name: str | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("ca_path", "server_name"):
            if getattr(self, name) is not None and not self.verify:
                reason = "it is of no use without verify"
                raise ConfigurationError.of(_OWNER, f"tls.{name}", reason, getattr(self, name))
        if (self.cert_path is None) != (self.key_path is None):
            reason = "a certificate and its key_path are needed together"
            raise ConfigurationError.of(_OWNER, "tls.cert_path", reason, self.cert_path)

    def context(self) -> ssl.SSLContext:
        """
        Make a context for connections.

        Raises:
            ConfigurationError: A file cannot be read, or holds no certificate or key.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.check_hostname = self.verify
        context.verify_mode = ssl.CERT_REQUIRED if self.verify else ssl.CERT_NONE
        try:
            if self.ca_path is not None:
                context.load_verify_locations(self.ca_path)
            elif self.verify:
                context.load_default_certs()
        except OSError as error:
            what = f"ca_path: {self.ca_path}"
            raise _unusable(what, error) from None
        try:
            if self.cert_path is not None:
                context.load_cert_chain(self.cert_path, self.key_path, password=_no_password)
        except OSError as error:
            what = f"cert_path: {self.cert_path} with {self.key_path}"
            raise _unusable(what, error) from None
        return context


def _no_password() -> str:
    # Without this OpenSSL would ask at the terminal.
    return ""


def _unusable(what: str, error: OSError) -> ConfigurationError:
    reason = error.reason if isinstance(error, ssl.SSLError) and error.reason else error.strerror or error
    return ConfigurationError(f"scraping: tls.{what} cannot be used: {reason}")


@attrs.frozen(kw_only=True)
class ScrapingOptions:
    """
    How model servers are scraped. The defaults are the reference picker's where it has the option.

    Attributes:
        interval: Seconds from the start of a scrape to the next of the same endpoint.
        idle_interval: Adaptive intervals: seconds up to which the interval of an endpoint grows while nothing is sent
            to it; None to keep it as it is. See `Rhythm`.
        timeout: Seconds that a scrape may take, the connection included.
        overdue: Seconds after which an endpoint that has not answered counts as lost (`EndpointRegistry.lose`) until it
            does, if its last page took less than half of that; infinite for never.
        scheme: ``http`` or ``https``.
        path: Path of the page; None for the engine's, which is ``/metrics`` where it has no other.
        port: Port of the page; None for the engine's, which is that of the endpoint where it has no other.
        max_page_size: Most bytes of a page, before and after it is decompressed.
        most_per_second: Most scrapes that begin in a second. Where there are so many endpoints that *interval* would
            need more, it grows for all of them.
        most_cost: Seconds of work that one page may take, from the first byte of its response. A page that takes longer
            is given up.
        most_share: Share of the time that the pages of one endpoint may take, as an average over some seconds. An
            endpoint whose pages take more is scraped less often.
        gzip: Whether servers are asked to compress pages. It saves four fifths of the bytes, and costs both sides time.
        tls: How connections are secured with ``https``.
        engines: Which engine a pod runs, and where it keeps its metrics.

    Raises:
        ConfigurationError: A value is out of range; the message names the option.
    """

    interval: float = attrs.field(default=0.05, validator=_seconds)
    idle_interval: float | None = attrs.field(default=None, validator=optional(_seconds))
    timeout: float = attrs.field(default=1.0, validator=_seconds)
    overdue: float = attrs.field(
        default=0.3, validator=checked_number(_OWNER, above=True, unit="seconds", infinite=True)
    )
    scheme: str = attrs.field(default="http", validator=checked_choice(_OWNER, "http", "https"))
    path: str | None = None
    port: int | None = attrs.field(default=None, validator=optional(checked_port(_OWNER)))
    max_page_size: int = attrs.field(
        default=1024 * 1024,
        validator=checked_whole_number(_OWNER, _LEAST_PAGE_SIZE, MAX_PAGE_SIZE, unit="bytes"),
    )
    most_per_second: float = attrs.field(default=4000.0, validator=checked_number(_OWNER, above=True, infinite=True))
    most_cost: float = attrs.field(default=0.5, validator=_seconds)
    most_share: float = attrs.field(default=0.1, validator=checked_number(_OWNER, 0, 1, above=True))
    gzip: bool = False
    tls: ScrapingTls = attrs.field(factory=ScrapingTls)
    engines: Engines = attrs.field(factory=Engines)

    def __attrs_post_init__(self) -> None:
        paths = {f"engine {engine.name}: path": engine.path for engine in self.engines.own}
        for name, path in {"path": self.path, **paths}.items():
            if path is not None and not _PATH.fullmatch(path):
                raise refusal(_OWNER, name, path, "is not a path that begins with / and has no blanks")
        if self.idle_interval is not None and self.idle_interval < self.interval:
            raise refusal(_OWNER, "idle_interval", self.idle_interval, f"is not interval, {self.interval}, or more")
        if self.scheme != "https" and self.tls != ScrapingTls():
            raise ConfigurationError.of(_OWNER, "tls", "it is of no use with the scheme http", self.tls)
